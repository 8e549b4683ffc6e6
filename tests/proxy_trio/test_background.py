"""What runs by itself: infos that age, swaps that thin out, recovery that is woken."""

import httpx
import pytest
from sqlalchemy import select

from otrta_wallet import MintRefused, MintUnreachable
from otrta_wallet.schema import keysets
from proxy_trio import client as client_module
from proxy_trio import gateways as gateways_module
from proxy_trio import swapping
from proxy_trio.errors import GatewayFailure
from proxy_trio.schema import CallState
from proxy_trio.stocking import Stocker, wanted
from tests.integration.customer import FUNDS, customer, error_code, until
from tests.integration.purse import Purse
from tests.integration.scripted_gateway import answer, give_change, scripted_gateway, sell, take

pytestmark = [pytest.mark.trio, pytest.mark.integration]


@pytest.fixture
def purse(mint):
    with Purse(mint.url) as purse:
        yield purse


async def test_an_info_stands_in_for_a_gateway_that_is_away_until_it_is_too_old(
    tmp_path, mint, purse, monkeypatch
):
    async with customer(tmp_path, mint=mint.url, funds=0) as app:
        gateways = app.client.gateways
        async with scripted_gateway(purse) as gateway:
            await gateways.add(gateway.url)
        monkeypatch.setattr(gateways_module, "INFO_HOLDS_S", 0.0)
        assert "m" in (await gateways.info(gateway.url)).models
        monkeypatch.setattr(gateways_module, "STALE_AFTER_S", 0.0)
        with pytest.raises(GatewayFailure):
            await gateways.info(gateway.url)


async def test_a_gateway_that_did_not_answer_is_not_asked_again_at_once(tmp_path, mint, purse):
    async with customer(tmp_path, mint=mint.url, funds=0) as app, scripted_gateway(purse) as gateway:
        info, gateway.info = gateway.info, {"models": "nonsense"}
        for _ in range(2):
            with pytest.raises(GatewayFailure):
                await app.client.gateways.info(gateway.url)
        gateway.info = info
        with pytest.raises(GatewayFailure):  # still the failure of a moment ago
            await app.client.gateways.info(gateway.url)
        assert "m" in (await app.client.gateways.info(gateway.url, fresh=True)).models


