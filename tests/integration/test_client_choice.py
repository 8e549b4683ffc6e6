"""Several gateways: a call goes on to the next only when nothing of its payment is left with the first."""

from pathlib import Path

import pytest
import trio
from sqlalchemy import insert

from otrta_cli.processes import Running
from proxy_trio.schema import gateways
from tests.integration.customer import FUNDS, HI, CallState, Customer, customer, error_code
from tests.integration.plain_seller import plain_seller
from tests.integration.purse import Purse
from tests.integration.routstr_node import routstr_node
from tests.integration.scripted_gateway import (
    ANSWER,
    COST_MSAT,
    JSON,
    Script,
    ScriptedGateway,
    Seen,
    answer,
    ask,
    die,
    scripted_gateway,
    sell,
    send,
    take,
    then,
)

pytestmark = [pytest.mark.integration, pytest.mark.trio]


async def give_all_back(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Seen) -> None:
    """Fail, and give the whole payment back."""
    paid = await gateway.take(seen)
    change = (await gateway.money(paid.amount)).encode()
    await send(stream, 500, {**JSON, "X-Cashu": change, "X-Otrta-Change-Msat": str(paid.amount)}, b"{}")


async def end(app: Customer) -> tuple[int, list[CallState]]:
    """What the wallet has when nothing moves any more, and how its payments ended, the first first."""
    await app.settled()
    return await app.total(), [paid.state for paid in reversed(await app.paid())]


GOES_ON: dict[str, Script] = {
    "gives-all-back": give_all_back,
    "refuses": answer(503, b"{}"),
    "sells-it-no-more": answer(404, b"{}"),
    "wants-another-mint": answer(400, {"error": {"code": "mint_not_accepted"}}),
    "breaks-off-untouched": die,
    "asks-a-thousand-times-its-price": ask(550_000),
}


@pytest.mark.parametrize("name", GOES_ON)
async def test_the_next_gateway_has_the_call_once_the_payment_is_back(
    name: str, tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse, GOES_ON[name]) as first,
        scripted_gateway(purse, sell()) as second,
        customer(tmp_path, first.url, second.url, mint=mint.url) as app,
    ):
        reply = await app.ask()
        assert (reply.status_code, reply.content) == (200, ANSWER)
        assert (len(first.seen), len(second.seen)) == (1, 1)
        total, states = await end(app)
        assert (total, states[-1], await app.pending()) == (FUNDS - COST_MSAT, CallState.DONE, [])


async def test_a_gateway_that_is_not_there_any_more_costs_nothing(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with scripted_gateway(purse, sell()) as second, customer(tmp_path, mint=mint.url) as app:
        async with scripted_gateway(purse) as first:
            await app.client.gateways.add(first.url)
            await app.client.gateways.add(second.url)
        assert (await app.ask()).status_code == 200
        assert await end(app) == (FUNDS - COST_MSAT, [CallState.REFUNDED, CallState.DONE])


STAYS: dict[str, Script] = {
    "kept-the-money": then(take, answer(500, b"{}")),
    "broke-off-with-the-money": then(take, die),
    "finds-the-call-wrong": answer(400, {"error": {"code": "invalid_request"}}),
}


@pytest.mark.parametrize("name", STAYS)
async def test_no_other_gateway_is_paid_while_money_is_left_or_the_call_is_wrong(
    name: str, tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse, STAYS[name]) as first,
        scripted_gateway(purse) as second,
        customer(tmp_path, first.url, second.url, mint=mint.url) as app,
    ):
        assert (await app.ask()).status_code in (400, 500, 502)
        assert (len(first.seen), second.seen) == (1, [])
        await app.settled()
        (paid,) = await app.paid()
        kept = sum(token.amount for token in first.taken)
        assert ((await app.balance())["available_msat"], kept in (0, paid.paid_msat)) == (FUNDS - kept, True)


async def test_what_has_nothing_to_do_with_the_published_price_is_not_paid(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse, ask(550 * 2 + 1)) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        reply = await app.ask()
        assert (reply.status_code, error_code(reply)) == (502, "gateway_asks_too_much")
        assert "x-should-retry" not in reply.headers
        assert (len(gateway.seen), (await end(app))[0]) == (1, FUNDS)


async def test_a_gateway_that_keeps_failing_is_left_alone(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse, *[answer(503, b"{}")] * 3) as first,
        scripted_gateway(purse, *[sell()] * 4) as second,
        customer(tmp_path, first.url, second.url, mint=mint.url) as app,
    ):
        first.info["models"][0]["output_msat_per_mtok"] = 1_000_000
        app.client.gateways.forget_info(first.url)
        for _ in range(4):
            assert (await app.ask()).status_code == 200
        assert (len(first.seen), len(second.seen)) == (3, 4)
        assert (await end(app))[0] == FUNDS - 4 * COST_MSAT


async def test_kinds_of_gateways_stand_in_for_each_other(tmp_path: Path, mint: Running, purse: Purse) -> None:
    async with (
        scripted_gateway(purse, give_all_back) as first,
        routstr_node(purse, failing="upstream") as second,
        plain_seller(purse, 700) as third,
        customer(tmp_path, first.url, second.url, third.url, mint=mint.url) as app,
    ):
        assert (await app.ask({**HI, "max_tokens": 50})).status_code == 200
        assert (len(first.seen), len(second.seen), len(third.seen)) == (1, 1, 2)
        assert (await end(app))[0] == FUNDS - 700


async def test_a_gateway_that_takes_long_to_say_what_it_is_holds_up_no_call(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async def silent(stream: trio.SocketStream) -> None:
        async with stream:
            await trio.sleep_forever()

    async with (
        scripted_gateway(purse, sell(), sell()) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
        trio.open_nursery() as nursery,
    ):
        listeners = await nursery.start(trio.serve_tcp, silent, 0)
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        await app.db.run(lambda conn, now: conn.execute(insert(gateways).values(url=url, added_at=now)))
        with trio.fail_after(15):  # it would be waited for twice as long, for each call
            assert [(await app.ask()).status_code for _ in range(2)] == [200, 200]
        assert (await end(app))[0] == FUNDS - 2 * COST_MSAT
        nursery.cancel_scope.cancel()
