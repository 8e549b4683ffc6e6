"""What a gateway does besides calls: it starts, recovers, and turns away what it cannot hold."""

import json
import socket
from dataclasses import replace
from typing import Any

import anyio
import pytest

from otrta_cli.processes import Running
from otrta_core import PaymentRequest
from otrta_litellm import gateway as module
from otrta_litellm import redemption
from otrta_litellm.asgi import Receive, Scope, Send
from otrta_litellm.gateway import Gateway
from otrta_litellm.schema import PaymentState
from tests.fault_proxy import Fault, fault_proxy
from tests.integration.purse import Purse
from tests.otrta_litellm.made_up import (
    PAID,
    Caller,
    answers,
    left,
    opened,
    state_of,
    swapped,
)
from tests.otrta_litellm.samples import View, settings

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def test_recovery_leaves_running_calls_alone(gateway: Gateway, purse: Purse) -> None:
    token = purse.token(PAID)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await gateway._recover_swaps()
        await gateway._end_calls()
        assert await state_of(gateway, token) is PaymentState.REDEEMED
        await answers()(scope, receive, send)

    assert (await Caller(token).call(app, gateway)).sums[1] == 110


async def test_what_could_not_be_journalled_was_never_taken(
    gateway: Gateway, purse: Purse, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("disk full")

    token = purse.token(PAID)
    wallet = await gateway.wallet()
    monkeypatch.setattr(wallet, "queue_receive", broken)
    caller = await Caller(token).call(answers(), gateway)
    assert (caller.status, caller.code) == (500, "internal_error")
    assert b"disk full" not in caller.content
    logged = str(capsys.readouterr())
    assert "gate_failed" in logged
    assert "disk full" not in logged
    assert await state_of(gateway, token) is None
    assert purse.states(token) == {"UNSPENT"}
    monkeypatch.undo()
    assert (await Caller(token).call(answers(), gateway)).status == 200


async def test_too_much_in_memory_turns_calls_away_untouched(gateway: Gateway, purse: Purse) -> None:
    token = purse.token(PAID)
    gateway.held.total = gateway.held.limit
    caller = await Caller(token).call(answers(), gateway)
    assert (caller.status, caller.code) == (503, "overloaded")
    assert b"retry-after" in caller.told
    assert gateway.held.total == gateway.held.limit
    gateway.held.total = 0
    assert purse.states(token) == {"UNSPENT"}
    assert await state_of(gateway, token) is None


async def test_bodies_that_are_being_read_count_as_held(place: str, mint: Running) -> None:
    async with opened(place, mint.url, buffer_total_bytes=5000) as gateway:
        big = b'{"model": "' + b"x" * 6000 + b'"}'
        assert (await Caller(None, body=big).call(answers(), gateway)).code == "overloaded"
        assert gateway.held.total == 0
        assert (await Caller(None).call(answers(), gateway)).status == 402


async def test_a_calls_body_counts_as_held_until_the_call_is_over(
    place: str, mint: Running, purse: Purse
) -> None:
    big = json.dumps({"model": "demo-chat", "messages": [{"role": "user", "content": "x" * 3000}]}).encode()
    async with opened(place, mint.url, buffer_total_bytes=5000) as gateway:
        begun, let_go = anyio.Event(), anyio.Event()

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            begun.set()
            await let_go.wait()
            await answers()(scope, receive, send)

        first, token = Caller(purse.token(PAID), body=big), purse.token(PAID)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.call, slow, gateway)
            await begun.wait()
            second = await Caller(token, body=big).call(answers(), gateway)
            let_go.set()
        assert (first.status, second.status, second.code) == (200, 503, "overloaded")
        assert gateway.held.total == 0
        assert await state_of(gateway, token) is None
        assert (await Caller(token, body=big).call(answers(), gateway)).status == 200


async def test_a_gateway_that_is_not_ready_says_so(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STARTUP_S", 0.05)
    view: Any = View()
    gateway = Gateway(settings(store=place), view)
    caller = await Caller(None).call(answers(), gateway)
    assert (caller.status, caller.code) == (503, "starting")


async def test_a_silent_mint_keeps_nobody_from_paying_with_anothers_tokens(
    place: str, mint: Running, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_LOOK_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with opened(place, url, mint.url) as gateway:
            assert (await Caller(purse.token(PAID)).call(answers(), gateway)).sums[1] == 110
            asked = await Caller(None).call(answers(), gateway)
            assert asked.status == 402
            assert PaymentRequest.parse(asked.told[b"x-cashu"].decode()).mints == (mint.url,)
            info = await Caller(None, "/v1/cashu/info", "GET").call(answers(), gateway)
            assert [m["url"] for m in json.loads(info.content)["mints"]] == [mint.url]
            other = replace(purse.token(PAID), mint=url)
            refused = await Caller(other).call(answers(), gateway)
            assert (refused.status, refused.code) == (503, "mint_unreachable")


async def test_a_swap_that_takes_too_long_is_journalled_and_ended_by_recovery(
    place: str, mint: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redemption, "REDEEM_WITHIN_S", 0.2)
    with fault_proxy(mint.port) as proxy, Purse(mint.url, proxy.url) as purse:
        async with opened(place, proxy.url) as gateway:
            token = purse.token(PAID)
            proxy.spoil("swap", Fault("slow", silent_s=1.0))
            caller = await Caller(token).call(answers(), gateway)
            assert (caller.status, caller.code) == (503, "mint_unreachable")
            assert b"journalled" in caller.content
            assert await state_of(gateway, token) is PaymentState.REDEEMING
            await gateway._recover_swaps()  # which leaves alone what the queue is at
            await swapped(gateway)
            await gateway._end_calls()
            found = await left(gateway, token)
            assert json.loads(found.content)["change_msat"] == PAID


async def test_a_token_of_which_another_gateway_was_first_is_spent(gateway: Gateway, purse: Purse) -> None:
    token = purse.token(PAID)
    wallet = await gateway.wallet()

    async def overtaken(_: object) -> None:
        purse.spend(token)

    wallet.check_dleq = overtaken  # type: ignore[method-assign]
    caller = await Caller(token).call(answers(), gateway)
    assert (caller.status, caller.code) == (400, "token_already_spent")
    assert await state_of(gateway, token) is None


async def test_without_any_mint_nothing_can_be_asked_for(place: str) -> None:
    async with opened(place, "http://127.0.0.1:1") as gateway:
        caller = await Caller(None).call(answers(), gateway)
    assert (caller.status, caller.code) == (503, "mint_unreachable")
