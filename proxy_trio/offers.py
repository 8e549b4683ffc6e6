"""Choosing where to buy: what each trusted gateway asks for a call, and which of them is best."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from otrta_core import CallRequest, InvalidRequest, OtrtaError, Unit
from proxy_trio.asking import Asked, Source
from proxy_trio.errors import GatewayFailure, GatewayTimeout, GatewayUnreachable
from proxy_trio.gateway_info import GatewayInfo
from proxy_trio.gateways import Gateways

_UNIT_ORDER: Final = (Unit.MSAT, Unit.SAT)
PATIENCE_S: Final = 2.0
"""How long a call that one gateway sells waits for what the others say of themselves."""

Remembered = Callable[[str], Asked | None]
"""What a gateway that publishes no prices asked lately for such a call."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a gateway asks for a call.

    Attributes:
        url: of the gateway.
        info: what it says of itself.
        quote_msat: what it wants to be paid for the call; None where that is not known, or it is free.
        sources: (mint, unit) pairs that the gateway takes and the wallet uses, best first.
        sold: whether the call is sold there, as far as the gateway says.
        asked: what it asked for such a call lately, where it publishes no prices.
        bound_msat: the most that the call may cost; None for all that is paid.
    """

    url: str
    info: GatewayInfo
    quote_msat: int | None
    sources: tuple[Source, ...]
    sold: bool
    asked: Asked | None = None
    bound_msat: int | None = None


def sources(info: GatewayInfo, mints: Sequence[str]) -> tuple[Source, ...]:
    """Return which mints and units of the wallet's a gateway takes: msat first, then the wallet's order."""
    taken = info.units_by_mint()
    return tuple(
        (url, unit) for unit in _UNIT_ORDER for url in mints if url in taken and unit.value in taken[url]
    )


def offer_of(
    url: str, info: GatewayInfo, mints: Sequence[str], request: CallRequest | None, asked: Asked | None
) -> Offer:
    """Return what a gateway offers for a call.

    Args:
        url: of the gateway.
        info: what it says of itself.
        mints: those that the wallet uses.
        request: the call; None for one that is free.
        asked: what it asked for such a call lately.

    Raises:
        InvalidRequest: the gateway sells the model and cannot put a bound on this call.
    """
    if not info.gives_change:
        sold = request is None or info.listed is None or request.model in info.listed
        paying = asked.sources(mints) if asked is not None else ()
        if asked is None or not paying or not sold:  # what cannot be paid as it was asked is asked for anew
            return Offer(url, info, None, (), sold)
        return Offer(url, info, asked.amount_msat, paying, sold, asked)
    quote = info.quote(request) if request is not None else None
    if quote is None:
        return Offer(url, info, None, sources(info, mints), request is None)
    return Offer(url, info, quote.pay_msat, sources(info, mints), sold=True, bound_msat=quote.bound_msat)


async def find_offers(
    gateways: Gateways,
    mints: Sequence[str],
    request: CallRequest | None,
    remembered: Remembered = lambda _url: None,
) -> list[Offer]:
    """Ask the trusted gateways, as far as their infos are not at hand; in the order of the list.

    Args:
        gateways: the list.
        mints: those that the wallet uses.
        request: the call; None for one that is free.
        remembered: what gateways without prices asked lately.

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
    found: dict[str, Offer] = {}
    failures: dict[str, OtrtaError] = {}

    async def look(url: str) -> None:
        try:
            found[url] = offer_of(url, await gateways.info(url), mints, request, remembered(url))
        except (GatewayFailure, InvalidRequest) as error:
            failures[url] = error

    async with trio.open_nursery() as nursery:
        for url in trusted:
            nursery.start_soon(_look_within, look, url, gateways, found, nursery.cancel_scope)
    if not found:
        raise failures.get(trusted[-1]) or GatewayUnreachable("No gateway can be reached; nothing was paid.")
    return [found[url] for url in trusted if url in found]


async def _look_within(
    look: Callable[[str], Awaitable[None]],
    url: str,
    gateways: Gateways,
    found: Mapping[str, Offer],
    others: trio.CancelScope,
) -> None:
    """Ask one gateway; once one has an offer, the others are waited for only ``PATIENCE_S`` longer."""
    try:
        await look(url)
    except trio.Cancelled:
        if others.cancelled_caught or trio.current_time() >= others.deadline:
            gateways.note_failure(url, GatewayTimeout(f"The gateway {url} is slow to say what it is."))
        raise
    if any(offer.sold for offer in found.values()):
        others.deadline = min(others.deadline, trio.current_time() + PATIENCE_S)
