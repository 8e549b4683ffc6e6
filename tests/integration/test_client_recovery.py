"""Whatever a gateway does at whatever point, the wallet ends with all its money but the price of the call."""

import multiprocessing
import os
import signal
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import trio

from otrta_cli.processes import Running
from tests.integration.customer import FUNDS, HI, QUOTE_MSAT, CallState, customer, error_code
from tests.integration.killed_customer import call_and_die
from tests.integration.purse import Purse
from tests.integration.scripted_gateway import (
    ANSWER,
    COST_MSAT,
    INSUFFICIENT,
    JSON,
    Script,
    ScriptedGateway,
    Seen,
    answer,
    ask,
    die,
    give_change,
    scripted_gateway,
    sell,
    send,
    take,
    then,
    write,
)

pytestmark = [pytest.mark.integration, pytest.mark.trio]

HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n"
STREAM = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
EVENT = 'data: {"choices": [{"delta": {"content": "hi"}}]}\n\n'


async def head_with_change(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Seen) -> None:
    paid = await gateway.take(seen)
    change = await gateway.money(paid.amount - COST_MSAT)
    await stream.send_all(f"{HEAD}X-Cashu: {change.encode()}\r\n\r\n{{".encode())


async def stream_with_change(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Seen) -> None:
    paid = await gateway.take(seen)
    change = await gateway.money(paid.amount - COST_MSAT)
    comments = f": otrta paid={paid.amount}\n: x-cashu {change.encode()}\n\n"
    await stream.send_all(f"{STREAM}{EVENT}{comments}data: [DONE]\n\n".encode())


TAKEN: dict[str, Script] = {
    "dies-before-its-answer": then(take, die),
    "dies-in-its-head": then(take, write("HTTP/1.1 200 OK\r\nX-Ca"), die),
    "dies-after-its-head": then(take, write(f"{HEAD}\r\n"), die),
    "dies-in-its-body": then(take, write(f'{HEAD}\r\n{{"choices"'), die),
    "dies-in-its-body-after-change-in-the-head": then(head_with_change, die),
    "dies-in-its-stream": then(take, write(STREAM + EVENT), die),
    "ends-its-stream-without-change": then(take, write(STREAM + EVENT + "data: [DONE]\n\n")),
    "answers-without-change": then(take, answer(200, ANSWER)),
    "answers-what-is-not-http": then(take, write("220 smtp ready\r\n")),
    "redirects": then(take, answer(307, b"", {"Location": "http://127.0.0.1:1/"})),
    "fails-without-change": then(take, answer(500, {"error": {"message": "no"}})),
    "streams-with-change": stream_with_change,
}


