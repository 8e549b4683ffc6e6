"""Calls that run while their payment is redeemed: nothing leaves before that is certain."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from otrta_cli.processes import Running
from otrta_core import Token
from otrta_litellm import redemption
from otrta_litellm.asgi import App, Receive, Scope, Send
from otrta_litellm.gateway import Gateway
from otrta_litellm.ledger import earnings_msat, holdings_msat, swaps_msat
from otrta_litellm.schema import PaymentState
from tests.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.integration.purse import Purse
from tests.otrta_litellm.made_up import (
    PAID,
    STREAMED,
    Caller,
    answers,
    left,
    live,
    opened,
    state_of,
    streams,
    swapped,
)

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

SLOW = Fault("slow", silent_s=0.7)
EVENT = b'data: {"choices": [{"delta": {"content": "hello"}}]}\n\n'


@dataclass
class Hasty:
    """A gateway that redeems with the call, and the mint's proxy."""

    home: Path
    gateway: Gateway
    proxy: FaultProxy
    purse: Purse

    async def buy(self, token: Token, app: App, **values: Any) -> Caller:
        return await Caller(token, **values).call(app, self.gateway)

    def assert_even(self) -> None:
        store = str(self.home)
        assert holdings_msat(store) == earnings_msat(store) + swaps_msat(store)


@asynccontextmanager
async def opened_hasty(home: Path, mint: Running, **values: Any) -> AsyncIterator[Hasty]:
    with fault_proxy(mint.port) as proxy, Purse(mint.url, proxy.url) as purse:
        async with opened(str(home), proxy.url, redeem="with_call", **values) as gateway:
            yield Hasty(home, gateway, proxy, purse)


@pytest.fixture
async def hasty(tmp_path: Path, mint: Running) -> AsyncIterator[Hasty]:
    async with opened_hasty(tmp_path, mint) as hasty:
        yield hasty


