"""Servers that only know NUT-24 are gateways too: what their 402 asks is paid, exactly and once."""

from contextlib import suppress
from pathlib import Path

import pytest
import trio

from otrta_cli.processes import Running
from otrta_core.payment_request import Transport
from proxy_trio import call_recovery
from proxy_trio.errors import GatewayFailure
from proxy_trio.gateway_info import GatewayKind
from tests.integration.customer import FUNDS, HI, CallState, Customer, customer, error_code
from tests.integration.plain_seller import STREAM, plain_seller
from tests.integration.purse import Purse
from tests.integration.scripted_gateway import Seen

pytestmark = [pytest.mark.integration, pytest.mark.trio]

PRICE = 700


async def everything(app: Customer) -> int:
    """What the wallet has when nothing moves any more and nothing is pending."""
    if await app.paid():
        await app.settled()
    assert await app.pending() == []
    return await app.total()


def by_size(seen: Seen) -> int:
    return len(seen.body)


@pytest.mark.parametrize("form", ["creqA", "creqB"])
async def test_what_a_402_asks_is_paid_to_the_msat(
    form: str, tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        plain_seller(purse, PRICE, form=form) as seller,
        customer(tmp_path, seller.url, mint=mint.url) as app,
    ):
        assert (await app.ask()).status_code == 200
        first, second = seller.seen
        assert "x-cashu" not in dict(first.headers)
        assert (second.token.amount, dict(second.headers).get("x-cashu-change")) == (PRICE, None)
        (paid,) = await app.paid()
        assert (paid.state, paid.cost_msat, paid.missing_msat) == (CallState.DONE, PRICE, None)
        assert await everything(app) == FUNDS - PRICE


async def test_a_stream_is_bought_the_same_way(tmp_path: Path, mint: Running, purse: Purse) -> None:
    async with (
        plain_seller(purse, PRICE) as seller,
        customer(tmp_path, seller.url, mint=mint.url) as app,
    ):
        reply = await app.ask({**HI, "stream": True})
        assert (reply.status_code, reply.content) == (200, STREAM)
        assert await everything(app) == FUNDS - PRICE


async def test_what_was_asked_for_such_a_call_is_paid_at_once_the_next_time(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        plain_seller(purse, by_size) as seller,
        customer(tmp_path, seller.url, mint=mint.url) as app,
    ):
        for _ in range(2):
            assert (await app.ask()).status_code == 200
        assert len(seller.seen) == 3
        assert (await app.ask({**HI, "max_tokens": 1000})).status_code == 200
        assert len(seller.seen) == 5
        assert await everything(app) == FUNDS - sum(token.amount for token in seller.taken)


async def test_one_price_for_calls_of_all_sizes_is_recognised(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        plain_seller(purse, PRICE) as seller,
        customer(tmp_path, seller.url, mint=mint.url) as app,
    ):
        for words in ("a", "bb", "ccc", "dddd"):
            messages = [{"role": "user", "content": words}]
            assert (await app.ask({**HI, "messages": messages})).status_code == 200
        assert len(seller.seen) == 2 + 2 + 1 + 1
        assert await everything(app) == FUNDS - 4 * PRICE


