"""What to move between mints so that a call can be paid, and for which fee at most. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from otrta_core import Unit
from proxy_trio.asking import Source

_MILLION: Final = 1_000_000
_SAT: Final = 1_000
ROOM_MSAT: Final = 2_000
"""Beyond what is missing: input fees, and what rounding to the units of two mints takes."""


@dataclass(frozen=True, slots=True)
class MoveRules:
    """What a user allows.

    Attributes:
        enabled: whether anything is moved without being told to.
        float_msat: how much is moved at a time, so that not each call needs a move.
        max_fee_ppm: the most that a move may cost, in millionths of what arrives.
        max_fee_msat: the most that a move may cost, however large it is.
    """

    enabled: bool = True
    float_msat: int = 100_000
    max_fee_ppm: int = 30_000
    max_fee_msat: int = 10_000

    def most_fee_msat(self, amount_msat: int) -> int:
        """Return the most that moving an amount may cost."""
        return min(self.max_fee_msat, amount_msat * self.max_fee_ppm // _MILLION)


@dataclass(frozen=True, slots=True)
class Holding:
    """What can be spent at a mint in a unit, in msat."""

    mint: str
    unit: Unit
    available_msat: int


@dataclass(frozen=True, slots=True)
class MovePlan:
    """From where to where, and how much is to arrive; a whole number of sat, as Lightning likes it."""

    source: Source
    target: Source
    amount_msat: int


def plan_move(
    holdings: Sequence[Holding], targets: Sequence[Source], needed_msat: int, rules: MoveRules
) -> MovePlan | None:
    """Return how to make a payment possible; None where it is already, or where nothing allowed helps.

    The place that is richest gives, and the target that lacks least gets, a float where there is enough for
    one and else just what is missing.

    Args:
        holdings: what the wallet has.
        targets: where the payment may come from, best first.
        needed_msat: what it takes at one of them.
        rules: what the user allows.
    """
    have = {(each.mint, each.unit): each.available_msat for each in holdings}
    if not targets or not rules.enabled or any(have.get(place, 0) >= needed_msat for place in targets):
        return None
    target = max(targets, key=lambda place: have.get(place, 0))  # of those that are alike, the first
    givers = [each for each in holdings if (each.mint, each.unit) not in targets]
    giver = max(givers, key=lambda each: each.available_msat, default=None)
    if giver is None:
        return None
    short_msat = _whole_sat(needed_msat - have.get(target, 0) + ROOM_MSAT)
    for amount_msat in (max(short_msat, _whole_sat(rules.float_msat)), short_msat):
        if giver.available_msat >= amount_msat + rules.most_fee_msat(amount_msat):
            return MovePlan((giver.mint, giver.unit), target, amount_msat)
    return None


def _whole_sat(amount_msat: int) -> int:
    return -(-amount_msat // _SAT) * _SAT