async def test_kept_change_is_swapped_in_the_background_and_the_token_then_given_up(
    tmp_path, mint, purse, nursery, monkeypatch
):
    monkeypatch.setattr(swapping, "SHORTEST_DELAY_S", 0.0)
    async with (
        scripted_gateway(purse, sell()) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        app.client.swapper._longest_delay_s = 0.1
        nursery.start_soon(app.client.run)
        await app.ask()

        async def token_is_given_up():
            return not await app.client.wallet.transfers()

        await until(token_is_given_up)
        assert await app.client.wallet.kept() == []
        assert (await app.paid())[0].state is CallState.DONE
        assert await app.total() == FUNDS - 110
        nursery.cancel_scope.cancel()


async def test_an_open_payment_wakes_recovery(tmp_path, mint, purse, nursery, monkeypatch):
    monkeypatch.setattr(client_module, "RECOVER_EVERY_S", 3600.0)
    async with (
        scripted_gateway(purse, take, claim=give_change()) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        nursery.start_soon(app.client.run)
        await app.ask()

        async def is_done():
            return (await app.paid())[0].state is CallState.DONE

        await until(is_done)
        nursery.cancel_scope.cancel()


async def test_a_mint_that_is_away_costs_no_counters(tmp_path, mint, purse, monkeypatch):
    async with (
        scripted_gateway(purse, sell()) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        await app.ask()
        redeemed = []

        async def away(_mint):
            raise MintUnreachable("away")

        async def redeem(operation_id):
            redeemed.append(operation_id)

        monkeypatch.setattr(app.client.wallet.mints, "refresh_if_old", away)
        monkeypatch.setattr(app.client.wallet, "redeem", redeem)
        assert await app.client.swapper.swap_now() is False
        assert redeemed == []


def counters(conn, _now):
    return dict(conn.execute(select(keysets.c.id, keysets.c.counter)).fetchall())


async def test_a_mint_that_is_away_is_found_out_before_a_call_or_a_token_taken_back_costs_counters(
    tmp_path, mint, purse, monkeypatch
):
    async with (
        scripted_gateway(purse, answer(400)) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url, funds=1024) as app,
    ):
        await app.ask()
        before = await app.db.run(counters)

        async def away(*_asked):
            raise MintUnreachable("away")

        monkeypatch.setattr(app.client.wallet.mints, "refresh_if_old", away)
        assert (await app.settled()).state is CallState.AWAITING_CHANGE
        reply = await app.ask()  # what is at hand is not enough
        assert (reply.status_code, error_code(reply)) == (503, "mint_unreachable")
        assert await app.db.run(counters) == before
        assert await app.total() == 1024


async def test_change_that_is_refused_again_and_again_counts_as_false(tmp_path, mint, purse, monkeypatch):
    async with (
        scripted_gateway(purse, sell()) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        await app.ask()

        async def refuse(_operation_id):
            raise MintRefused("no", 400, 0)

        monkeypatch.setattr(app.client.wallet, "redeem", refuse)
        for _ in range(swapping.PATIENCE - 1):
            await app.client.swapper.swap_now()
        assert (await app.paid())[0].state is CallState.DONE
        await app.client.swapper.swap_now()
        paid = (await app.paid())[0]
        assert (paid.state, paid.change_msat) == (CallState.DISPUTED, 0)
        assert paid.missing_msat == paid.paid_msat - 110
        assert await app.client.wallet.kept() == []
        assert "cashuB" in (paid.change_token or "")


async def test_a_failure_of_one_payment_does_not_stop_the_others(tmp_path, mint, purse, monkeypatch):
    async with (
        scripted_gateway(purse, take, take, claim=give_change()) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        settle, settled = app.client.recovery.settle, set()

        async def settle_some(call_id):
            if call_id not in settled:
                raise RuntimeError
            return await settle(call_id)

        monkeypatch.setattr(app.client.recovery, "settle", settle_some)
        await app.ask()
        await app.ask()
        second, first = await app.paid()
        settled.add(second.id)
        await app.client.recover_once(at_once=True)
        states = {paid.id: paid.state for paid in await app.paid()}
        assert states == {first.id: CallState.AWAITING_CHANGE, second.id: CallState.DONE}


class Counting(httpx.AsyncBaseTransport):
    """Passes on, and counts swaps."""

    swaps = 0

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        Counting.swaps += request.url.path == "/v1/swap"
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        await self._transport.aclose()


async def test_what_calls_have_paid_with_is_there_for_the_next_ones(tmp_path, mint, purse, monkeypatch):
    monkeypatch.setattr(Counting, "swaps", 0)
    calls = 16
    async with (
        scripted_gateway(purse, *[sell()] * 2 * calls) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url, between=Counting) as app,
    ):
        stocker = Stocker(app.client.wallet)
        assert await stocker.restock() == 0, "nobody has called yet"
        for _ in range(calls):
            assert (await app.ask()).status_code == 200
        assert Counting.swaps > 0
        assert await stocker.restock() > 0
        assert await stocker.restock() == 0
        before = Counting.swaps
        for _ in range(calls // 2):
            assert (await app.ask()).status_code == 200
        assert Counting.swaps == before
        assert await app.total() == FUNDS - 110 * (calls + calls // 2)


async def test_a_mint_that_is_away_costs_a_restock_no_counters(tmp_path, mint, purse, monkeypatch):
    async with (
        scripted_gateway(purse, sell()) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        await app.ask()

        async def away(_mint):
            raise MintUnreachable("away")

        monkeypatch.setattr(app.client.wallet.mints, "refresh_if_old", away)
        before = await app.db.run(counters)
        with pytest.raises(MintUnreachable):
            await Stocker(app.client.wallet).restock()
        assert await app.db.run(counters) == before


async def test_what_is_wanted_is_bounded_and_by_mint(tmp_path, mint, purse):
    async with (
        scripted_gateway(purse, sell()) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        await app.ask()
        [call] = await app.paid()
        [(place, pieces)] = wanted([call] * 100).items()
        assert place == (call.mint, call.unit)
        assert sum(wanted([call])[place].values()) == call.paid_msat.bit_count()
        assert set(pieces.values()) == {32}
