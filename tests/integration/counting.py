"""Counting a client's money after the worst: in its wallet, at its gateway, and at the mint."""

from collections.abc import Callable
from typing import Any

import trio

from otrta_core import Token
from proxy_trio.locked_pool import in_pools
from tests.integration.customer import Customer
from tests.integration.honest import kept
from tests.integration.purse import Purse
from tests.integration.scripted_gateway import ScriptedGateway
from tests.otrta_wallet.reckoning import assert_really_there, fees_paid


async def nothing_open(app: Customer, again: Callable[[], None] = lambda: None) -> None:
    """Recover and swap until nothing is open, and call `again` before each further try.

    The mint may still be at what was posted last.
    """
    with trio.fail_after(20):
        while await app.client.recover_once(at_once=True) or await app.client.wallet.kept():
            await app.client.swapper.swap_now()
            again()


async def calls_pending(app: Customer) -> list[dict[str, Any]]:
    """What is pending, but for what is locked for coming calls."""
    locked = {transfer.id for _, transfer, _ in await app.db.run(lambda conn, _now: in_pools(conn))}
    return [line for line in await app.pending() if line["payment_id"] not in locked]


async def assert_all_there(
    app: Customer, purse: Purse, gateway: ScriptedGateway, had: int, *, disputed_msat: int = 0
) -> None:
    """What came in is in the wallet, at the gateway, or went for the mint's fees, and nothing is open.

    Args:
        app: the client.
        purse: of the mint.
        gateway: its gateway.
        had: what came in.
        disputed_msat: of what the gateway has, what it should have given back by the client's count.
    """
    await gateway.until_idle()
    balance, fees = await app.balance(), await fees_paid(app.client.wallet)
    in_pool = [transfer for _, transfer, _ in await app.db.run(lambda conn, _now: in_pools(conn))]
    locked_msat = sum(transfer.amount for transfer in in_pool)
    assert balance["available_msat"] + locked_msat + kept(gateway) + fees == had
    assert balance["pending_msat"] == disputed_msat + locked_msat
    assert [line["state"] for line in await calls_pending(app)] == ["disputed"] * bool(disputed_msat)
    assert len(await app.pending()) == bool(disputed_msat) + len(in_pool)
    for transfer in in_pool:
        held = Token.parse(transfer.token or "")
        assert await trio.to_thread.run_sync(purse.states, held) == {"UNSPENT"}
    await assert_really_there(app.client.wallet)
    for change in filter(None, gateway.given.values()):
        assert await trio.to_thread.run_sync(purse.states, Token.parse(change)) == {"SPENT"}
