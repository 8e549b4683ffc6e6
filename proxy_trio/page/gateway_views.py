"""The page of gateways and mints: what each sells, at what price, and whether it may be paid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import trio
from starlette.responses import Response

from otrta_core import ModelPrice, OtrtaError
from otrta_core.amounts import format_sat
from proxy_trio.gateway_info import GatewayInfo
from proxy_trio.gateways import GatewayEntry
from proxy_trio.page.visit import Visit

ASKED_S: Final = 4.0
"""How long the page waits for gateways that do not answer."""
_MOST_MODELS: Final = 300
_BESIDES: Final = (
    ("request_msat", "a call"),
    ("image_msat", "an image"),
    ("second_msat", "a second"),
    ("character_msat_per_million", "a million characters"),
)


@dataclass(frozen=True, slots=True)
class Offered:
    """What a gateway sells: its models with their prices, None where it tells a price with each call.

    Attributes:
        models: by name.
        failure: why that is not known, or None.
    """

    models: Mapping[str, ModelPrice | None]
    failure: str | None = None


async def gateways(visit: Visit) -> Response:
    """Show gateways and models side by side, and the mints."""
    offered = await _ask_all(visit, await visit.client.gateways.entries())
    names = sorted({name for each in offered.values() for name in each.models})
    shown = names[:_MOST_MODELS]
    return visit.show(
        "gateways.html",
        here="gateways",
        gateways=await visit.act("gateways"),
        offered=offered,
        models=shown,
        left_out=len(names) - len(shown),
        besides=besides,
        cheapest={name: cheapest(name, offered) for name in shown},
        mints=await visit.act("mints"),
    )


async def add_gateway(visit: Visit) -> Response:
    """Add a gateway that answers."""
    added = await visit.act("gateways_add", url=visit.form.get("url", ""))
    return visit.go("gateways", f"Added {added['url']}.")


async def remove_gateway(visit: Visit) -> Response:
    """Take a gateway off the list."""
    gone = await visit.act("gateways_remove", url=visit.form.get("url", ""))
    return visit.go("gateways", f"Removed {gone['url']}. What is open there is settled all the same.")


async def add_mint(visit: Visit) -> Response:
    """Add a mint that answers."""
    added = await visit.act("mints_add", url=visit.form.get("url", ""))
    return visit.go("gateways", f"Added {added['url']}.")


async def remove_mint(visit: Visit) -> Response:
    """Take a mint off the list that has nothing of ours."""
    gone = await visit.act("mints_remove", url=visit.form.get("url", ""))
    return visit.go("gateways", f"Removed {gone['url']}.")


def cheapest(name: str, offered: Mapping[str, Offered]) -> str | None:
    """Return the gateway where a model costs least by the token, in and out; None where all are alike."""
    sums: dict[str, int] = {}
    for url, each in offered.items():
        if (price := each.models.get(name)) is not None:
            sums[url] = price.input_msat_per_mtok + price.output_msat_per_mtok
    return min(sums, key=lambda url: sums[url]) if len(set(sums.values())) > 1 else None


def besides(price: ModelPrice) -> Sequence[str]:
    """Return what a model costs beside its tokens, in words."""
    given = [(getattr(price, name), unit) for name, unit in _BESIDES]
    return [f"{format_sat(msat)} {unit}" for msat, unit in given if msat]


async def _ask_all(visit: Visit, entries: Sequence[GatewayEntry]) -> dict[str, Offered]:
    """Ask the gateways at once, or take what they said lately."""
    found = {entry.url: Offered({}, "It did not answer.") for entry in entries}

    async def ask(url: str) -> None:
        try:
            found[url] = Offered(_models(await visit.client.gateways.info(url)))
        except OtrtaError as error:
            found[url] = Offered({}, error.message)

    with trio.move_on_after(ASKED_S):
        async with trio.open_nursery() as nursery:
            for entry in entries:
                nursery.start_soon(ask, entry.url)
    return found


def _models(info: GatewayInfo) -> dict[str, ModelPrice | None]:
    return {**dict.fromkeys(info.listed or ()), **info.models}