async def test_a_price_that_rose_is_paid_with_the_token_taken_back_first(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    prices = [PRICE, PRICE, PRICE + 5, PRICE + 5]
    async with (
        plain_seller(purse, lambda _seen: prices.pop(0)) as seller,
        customer(tmp_path, seller.url, mint=mint.url) as app,
    ):
        for _ in range(2):
            assert (await app.ask()).status_code == 200
        assert [token.amount for token in seller.taken] == [PRICE, PRICE + 5]
        assert await everything(app) == FUNDS - 2 * PRICE - 5


async def test_a_price_beyond_the_budget_is_not_paid(tmp_path: Path, mint: Running, purse: Purse) -> None:
    async with (
        plain_seller(purse, 1_000_001) as seller,
        customer(tmp_path, seller.url, mint=mint.url, funds=2_000_000) as app,
    ):
        reply = await app.ask()
        assert (reply.status_code, error_code(reply)) == (402, "budget_exceeded")
        assert (len(seller.seen), await everything(app)) == (1, 2_000_000)


async def test_mints_that_are_asked_for_and_not_used_here_are_never_contacted(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    asked: list[trio.SocketStream] = []

    async def note(stream: trio.SocketStream) -> None:
        asked.append(stream)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, note, 0)
        foreign = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        transports = (Transport("post", f"{foreign}/pay"),)
        async with (
            plain_seller(purse, PRICE, mints=(foreign,), transports=transports) as seller,
            customer(tmp_path, seller.url, mint=mint.url) as app,
        ):
            reply = await app.ask()
            assert (reply.status_code, error_code(reply)) == (402, "wallet_empty")
            assert f"{foreign}" in reply.json()["error"]["message"]
            seller.mints = (foreign, mint.url)
            assert (await app.ask()).status_code == 200
            assert await everything(app) == FUNDS - PRICE
        assert asked == []
        nursery.cancel_scope.cancel()


async def test_a_seller_that_takes_the_money_and_fails_is_disputed(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        plain_seller(purse, PRICE, status=500) as seller,
        customer(tmp_path, seller.url, mint=mint.url) as app,
    ):
        assert (await app.ask()).status_code == 500
        paid = await app.settled()
        assert (paid.state, paid.missing_msat) == (CallState.DISPUTED, PRICE)
        assert (await app.balance())["available_msat"] == FUNDS - PRICE


async def test_a_seller_may_redeem_what_it_got_when_it_likes(
    tmp_path: Path, mint: Running, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        plain_seller(purse, PRICE, redeems=False) as seller,
        customer(tmp_path, seller.url, mint=mint.url) as app,
    ):
        assert (await app.ask()).status_code == 200
        assert await everything(app) == FUNDS - PRICE
        assert purse.states(seller.taken[0]) == {"UNSPENT"}
        monkeypatch.setattr(call_recovery, "UNREDEEMED_S", 0.0)
        assert (await app.settled()).state is CallState.REFUNDED
        assert await everything(app) == FUNDS


async def test_a_server_that_says_nothing_of_itself_is_added_only_as_what_it_is_said_to_be(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        plain_seller(purse, PRICE, models=None) as seller,
        customer(tmp_path, mint=mint.url) as app,
    ):
        with pytest.raises(GatewayFailure, match="--kind nut24"):
            await app.act("gateways_add", url=seller.url)
        added = await app.act("gateways_add", url=seller.url, kind="nut24")
        assert added["kind"] == "nut24"
        assert (await app.ask()).status_code == 200
        assert await everything(app) == FUNDS - PRICE


async def test_a_gateway_with_prices_is_not_taken_for_another_kind_once_it_hides_them(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        plain_seller(purse, PRICE) as seller,
        customer(tmp_path, mint=mint.url) as app,
    ):
        await app.client.gateways.add(seller.url, kind=GatewayKind.OTRTA, offline_ok=True)
        reply = await app.ask()
        assert (reply.status_code, error_code(reply)) == (502, "gateway_broke_off")
        assert (seller.seen, await app.total()) == ([], FUNDS)


async def test_an_info_without_end_is_given_up(tmp_path: Path, mint: Running) -> None:
    async def endless(stream: trio.SocketStream) -> None:
        async with stream:
            with suppress(trio.BrokenResourceError):
                await stream.receive_some()
                await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
                while True:
                    await stream.send_all(b" " * 65_536)

    async with customer(tmp_path, mint=mint.url) as app, trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, endless, 0)
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        with pytest.raises(GatewayFailure, match="more than it should"):
            await app.act("gateways_add", url=url)
        nursery.cancel_scope.cancel()
