"""Which denominations a swap makes, so that amounts can be paid out of proofs at hand without another one."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from sqlalchemy import Connection

from otrta_core import Proof, input_fee, split_amount, split_for_change
from otrta_wallet import at_hand

MOST_BROKEN: Final = 8
MOST_MADE: Final = 100
"""How many proofs a swap that restocks takes and makes of what is short: it must not hold up the mint."""


def split_for_stock(
    amount: int, at_hand: Mapping[int, int], wanted: Mapping[int, int], denominations: Iterable[int]
) -> list[int]:
    """Split an amount so that the denominations that are wanted and short are made first, the smallest first.

    The rest is split into few parts, none larger than the largest wanted one or a tenth of the amount.

    Args:
        amount: zero or more, in the unit of the keyset.
        at_hand: how many proofs of each denomination there are.
        wanted: how many there should be.
        denominations: what the keyset signs: powers of two, 1 among them.

    Returns:
        The parts in ascending order.
    """
    signable = sorted(denominations)
    parts: list[int] = []
    left = amount
    for piece in signable:
        number = min(max(0, wanted.get(piece, 0) - at_hand.get(piece, 0)), left // piece)
        parts += [piece] * number
        left -= number * piece
    largest = max(*wanted, amount // 10, 1) if wanted else signable[-1]
    return sorted(parts + split_amount(left, [piece for piece in signable if piece <= largest]))


def to_break(
    usable: Sequence[Proof], fee_ppk: Mapping[str, int], wanted: Mapping[int, int]
) -> list[Proof] | None:
    """Choose proofs that nobody wants as they are, to make of them what is short.

    Args:
        usable: the proofs at hand; only their amounts and keysets matter.
        fee_ppk: the input fee by keyset.
        wanted: how many proofs of each denomination there should be.

    Returns:
        The fewest that make what is short, or as many as a swap should take; None where nothing has fallen
        to half of what is wanted, or nothing that is short can be made.
    """
    have = Counter(proof.amount for proof in usable)
    short = {piece: number - have[piece] for piece, number in wanted.items() if have[piece] < number}
    if all(2 * have[piece] >= wanted[piece] for piece in short):
        return None
    missing = sum(piece * number for piece, number in short.items())
    spare = Counter({piece: number - wanted.get(piece, 0) for piece, number in have.items()})
    chosen: list[Proof] = []
    for proof in sorted(usable, key=lambda proof: proof.amount, reverse=True):
        if spare[proof.amount] <= 0:
            continue
        spare[proof.amount] -= 1
        if _net([proof], fee_ppk) >= missing:
            chosen = [proof]  # a smaller one may do as well
        elif _net(chosen, fee_ppk) < missing and len(chosen) < MOST_BROKEN:
            chosen.append(proof)
    return chosen if _net(chosen, fee_ppk) >= min(short) else None


def _net(proofs: Sequence[Proof], fee_ppk: Mapping[str, int]) -> int:
    return sum(proof.amount for proof in proofs) - input_fee(proofs, dict(fee_ppk))


def a_portion(wanted: Mapping[int, int], have: Mapping[int, int]) -> dict[int, int]:
    """Return of what is wanted no more than one swap should make, a like number of each denomination."""
    of_each = -(-MOST_MADE // max(1, len(wanted)))
    return {piece: min(number, have.get(piece, 0) + of_each) for piece, number in wanted.items()}


def parts_of(
    conn: Connection,
    mint: str,
    unit: str,
    denominations: Iterable[int],
    amount: int,
    wanted: Mapping[int, int] | None,
) -> list[int]:
    """Return the denominations of a swap that brings an amount.

    Args:
        conn: inside a transaction.
        mint: at which.
        unit: of the amount.
        denominations: what the keyset signs.
        amount: what comes out of the swap.
        wanted: as for ``split_for_stock``; None to make that out of which every smaller amount can be paid,
            whatever is at hand.
    """
    if not wanted:
        return split_for_change(amount, denominations)
    return split_for_stock(amount, at_hand.by_amount(conn, mint, unit), wanted, denominations)
