"""The page of gateways and mints: what each sells, at what price, and whether it may be paid."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import trio
from starlette.responses import Response

from otrta_core import ModelPrice, OtrtaError
from proxy_trio.gateways import GatewayEntry
from proxy_trio.page.visit import Visit

ASKED_S: Final = 4.0
"""How long the page waits for gateways that do not answer."""
_MOST_MODELS: Final = 300


async def gateways(visit: Visit) -> Response:
    """Show gateways and models side by side, and the mints."""
    entries = await visit.act("gateways")
    found = await _prices(visit, await visit.client.gateways.entries())
    models = sorted({model for prices in found.values() if not isinstance(prices, str) for model in prices})
    return visit.show(
        "gateways.html",
        here="gateways",
        gateways=entries,
        answers={url: None if not isinstance(prices, str) else prices for url, prices in found.items()},
        models=models[:_MOST_MODELS],
        left_out=max(0, len(models) - _MOST_MODELS),
        prices={url: prices for url, prices in found.items() if not isinstance(prices, str)},
        cheapest={model: _cheapest(model, found) for model in models[:_MOST_MODELS]},
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


async def _prices(visit: Visit, entries: Sequence[GatewayEntry]) -> dict[str, Mapping[str, ModelPrice] | str]:
    """Return each gateway's prices, or why they are not known."""
    found: dict[str, Mapping[str, ModelPrice] | str] = {entry.url: "It did not answer." for entry in entries}

    async def ask(url: str) -> None:
        try:
            found[url] = (await visit.client.gateways.info(url)).models
        except OtrtaError as error:
            found[url] = error.message

    with trio.move_on_after(ASKED_S):
        async with trio.open_nursery() as nursery:
            for entry in entries:
                nursery.start_soon(ask, entry.url)
    return found


def _cheapest(model: str, found: Mapping[str, Mapping[str, ModelPrice] | str]) -> str | None:
    """Return the gateway where a model costs least, input and output together; None where all are alike."""
    sellers: list[tuple[Any, str]] = [
        (prices[model].input_msat_per_mtok + prices[model].output_msat_per_mtok, url)
        for url, prices in found.items()
        if not isinstance(prices, str) and model in prices
    ]
    sums = {each for each, _ in sellers}
    return min(sellers)[1] if len(sums) > 1 else None
