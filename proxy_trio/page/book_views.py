"""Pages that show what the wallet has, what happened, and what is open."""

import re
from contextlib import suppress
from typing import Final

import trio
from starlette.responses import Response

from otrta_core import OtrtaError
from proxy_trio.page.chart import draw
from proxy_trio.page.visit import Visit

PER_PAGE: Final = 50
_MODELS_S: Final = 2.0
_HARMLESS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}")
"""Model names that mean nothing to a shell: gateways choose them, and the examples are pasted there."""
_MOST_PAGES: Final = 1_000_000


async def overview(visit: Visit) -> Response:
    """Show the balance by mint, and what came last."""
    return visit.show(
        "overview.html",
        here="overview",
        balance=await visit.act("balance"),
        mints=await visit.act("mints"),
        gateways=await visit.act("gateways"),
        pending=await visit.act("pending"),
        budgets=await visit.act("budgets"),
        approvals=await visit.act("approvals"),
        latest=(await visit.act("activity", limit=6))["entries"],
    )


async def activity(visit: Visit) -> Response:
    """Show what happened, newest first, and what calls have cost by day and model."""
    asked = visit.request.query_params.get("page", "1")
    number = min(int(asked), _MOST_PAGES) if asked.isascii() and asked.isdigit() and len(asked) < 9 else 1
    number = max(1, number)
    found = await visit.act("activity", offset=(number - 1) * PER_PAGE, limit=PER_PAGE)
    return visit.show(
        "activity.html",
        here="activity",
        chart=draw(await visit.act("spending")) if number == 1 else None,
        entries=found["entries"],
        number=number,
        pages=max(1, -(-found["total"] // PER_PAGE)),
        total=found["total"],
    )


async def pending(visit: Visit) -> Response:
    """Show what is on its way, and where."""
    return visit.show(
        "pending.html",
        here="pending",
        balance=await visit.act("balance"),
        pending=await visit.act("pending"),
        sent=await visit.act("sent"),
        invoices=await visit.act("invoices"),
    )


async def recover(visit: Visit) -> Response:
    """End now what can be ended."""
    left = await visit.act("recover")
    note = "Everything was asked for. " + (
        f"Still on their way: {left['open']}." if left["open"] else "Nothing is on its way any more."
    )
    return visit.go("pending", note)


async def trust(visit: Visit) -> Response:
    """Let a gateway be paid again."""
    await visit.act("gateways_trust", url=visit.form.get("url", ""))
    back = "gateways" if visit.form.get("back") == "gateways" else "pending"
    return visit.go(back, "That gateway may be paid again.")


async def connect(visit: Visit) -> Response:
    """Show what to give to an app, ready to be copied."""
    return visit.show(
        "connect.html",
        here="connect",
        root=f"{visit.request.url.scheme}://{visit.request.headers['host']}",
        model=await _some_model(visit),
    )


async def _some_model(visit: Visit) -> str:
    """Return a model that a gateway sells, for the examples; a word for one where none answers soon."""
    with trio.move_on_after(_MODELS_S):
        for entry in await visit.client.gateways.entries():
            with suppress(OtrtaError):
                models = (await visit.client.gateways.info(entry.url)).models
                if harmless := [model for model in sorted(models) if _HARMLESS.fullmatch(model)]:
                    return harmless[0]
    return "MODEL"