@pytest.mark.parametrize("name", TAKEN)
async def test_a_gateway_that_took_the_token_gets_no_more_than_the_price(
    name: str, tmp_path: Path, mint: Running, purse: Purse
) -> None:
    cost = 0 if name == "fails-without-change" else COST_MSAT
    async with (
        scripted_gateway(purse, TAKEN[name], claim=give_change(cost)) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        with suppress(httpx.RemoteProtocolError):  # what the app sees of a cut answer
            await app.ask({**HI, "stream": "stream" in name})
        paid = await app.settled()
        assert (paid.state, await app.total()) == (CallState.DONE, FUNDS - cost)
        assert paid.paid_msat == cost + paid.fee_msat + (paid.change_msat or 0)
        assert await app.pending() == []
        assert len(gateway.taken) == 1


NOT_TAKEN: dict[str, Script] = {
    "dies-before-its-answer": die,
    "dies-in-its-head": then(write("HTTP/1.1 200 OK\r\nX-Ca"), die),
    "dies-in-its-body": then(write(f"{HEAD}\r\n{{"), die),
    "redirects": answer(302, b"", {"Location": "http://127.0.0.1:1/"}),
    "refuses-with-400": answer(400, {"error": {"code": "invalid_request", "message": "no"}}),
    "refuses-with-429": answer(429, {"error": {"message": "slow down"}}),
    "refuses-with-503": answer(503, {"error": {"message": "away"}}),
    "answers-and-takes-nothing": answer(200, ANSWER),
}


@pytest.mark.parametrize("name", NOT_TAKEN)
async def test_a_token_that_was_not_taken_comes_back_whole(
    name: str, tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse, NOT_TAKEN[name]) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        with suppress(httpx.RemoteProtocolError):
            await app.ask()
        sent = gateway.seen[0].token
        paid = await app.settled()
        assert (paid.state, await app.total()) == (CallState.REFUNDED, FUNDS)
        assert await app.pending() == []
        # the gateway knows the old secrets, so they were spent and fresh ones made
        assert await trio.to_thread.run_sync(purse.states, sent) == {"SPENT"}


async def test_a_gateway_that_cannot_be_reached_leaves_the_token_where_it_was(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with customer(tmp_path, mint=mint.url) as app:
        async with scripted_gateway(purse) as gateway:
            await app.client.gateways.add(gateway.url)
        reply = await app.ask()
        assert (reply.status_code, error_code(reply)) == (502, "gateway_unreachable")
        balance = await app.balance()
        assert (balance["available_msat"], balance["pending_msat"]) == (FUNDS, 0)


async def test_change_is_stored_before_the_first_byte_goes_on(
    tmp_path: Path, mint: Running, purse: Purse, nursery: trio.Nursery
) -> None:
    hang = trio.Event()

    async def script(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Seen) -> None:
        await head_with_change(gateway, stream, seen)
        await hang.wait()

    async with (
        scripted_gateway(purse, script) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
        app.http.stream("POST", "/v1/chat/completions", json=dict(HI)) as response,
    ):
        assert response.status_code == 200
        assert "x-cashu" not in response.headers
        paid = (await app.paid())[0]
        assert paid.state is CallState.IN_FLIGHT
        assert paid.change_msat == paid.paid_msat - COST_MSAT
        assert [kept.amount for kept in await app.client.wallet.kept()] == [paid.change_msat]
        hang.set()


@pytest.mark.parametrize(
    "refusal",
    [ask(700), ask(700, form="creqB"), ask(700, 400, INSUFFICIENT)],
    ids=["402 creqA", "402 creqB", "400"],
)
async def test_a_call_that_costs_more_is_paid_once_more(
    refusal: Script, tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse, refusal, sell(600, body=b"{}")) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        reply = await app.ask()
        first, second = (seen.token for seen in gateway.seen)
        assert reply.status_code == 200
        assert (first.amount >= QUOTE_MSAT, second.amount >= 700) == (True, True)
        assert not {p.secret for p in first.proofs} & {p.secret for p in second.proofs}
        await app.settled()
        states = {call.state for call in await app.paid()}
        assert (states, await app.total()) == ({CallState.DONE, CallState.REFUNDED}, FUNDS - 600)


async def test_what_is_asked_is_paid_once_more_only(tmp_path: Path, mint: Running, purse: Purse) -> None:
    async with (
        scripted_gateway(purse, ask(700), ask(800), ask(900)) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        reply = await app.ask()
        assert (reply.status_code, len(gateway.seen)) == (402, 2)
        await app.settled()
        assert await app.total() == FUNDS


async def test_a_model_that_no_info_names_is_paid_by_what_its_402_asks(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse, ask(700), sell()) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        reply = await app.ask({**HI, "model": "unlisted"})
        assert reply.status_code == 200
        assert "x-cashu" not in dict(gateway.seen[0].headers)
        assert (await app.settled()).state is CallState.DONE
        assert await app.total() == FUNDS - COST_MSAT


async def test_change_that_comes_twice_counts_once(tmp_path: Path, mint: Running, purse: Purse) -> None:
    async def script(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Seen) -> None:
        paid = await gateway.take(seen)
        change = (await gateway.money(paid.amount - COST_MSAT)).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Cashu: {change}\r\n\r\n"
        await stream.send_all(f"{head}{EVENT}: x-cashu {change}\n\ndata: [DONE]\n\n".encode())

    async with (
        scripted_gateway(purse, script) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        await app.ask({**HI, "stream": True})
        paid = await app.settled()
        assert (paid.state, await app.total()) == (CallState.DONE, FUNDS - COST_MSAT)
        assert (await app.balance())["pending_msat"] == 0


async def test_change_in_two_parts_counts_whole(tmp_path: Path, mint: Running, purse: Purse) -> None:
    async def script(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Seen) -> None:
        paid = await gateway.take(seen)
        first = (await gateway.money(100)).encode()
        rest = (await gateway.money(paid.amount - COST_MSAT - 100)).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Cashu: {first}\r\n\r\n"
        await stream.send_all(f"{head}{EVENT}: x-cashu {rest}\n\ndata: [DONE]\n\n".encode())

    async with (
        scripted_gateway(purse, script) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        await app.ask({**HI, "stream": True})
        assert ((await app.settled()).state, await app.total()) == (CallState.DONE, FUNDS - COST_MSAT)


async def test_a_payment_that_comes_back_as_its_own_change_is_ours_again(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async def script(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Seen) -> None:
        await send(stream, 200, {**JSON, "X-Cashu": seen.token.encode()}, ANSWER)

    async with (
        scripted_gateway(purse, script) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        await app.ask()
        paid = await app.settled()
        assert paid.state in (CallState.DONE, CallState.REFUNDED)
        assert (paid.cost_msat, await app.total()) == (0, FUNDS)


async def test_an_app_that_goes_away_still_gets_its_change(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    gone = trio.Event()

    async def script(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Seen) -> None:
        paid = await gateway.take(seen)
        await stream.send_all((STREAM + EVENT).encode())
        await gone.wait()
        change = await gateway.money(paid.amount - COST_MSAT)
        await stream.send_all(f"{EVENT}: x-cashu {change.encode()}\n\ndata: [DONE]\n\n".encode())

    async with (
        scripted_gateway(purse, script) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        await app.ask_and_leave({**HI, "stream": True})
        gone.set()
        await app.until_no_call_runs()
        assert ((await app.settled()).state, await app.total()) == (CallState.DONE, FUNDS - COST_MSAT)
        assert gateway.claims == []


async def test_a_payment_found_in_flight_at_the_start_is_settled(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with scripted_gateway(purse, then(take, die), claim=give_change()) as gateway:
        async with customer(tmp_path, gateway.url, mint=mint.url) as app:

            async def never(*_: object) -> None:
                raise RuntimeError

            # as when it is killed before
            app.client.payer.on_end = app.client.payer.retry = never  # type: ignore[method-assign, assignment]
            await app.ask()
            assert (await app.paid())[0].state is CallState.IN_FLIGHT
        async with customer(tmp_path, gateway.url, mint=mint.url, funds=0) as app:
            assert ((await app.settled()).state, await app.total()) == (CallState.DONE, FUNDS - COST_MSAT)


async def test_a_gateway_in_sat_is_paid_in_sat(tmp_path: Path, mint: Running, purse: Purse) -> None:
    async with (
        scripted_gateway(purse, sell(1)) as gateway,
        customer(tmp_path, mint=mint.url, funds=100, unit="sat") as app,
    ):
        gateway.info["mints"][0]["units"] = {"sat": {"input_fee_ppk": 0}}
        await app.client.gateways.add(gateway.url)
        assert (await app.ask()).status_code == 200
        paid = await app.settled()
        assert (paid.state, paid.unit, paid.cost_msat) == (CallState.DONE, "sat", 1000)
        assert await app.total() == 99_000


async def test_a_mint_with_fees_takes_them_and_nothing_else_is_missing(
    tmp_path: Path, fee_mint: Running, fee_purse: Purse
) -> None:
    async def script(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Seen) -> None:
        fee = (len(seen.token.proofs) * 100 + 999) // 1000
        await sell(fee=fee)(gateway, stream, seen)

    async with (
        scripted_gateway(fee_purse, script, script) as gateway,
        customer(tmp_path, gateway.url, mint=fee_mint.url) as app,
    ):
        for _ in range(2):
            assert (await app.ask()).status_code == 200
        paid = await app.settled()
        assert {call.state for call in await app.paid()} == {CallState.DONE}
        assert [call.cost_msat for call in await app.paid()] == [COST_MSAT, COST_MSAT]
        history = await app.act("history")
        assert FUNDS + sum(e["amount_msat"] for e in history if e["kind"] != "invoice") == await app.total()
        assert paid.fee_msat > 0


async def test_calls_side_by_side_neither_run_dry_nor_lose_anything(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse, *[sell()] * 6) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        statuses: list[int] = []

        async def call() -> None:
            statuses.append((await app.ask()).status_code)

        async with trio.open_nursery() as calls:
            for _ in range(6):
                calls.start_soon(call)
        assert statuses == [200] * 6
        secrets = [proof.secret for seen in gateway.seen for proof in seen.token.proofs]
        assert len(set(secrets)) == len(secrets)
        await app.settled()
        assert {paid.state for paid in await app.paid()} == {CallState.DONE}
        assert await app.total() == FUNDS - 6 * COST_MSAT


def killed_at(number: int, home: Path, mint: Running) -> bool:
    """Make a call in another process that dies before this commit; tells whether it came to that."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.integration.killed_customer"])
    child = context.Process(target=call_and_die, args=(str(home), mint.url, number))
    child.start()
    child.join(60)
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


async def test_a_client_killed_before_any_commit_of_a_call_finds_every_msat_again(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    step = 1 if os.environ.get("OTRTA_LONG") == "1" else 3
    number = 1 - step
    total = FUNDS
    async with scripted_gateway(purse, claim=give_change()) as gateway:
        async with customer(tmp_path, gateway.url, mint=mint.url):
            pass
        while True:
            number += step
            gateway.calls, gateway.taken = [sell()], []
            if not await trio.to_thread.run_sync(killed_at, number, tmp_path, mint):
                break
            async with customer(tmp_path, mint=mint.url, funds=0) as app:
                with trio.fail_after(20):
                    while await app.client.recover_once(at_once=True) or await app.client.swapper.swap_now():
                        pass
                total -= COST_MSAT * len(gateway.taken)
                assert (number, await app.total()) == (number, total)
                assert (await app.balance())["pending_msat"] == 0
    assert number > 6
