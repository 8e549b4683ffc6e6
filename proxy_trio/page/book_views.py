"""Pages that show what the wallet has, what happened, and what is open."""

from starlette.responses import Response

from proxy_trio.page.visit import Visit


async def overview(visit: Visit) -> Response:
    """Show the balance by mint, and what came last."""
    return visit.show(
        "overview.html",
        here="overview",
        balance=await visit.act("balance"),
        mints=await visit.act("mints"),
        gateways=await visit.act("gateways"),
        pending=await visit.act("pending"),
        latest=await visit.act("history", limit=6),
    )
