"""What a gateway's refusal asks for, and what it asked lately. Pure: no store, no network, no clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from otrta_core import OtrtaError, Unit
from otrta_core.amounts import MAX_AMOUNT
from otrta_wallet.mint_url import normalize_mint_url
from proxy_trio.gateway_info import GatewayInfo, GatewayKind
from proxy_trio.payer import Ending, Outcome
from proxy_trio.reckoning import asked_by, json_or_none

ASK_HOLDS_S: Final = 300.0
_MOST_NAMES: Final = 200
_MOST_ASKS: Final = 8

Source = tuple[str, Unit]
Size = tuple[int, int | None]
"""Of a call: the bytes of its body, and its output limit."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be paid for a call.

    Attributes:
        amount_msat: as a face value.
        units: of the tokens that are taken, best first.
        mints: whose tokens are taken, in normal form; empty for any.
    """

    amount_msat: int
    units: tuple[Unit, ...]
    mints: frozenset[str] = frozenset()

    def sources(self, mints: Sequence[str]) -> tuple[Source, ...]:
        """Return which mints and units of the wallet's can pay this; no other mint is ever asked."""
        return tuple(
            (url, unit) for unit in self.units for url in mints if not self.mints or url in self.mints
        )


def read_ask(outcome: Outcome, info: GatewayInfo) -> Asked | None:
    """Return what a refusal asks for, where paying it can answer it.

    Transports in the request are passed over (NUT-24 pays in the header), and mints that the wallet does not
    use are only names.
    """
    if info.kind is GatewayKind.ROUTSTR:
        return _asked_by_node(outcome, info)
    asked = asked_by(outcome, any_400=info.kind is GatewayKind.NUT24)
    if asked is None or asked.amount is None or asked.unit is None:
        return None
    try:
        unit = Unit.parse(asked.unit)
    except OtrtaError:
        return None
    mints = frozenset(filter(None, map(_normal, asked.mints)))
    if asked.mints and not mints:
        return None
    return Asked(unit.to_msat(asked.amount), (unit,), mints)


def _asked_by_node(outcome: Outcome, info: GatewayInfo) -> Asked | None:
    """Read a node's 402, which has no payment request but the sum in its body."""
    if outcome.status != 402 or outcome.ending is not Ending.COMPLETE:
        return None
    body = json_or_none(outcome.answer)
    detail = body.get("detail") if isinstance(body, Mapping) else None
    amount_msat = detail.get("amount_required_msat") if isinstance(detail, Mapping) else None
    if type(amount_msat) is not int or not 0 < amount_msat <= MAX_AMOUNT:
        return None
    mints = frozenset(info.units_by_mint())
    return Asked(amount_msat, (Unit.MSAT, Unit.SAT), mints) if mints else None


def _normal(url: str) -> str | None:
    try:
        return normalize_mint_url(url)
    except OtrtaError:
        return None


@dataclass(slots=True)
class AskedPrices:
    """What gateways without published prices asked lately, so that not each call has to be refused first.

    A price is known for a call of the same size; or for any call, where calls of different sizes were asked
    the same. Since such gateways give no change, nothing else is guessed.
    """

    _asks: dict[tuple[str, str, str], list[tuple[Size, Asked, float]]] = field(default_factory=dict)

    def note(self, gateway: str, path: str, model: str, size: Size, asked: Asked, now: float) -> None:
        """Remember what was asked."""
        name = (gateway, path, model)
        kept = [old for old in self._fresh(name, now) if old[0] != size]
        self._asks.pop(name, None)
        self._asks[name] = [*kept, (size, asked, now)][-_MOST_ASKS:]
        while len(self._asks) > _MOST_NAMES:
            del self._asks[next(iter(self._asks))]

    def forget(self, gateway: str, path: str, model: str) -> None:
        """Forget what was asked: it does not hold any more."""
        self._asks.pop((gateway, path, model), None)

    def look_up(self, gateway: str, path: str, model: str, size: Size, now: float) -> Asked | None:
        """Return what is asked for a call, as far as that is known."""
        fresh = self._fresh((gateway, path, model), now)
        same = [asked for known, asked, _ in fresh if known == size]
        if same:
            return same[-1]
        flat = len({asked for _, asked, _ in fresh}) == 1 and len(fresh) > 1
        return fresh[-1][1] if flat else None

    def _fresh(self, name: tuple[str, str, str], now: float) -> list[tuple[Size, Asked, float]]:
        return [ask for ask in self._asks.get(name, []) if 0 <= now - ask[2] < ASK_HOLDS_S]
