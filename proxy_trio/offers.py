"""Choosing where to buy: what each trusted gateway asks for a call, and which of them is best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from otrta_core import CallRequest, InvalidRequest, OtrtaError, Unit, quote_msat
from proxy_trio.errors import GatewayFailure, GatewayUnreachable
from proxy_trio.gateway_info import GatewayInfo
from proxy_trio.gateways import Gateways

_UNIT_ORDER: Final = (Unit.MSAT, Unit.SAT)

Source = tuple[str, Unit]


@dataclass(frozen=True, slots=True)
class Offer:
    """What a gateway asks for a call.

    Attributes:
        url: of the gateway.
        info: what it says of itself.
        quote_msat: the most that the call can cost there; None where it is not sold, or free.
        sources: (mint, unit) pairs that the gateway takes and the wallet uses, best first.
    """

    url: str
    info: GatewayInfo
    quote_msat: int | None
    sources: tuple[Source, ...]

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """What the best offer has least of."""
        return self.quote_msat is None, not self.sources, self.quote_msat or 0


def sources(info: GatewayInfo, mints: Sequence[str]) -> tuple[Source, ...]:
    """Return which mints and units of the wallet's a gateway takes: msat first, then the wallet's order."""
    taken = info.units_by_mint()
    return tuple(
        (url, unit) for unit in _UNIT_ORDER for url in mints if url in taken and unit.value in taken[url]
    )


async def find_offers(gateways: Gateways, mints: Sequence[str], request: CallRequest | None) -> list[Offer]:
    """Ask the trusted gateways, as far as their infos are not at hand; in the order of the list.

    Args:
        gateways: the list.
        mints: those that the wallet uses.
        request: the call; None for one that is free.

    Raises:
        GatewayFailure: none may be paid, or none answers.
        RequestNotPriceable: those who sell the model cannot put a bound on this call.
    """
    entries = await gateways.entries()
    trusted = [entry.url for entry in entries if entry.distrusted_for is None]
    if not trusted:
        raise GatewayUnreachable(
            "There is no gateway to pay. Add one: `otrta gateways add URL`."
            if not entries
            else "No gateway in the list is trusted any more: see `otrta gateways` and `otrta pending`."
        )
    offers: list[Offer] = []
    failure: OtrtaError = GatewayUnreachable("No gateway can be reached; nothing was paid.")
    for url in trusted:
        try:
            info = await gateways.info(url)
            offers.append(Offer(url, info, _quote(info, request), sources(info, mints)))
        except (GatewayFailure, InvalidRequest) as error:
            failure = error
    if not offers:
        raise failure
    return offers


def _quote(info: GatewayInfo, request: CallRequest | None) -> int | None:
    price = info.price(request) if request is not None else None
    if price is None or request is None:
        return None
    return quote_msat(price, request, default_output_tokens=info.default_output_tokens)
