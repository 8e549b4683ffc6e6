"""Money is at another of the wallet's mints than a gateway takes: it is moved there, for a fee in bounds."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import trio
from sqlalchemy import func, select

from otrta_cli.processes import Running
from otrta_wallet import executor
from otrta_wallet.schema import operations
from proxy_trio import moves
from proxy_trio.client_settings import ClientSettings
from proxy_trio.moves import OPEN, Move, MoveState
from tests.integration.customer import CallState, Customer, customer, error_code
from tests.integration.killed_mover import move_and_die
from tests.integration.purse import Purse
from tests.integration.scripted_gateway import COST_MSAT, scripted_gateway, sell

pytestmark = [pytest.mark.integration, pytest.mark.trio]

FUNDS = 500_000
FLOAT_MSAT = 100_000
SWAP_FEES = select(func.coalesce(func.sum(operations.c.fee), 0)).where(
    operations.c.state == "done", operations.c.kind != "melt"
)


async def at(app: Customer, mint: Running) -> int:
    """What the wallet has at a mint; what was set aside for a payment is let go a while later."""
    balances = await app.client.wallet.balances()
    return sum(each.available + each.pending for each in balances if each.mint == mint.url)


async def all_moves(app: Customer) -> list[Move]:
    return await app.db.run(lambda conn, _now: moves.newest(conn, 100))


async def test_a_call_waits_for_value_to_come_from_another_mint(
    tmp_path: Path, mint: Running, fee_mint: Running, fee_purse: Purse
) -> None:
    async with (
        scripted_gateway(fee_purse, sell(fee=1), sell(fee=1)) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url, funds=FUNDS) as app,
    ):
        await app.client.wallet.mints.add(fee_mint.url)
        gateway.info["mints"][0]["units"] = {"msat": {"input_fee_ppk": 100}}
        app.client.gateways.forget_info(gateway.url)
        for _ in range(2):  # the second finds what is left of the float
            assert (await app.ask()).status_code == 200
        (move,) = await all_moves(app)
        assert (move.state, move.amount_msat) == (MoveState.DONE, FLOAT_MSAT)
        assert move.fee_msat is not None
        assert 0 <= move.fee_msat <= move.most_fee_msat <= 3000
        assert await at(app, mint) == FUNDS - FLOAT_MSAT - move.fee_msat
        await app.client.recover_once(at_once=True)
        assert await app.pending() == []
        assert {paid.state for paid in await app.paid()} == {CallState.DONE}
        swaps = await app.db.run(lambda conn, _now: conn.execute(SWAP_FEES).scalar_one())
        spent = sum(paid.cost_msat or 0 for paid in await app.paid()) + 2
        assert (spent, await app.total()) == (2 * COST_MSAT + 2, FUNDS - move.fee_msat - swaps - spent)


async def test_a_float_is_moved_before_a_call_needs_it(
    tmp_path: Path, mint: Running, fee_mint: Running, fee_purse: Purse
) -> None:
    async with (
        scripted_gateway(fee_purse) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url, funds=FUNDS) as app,
    ):
        await app.client.wallet.mints.add(fee_mint.url)
        for _ in range(2):
            await app.client.top_up_once()
        (move,) = await all_moves(app)
        assert await at(app, fee_mint) == FLOAT_MSAT
        assert await app.total() == FUNDS - (move.fee_msat or 0)
        shown = {(line["kind"], line["amount_msat"]) for line in await app.act("history")}
        assert {amount for _, amount in shown} >= {FLOAT_MSAT}


@pytest.mark.parametrize("rules", [{"max_fee_sat": 0}, {"max_fee_ppm": 1}, {"enabled": False}])
async def test_nothing_is_moved_for_more_than_is_allowed(
    rules: dict[str, object], tmp_path: Path, mint: Running, fee_mint: Running, fee_purse: Purse
) -> None:
    settings = ClientSettings.model_validate({"moves": rules})
    async with (
        scripted_gateway(fee_purse) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url, funds=FUNDS, settings=settings) as app,
    ):
        await app.client.wallet.mints.add(fee_mint.url)
        reply = await app.ask()
        assert (reply.status_code, error_code(reply)) == (402, "wallet_empty")
        assert (await app.total(), await all_moves(app), gateway.seen) == (FUNDS, [], [])
        assert await app.client.wallet.quotes("open") == []


def killed_at(number: int, home: Path, source: Running, target: Running) -> bool:
    """Move in another process that dies before this commit; tells whether it came to that."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.integration.killed_mover"])
    child = context.Process(target=move_and_die, args=(str(home), source.url, target.url, FLOAT_MSAT, number))
    child.start()
    child.join(60)
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


async def test_a_client_killed_before_any_commit_of_a_move_finds_every_msat_again(
    tmp_path: Path, mint: Running, fee_mint: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "LANDS_WITHIN_S", 0.0)  # who was killed posts nothing any more
    step = 1 if os.environ.get("OTRTA_LONG") == "1" else 3
    number = 1 - step
    async with customer(tmp_path, mint=mint.url, funds=3 * FUNDS) as app:
        await app.client.wallet.mints.add(fee_mint.url)
    killed = True
    while killed:
        number += step
        killed = await trio.to_thread.run_sync(killed_at, number, tmp_path, mint, fee_mint)
        async with customer(tmp_path, mint=mint.url, funds=0) as app:
            with trio.fail_after(30):
                while await app.client.recover_once(at_once=True):  # noqa: ASYNC110  # no event tells it
                    await trio.sleep(0.1)
            assert await app.db.run(lambda conn, _now: moves.with_states(conn, *OPEN)) == []
            made = [move for move in await all_moves(app) if move.state is MoveState.DONE]
            fees = sum(move.fee_msat or 0 for move in made)
            assert await at(app, mint) == 3 * FUNDS - FLOAT_MSAT * len(made) - fees
            # the test mints pay every invoice that is asked for, also one that no move came to pay
            issued = {quote.id for quote in await app.client.wallet.quotes("issued")}
            assert issued >= {move.mint_quote_id for move in made}
            assert await at(app, fee_mint) == FLOAT_MSAT * (len(issued) - 1)  # the first were the funds
    assert number > 5