def seen(hasty: Hasty, token: Token, then: App, states: list[PaymentState | None]) -> App:
    """A LiteLLM that notes the state of the payment for which it is called."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        states.append(await state_of(hasty.gateway, token))
        await then(scope, receive, send)

    return app


@pytest.mark.parametrize(
    ("app", "sums"),
    [(answers(), (PAID, 110, 0, PAID - 110)), (answers(b'{"error": {}}', 500), (PAID, 0, 0, PAID))],
    ids=["answer", "failure"],
)
async def test_a_call_runs_before_its_swap_is_done_and_its_answer_waits_for_it(
    hasty: Hasty, app: App, sums: tuple[int, ...]
) -> None:
    token, ran = hasty.purse.token(PAID), anyio.Event()
    caller = Caller(token)

    async def runs(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        ran.set()

    hasty.proxy.spoil("swap", SLOW)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller.call, runs, hasty.gateway)
        await ran.wait()
        assert await state_of(hasty.gateway, token) is PaymentState.REDEEMING
        assert caller.got == []
    assert caller.sums == sums
    hasty.assert_even()


async def test_no_byte_of_a_live_stream_leaves_before_its_swap_is_done(hasty: Hasty) -> None:
    token, began = hasty.purse.token(PAID), anyio.Event()
    caller = Caller(token, body=STREAMED, headers=live())

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        began.set()
        await streams(EVENT, EVENT, b"data: [DONE]\n\n")(scope, receive, send)

    hasty.proxy.spoil("swap", SLOW)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller.call, app, hasty.gateway)
        await began.wait()
        await anyio.wait_all_tasks_blocked()
        assert caller.got == []
    assert caller.content.count(b"hello") == 2
    assert b": x-cashu cashuB" in caller.content
    hasty.assert_even()


async def spent_meanwhile(hasty: Hasty, token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the token be spent elsewhere between the look at it and its swap."""
    till = (await hasty.gateway.checkout()).redemption
    look = till._refuse_spent

    async def overtaken(incoming: Any) -> None:
        await look(incoming)
        if {proof.Y for proof in incoming.token.proofs} == {proof.Y for proof in token.proofs}:
            hasty.purse.spend(token)

    monkeypatch.setattr(till, "_refuse_spent", overtaken)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_lost_swap_cancels_the_call_and_nothing_of_it_is_seen(
    hasty: Hasty, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    token, ended = hasty.purse.token(PAID), []
    await spent_meanwhile(hasty, token, monkeypatch)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await streams(EVENT)(scope, receive, send)
            await anyio.sleep_forever()
        except (anyio.get_cancelled_exc_class(), ConnectionError):
            ended.append(True)
            raise

    values: dict[str, Any] = {"body": STREAMED, "headers": live()} if stream else {}
    refused = await hasty.buy(token, app, **values)
    assert (refused.status, refused.code) == (400, "token_already_spent")
    assert b"hello" not in refused.content
    assert b"x-cashu" not in refused.told
    assert await state_of(hasty.gateway, token) is None
    assert ended == [True]
    assert hasty.gateway.running == set()
    hasty.assert_even()


async def test_after_a_lost_swap_calls_wait_for_their_payment_again(
    hasty: Hasty, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[PaymentState | None] = []
    for _ in range(2):
        token = hasty.purse.token(PAID)
        hasty.proxy.spoil("swap", SLOW)
        await hasty.buy(token, seen(hasty, token, answers(), states))
    lost = hasty.purse.token(PAID)
    await spent_meanwhile(hasty, lost, monkeypatch)
    assert (await hasty.buy(lost, answers())).status == 400
    token = hasty.purse.token(PAID)
    await hasty.buy(token, seen(hasty, token, answers(), states))
    assert states == [PaymentState.REDEEMING] * 2 + [PaymentState.REDEEMED]
    hasty.assert_even()


async def test_more_than_the_cap_is_never_at_risk(tmp_path: Path, mint: Running) -> None:
    async with opened_hasty(tmp_path, mint, at_risk_msat=PAID + 1) as hasty:
        states: list[PaymentState | None] = []
        first, second, large = hasty.purse.token(PAID), hasty.purse.token(PAID), hasty.purse.token(2 * PAID)
        within = anyio.Event()

        async def waits(scope: Scope, receive: Receive, send: Send) -> None:
            within.set()
            await answers()(scope, receive, send)

        hasty.proxy.spoil("swap", SLOW)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hasty.buy, first, waits)
            await within.wait()
            await hasty.buy(second, seen(hasty, second, answers(), states))
        await hasty.buy(large, seen(hasty, large, answers(), states))
        assert states == [PaymentState.REDEEMED] * 2
        hasty.assert_even()


async def test_a_token_that_is_spent_already_starts_no_call(hasty: Hasty) -> None:
    token, called = hasty.purse.token(PAID), []
    hasty.purse.spend(token)

    async def app(*_: Any) -> None:
        called.append(True)

    refused = await hasty.buy(token, app)
    assert (refused.status, refused.code) == (400, "token_already_spent")
    assert called == []
    assert await state_of(hasty.gateway, token) is None


async def test_a_mint_that_cannot_be_asked_leaves_the_token_untouched(hasty: Hasty) -> None:
    token = hasty.purse.token(PAID)
    hasty.proxy.spoil("checkstate", *[Fault("away", forwards=0, keeps=None)] * 5)
    refused = await hasty.buy(token, answers())
    assert (refused.status, refused.code) == (503, "mint_unreachable")
    assert b"untouched" in refused.content
    assert hasty.purse.states(token) == {"UNSPENT"}
    assert await state_of(hasty.gateway, token) is None
    hasty.proxy.reset()
    assert (await hasty.buy(token, answers())).status == 200


async def test_a_swap_that_is_not_certain_in_time_gives_no_answer_and_everything_back(
    hasty: Hasty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redemption, "REDEEM_WITHIN_S", 0.2)
    token = hasty.purse.token(PAID)
    hasty.proxy.spoil("swap", Fault("slow", silent_s=1.5))
    refused = await hasty.buy(token, answers())
    assert (refused.status, refused.code) == (503, "mint_unreachable")
    assert b"journalled" in refused.content
    await swapped(hasty.gateway)
    await hasty.gateway._end_calls()
    assert json.loads((await left(hasty.gateway, token)).content)["change_msat"] == PAID
    hasty.assert_even()


async def test_an_app_that_breaks_before_the_swap_is_done_is_settled_all_the_same(hasty: Hasty) -> None:
    token = hasty.purse.token(PAID)

    async def breaks(*_: Any) -> None:
        raise RuntimeError("broken")

    hasty.proxy.spoil("swap", SLOW)
    served = await hasty.buy(token, breaks)
    assert (served.status, served.sums) == (500, (PAID, 0, 0, PAID))
    hasty.assert_even()
