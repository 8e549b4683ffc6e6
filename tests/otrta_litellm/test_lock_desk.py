"""Locked tokens at a gateway whose mint is away, refuses, or lies."""

import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import update

from otrta_cli.processes import Running
from otrta_core import P2PK, PaymentRequest, Proof, Token, schnorr, split_amount
from otrta_litellm import gateway as module
from otrta_litellm.desk import Desk as OperatorsDesk
from otrta_litellm.gateway import Gateway
from otrta_litellm.ledger import earnings_msat, holdings_msat, losses_msat, swaps_msat
from otrta_litellm.lock_desk import next_try
from otrta_litellm.schema import PaymentState
from otrta_wallet import Operation, Wallet, journal
from otrta_wallet.records import new_operation
from otrta_wallet.schema import operations
from tests.fault_proxy import NOT_THESE, Fault, FaultProxy, fault_proxy
from tests.integration.locked import locked
from tests.integration.purse import Purse
from tests.otrta_litellm.made_up import PAID, Caller, answers, left, opened, state_of, swapped

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

AWAY = Fault("away", forwards=0, keeps=None)
REFUSED = Fault("refused", forwards=0, answer=NOT_THESE)
DEAR = json.dumps({"usage": {"prompt_tokens": 10, "completion_tokens": 2000}}).encode()
COST = 110


class Desk:
    """A gateway before a mint that fails when it is told to, with some money of its own."""

    def __init__(self, home: Path, gateway: Gateway, wallet: Wallet, proxy: FaultProxy, purse: Purse) -> None:
        self.home, self.gateway, self.wallet, self.proxy, self.purse = home, gateway, wallet, proxy, purse

    def token(self, *tags: list[str]) -> Token:
        key = self.wallet.lock_keys.public
        return self.purse.token(PAID, dleq=True, secret=locked(key, *tags))

    async def buy(self, token: Token, app: Any = None) -> Caller:
        return await Caller(token).call(app or answers(), self.gateway)

    async def age(self, seconds: float) -> None:
        """Let what waits for its mint have waited so much longer."""

        def older(conn: Any, _now: float) -> None:
            query = update(operations).where(operations.c.kind == "offline")
            made, changed = operations.c.created_at - seconds, operations.c.changed_at - seconds
            conn.execute(query.values(created_at=made, changed_at=changed))

        await self.wallet.transactions.run(older)

    async def let_spend(self, proofs: Sequence[Proof]) -> None:
        """Let the mint forget a lock, and somebody else spend what it was on."""
        inputs = await self.wallet.lock_keys.unlocked(proofs)
        signed = [
            {"amount": p.amount, "id": p.id, "secret": p.secret, "C": p.C, "witness": p.witness}
            for p in inputs
        ]
        amount = sum(proof.amount for proof in proofs)
        self.purse._signed("/v1/swap", {"inputs": signed}, split_amount(amount), "msat")

    async def work_off(self) -> None:
        await swapped(self.gateway)
        await self.gateway._recover_swaps()
        assert self.gateway._locks is not None
        await self.gateway._locks.refresh()
        await self.gateway._locks.work_off()

    def assert_even(self, lost: int = 0) -> None:
        """What is held is what was earned, less what is lost."""
        store = str(self.home)
        assert losses_msat(store) == lost
        assert holdings_msat(store) == earnings_msat(store) + swaps_msat(store) - lost

    def assert_really_there(self) -> None:
        def held(conn: Any) -> list[str]:
            return list(conn.exec_driver_sql("select y from proofs where status = 'available'").scalars())

        with self.wallet.transactions._engine.begin() as conn:
            assert set(self.purse.states_of(held(conn))) == {"UNSPENT"}


@pytest.fixture(autouse=True)
def no_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the gateway does again and again is done when a test says so."""
    monkeypatch.setattr(module, "RECOVER_EVERY_S", 3600.0)


@asynccontextmanager
async def a_desk(home: Path, mint: Running, **values: Any) -> AsyncIterator[Desk]:
    with fault_proxy(mint.port) as proxy, Purse(mint.url, proxy.url) as purse:
        async with opened(str(home), proxy.url, **values) as gateway:
            desk = Desk(home, gateway, await gateway.wallet(), proxy, purse)
            if values.get("lock") != "required":
                earned = await desk.buy(purse.token(PAID * 3), answers(DEAR))
                assert earned.sums[1] == 10_010
            yield desk


@pytest.fixture
async def desk(tmp_path: Path, mint: Running) -> AsyncIterator[Desk]:
    async with a_desk(tmp_path, mint) as desk:
        yield desk


async def test_locked_tokens_are_served_while_their_mint_is_away_and_redeemed_later(desk: Desk) -> None:
    desk.proxy.spoil("swap|checkstate|restore", *[AWAY] * 60)
    tokens = [desk.token() for _ in range(2)]
    for token in tokens:
        served = await desk.buy(token)
        assert served.sums == (PAID, COST, 0, PAID - COST) or b"x-cashu" not in served.told
        assert served.status == 200
    assert desk.purse.states(tokens[1]) == {"UNSPENT"}
    await swapped(desk.gateway)
    desk.assert_even()
    balance = await OperatorsDesk(desk.gateway).balance()
    assert balance["locked_waiting_msat"] == 2 * PAID
    desk.proxy.reset()
    with anyio.fail_after(30):
        while {state for token in tokens for state in desk.purse.states(token)} != {"SPENT"}:
            await desk.age(70)
            await desk.work_off()
    await desk.gateway._end_calls()
    for token in tokens:
        assert json.loads((await left(desk.gateway, token)).content)["change_msat"] == PAID - COST
    desk.assert_even()
    desk.assert_really_there()


async def test_no_more_than_the_cap_waits_for_a_mint(tmp_path: Path, mint: Running) -> None:
    async with a_desk(tmp_path, mint, lock_max_mint_msat=PAID + 5000) as desk:
        first, second = desk.token(), desk.token()
        desk.proxy.spoil("swap", Fault("slow", silent_s=3.0))
        assert (await desk.buy(first)).status == 200
        refused = await desk.buy(second)
        assert (refused.status, refused.code) == (503, "locks_unavailable")
        assert b"retry-after" in refused.told
        assert b"untouched" in refused.content
        assert await state_of(desk.gateway, second) is None
        await swapped(desk.gateway)
        assert (await desk.buy(second)).status == 200
        await swapped(desk.gateway)
        desk.assert_even()


async def test_after_an_outage_of_the_grace_time_no_more_are_taken(desk: Desk) -> None:
    desk.proxy.spoil("swap", *[REFUSED] * 3)
    assert (await desk.buy(desk.token())).status == 200
    await swapped(desk.gateway)
    await desk.age(299)
    assert (await desk.buy(desk.token())).status == 200
    await swapped(desk.gateway)
    await desk.age(299)
    refused = await desk.buy(desk.token())
    assert (refused.status, refused.code) == (503, "locks_unavailable")
    desk.proxy.reset()
    await desk.work_off()
    assert (await desk.buy(desk.token())).status == 200
    await swapped(desk.gateway)
    desk.assert_even()


async def test_a_locked_token_that_its_mint_let_somebody_else_spend_is_a_loss(desk: Desk) -> None:
    token = desk.token()
    await desk.let_spend(token.proofs)
    assert (await desk.buy(token)).status == 200
    await swapped(desk.gateway)
    desk.assert_even(lost=PAID)
    balance = await OperatorsDesk(desk.gateway).balance()
    assert (balance["locked_waiting_msat"], balance["locked_lost_msat"]) == (0, PAID)
    refused = await desk.buy(desk.token())
    assert (refused.status, refused.code) == (400, "lock_not_accepted")
    assert (await desk.buy(desk.purse.token(PAID))).status == 200
    desk.assert_even(lost=PAID)


@pytest.mark.parametrize("others", [0, 2])
async def test_of_a_token_that_is_spent_in_part_the_rest_is_redeemed_and_the_part_is_lost(
    desk: Desk, others: int
) -> None:
    token, gone = desk.token(), 0
    for proof in token.proofs[1:3]:
        await desk.let_spend([proof])
        gone += proof.amount
    if others:  # the first one's swap keeps the others until they share one, which is refused for all
        desk.proxy.spoil("swap", Fault("slow", silent_s=1.0))
    for paid in (*(desk.token() for _ in range(others)), token):
        assert (await desk.buy(paid)).status == 200
    await swapped(desk.gateway)
    assert desk.purse.states(token) == {"SPENT", "UNSPENT"}
    await desk.age(70)
    await desk.work_off()
    assert desk.purse.states(token) == {"SPENT"}
    balance = await OperatorsDesk(desk.gateway).balance()
    assert (balance["locked_waiting_msat"], balance["locked_lost_msat"]) == (0, gone)
    desk.assert_even(lost=gone)
    desk.assert_really_there()


async def test_what_a_mint_refuses_for_too_long_is_lost_until_it_is_redeemed_after_all(desk: Desk) -> None:
    desk.proxy.spoil("swap", *[REFUSED] * 6)
    token = desk.token()
    assert (await desk.buy(token)).status == 200
    await swapped(desk.gateway)
    await desk.age(100)
    await desk.work_off()
    desk.assert_even()  # it may still come to its senses
    await desk.age(400)
    await desk.work_off()
    desk.assert_even(lost=PAID)
    desk.proxy.reset()
    refused = await desk.buy(desk.token())
    assert (refused.status, refused.code) == (400, "lock_not_accepted")
    await desk.age(400)
    await desk.work_off()
    assert desk.purse.states(token) == {"SPENT"}
    desk.assert_even()
    await desk.work_off()
    assert (await desk.buy(desk.token())).status == 200  # it has made good what it owed
    desk.assert_really_there()


async def test_change_waits_for_its_own_token_where_there_is_no_other_money(
    tmp_path: Path, mint: Running
) -> None:
    async with a_desk(tmp_path, mint, lock="required") as desk:
        desk.proxy.spoil("swap", Fault("slow", silent_s=0.5))
        served = await desk.buy(desk.token())
        assert served.sums == (PAID, COST, 0, PAID - COST)
        assert Token.parse(served.told[b"x-cashu"].decode()).amount == PAID - COST
        desk.assert_even()


async def test_where_locks_are_required_the_request_says_so(tmp_path: Path, mint: Running) -> None:
    async with a_desk(tmp_path, mint, lock="required") as desk:
        asked = await Caller(None).call(answers(), desk.gateway)
        request = PaymentRequest.parse(asked.told[b"x-cashu"].decode())
        assert request.nut10 == P2PK(desk.wallet.lock_keys.public).to_option()
        info = json.loads((await Caller(None, "/v1/cashu/info", "GET").call(answers(), desk.gateway)).content)
        assert info["lock"]["policy"] == "required"
        open_ = desk.purse.token(PAID)
        refused = await desk.buy(open_)
        assert (refused.status, refused.code) == (400, "lock_not_accepted")
        assert desk.purse.states(open_) == {"UNSPENT"}


async def test_where_locks_are_off_they_are_not_named_and_still_given_back(
    tmp_path: Path, mint: Running
) -> None:
    async with a_desk(tmp_path, mint, lock="off") as desk:
        info = json.loads((await Caller(None, "/v1/cashu/info", "GET").call(answers(), desk.gateway)).content)
        assert info["lock"] == {"policy": "off"}
        token = desk.token()
        assert (await desk.buy(token)).code == "lock_not_accepted"
        given = await left(desk.gateway, token)
        assert (given.status, json.loads(given.content)["change_msat"]) == (200, PAID)
        assert await state_of(desk.gateway, token) is PaymentState.SETTLED
        desk.assert_even()


def stored(created_at: float, changed_at: float, due_at: float | None) -> Operation:
    made = new_operation("offline", "https://mint.example", "msat", 1, 0, created_at)
    return replace(made, changed_at=changed_at, due_at=due_at)


@pytest.mark.parametrize(
    ("age_s", "due_in_s", "pause_s"),
    [
        (0, None, 2), (200, None, 20), (10_000, None, 60), (10_000, 600, 60),
        (10_000, 61, 60), (10_000, 7, 7), (10_000, 0, 0), (10_000, -500, 0),
    ],
)  # fmt: skip
def test_a_token_is_tried_more_rarely_with_its_age_but_when_it_is_due(
    age_s: float, due_in_s: float | None, pause_s: float
) -> None:
    now = 1e9
    due_at = None if due_in_s is None else now + due_in_s
    assert next_try(stored(now - age_s, now, due_at)) == now + pause_s


async def test_what_is_due_by_half_of_its_locktime_goes_first_and_overdue_no_more_is_taken(
    desk: Desk,
) -> None:
    real, ahead_s = time.time, 0.0
    desk.wallet.transactions._clock = lambda: real() + ahead_s
    desk.proxy.spoil("swap", *[REFUSED] * 60)
    late, soon, never = (
        desk.token(["locktime", str(int(real()) + lock_s)]) if lock_s else desk.token()
        for lock_s in (20_000, 4000, 0)
    )
    for token in (late, soon, never):
        assert (await desk.buy(token)).status == 200
    await swapped(desk.gateway)
    waiting = await desk.wallet.transactions.run(lambda conn, _now: journal.offline(conn))
    dues = [round(op.due_at - real(), -2) if op.due_at else None for op in waiting]
    assert dues == [10_000, 2000, None]
    ahead_s = 2100.0
    await desk.age(-2100)  # so that nothing but the locktime is late
    refused = await desk.buy(desk.token())
    assert (refused.status, refused.code) == (503, "locks_unavailable")
    put = []
    queue = desk.gateway._queue
    assert queue is not None
    putting = queue.put
    queue.put = lambda operation: put.append(operation.due_at) or putting(operation)  # type: ignore[method-assign,func-returns-value]
    await desk.age(120)
    desk.proxy.reset()
    await desk.work_off()
    assert put == [waiting[1].due_at, waiting[0].due_at, None]
    for token in (late, soon, never):
        assert desk.purse.states(token) == {"SPENT"}
    assert (await desk.buy(desk.token())).status == 200
    await swapped(desk.gateway)
    desk.assert_even()


async def test_a_token_whose_lock_was_opened_for_a_mint_that_refused_it_pays_nothing_anywhere(
    desk: Desk,
) -> None:
    token = desk.token()
    desk.proxy.spoil("swap", *[REFUSED] * 3)
    assert (await left(desk.gateway, token)).status == 400
    desk.proxy.reset()
    refused = await desk.buy(token)
    assert (refused.status, refused.code) == (400, "lock_not_accepted")
    assert desk.purse.states(token) == {"UNSPENT"}
    given = await left(desk.gateway, token)
    assert (given.status, json.loads(given.content)["change_msat"]) == (200, PAID)
    desk.assert_even()


async def test_what_is_locked_to_a_retired_key_pays_nothing_and_is_given_back(desk: Desk) -> None:
    old = schnorr.public_key(bytes(31) + b"\7")
    token = desk.purse.token(PAID, dleq=True, secret=locked(old))
    assert (await left(desk.gateway, token)).status == 404
    assert await desk.wallet.lock_keys.add(bytes(31) + b"\7") == old
    assert (await desk.buy(token)).code == "lock_not_accepted"
    given = await left(desk.gateway, token)
    assert (given.status, json.loads(given.content)["change_msat"]) == (200, PAID)
    desk.assert_even()


async def test_a_gateway_that_dies_before_the_swap_redeems_it_when_it_is_back(
    tmp_path: Path, mint: Running
) -> None:
    with fault_proxy(mint.port) as proxy, Purse(mint.url, proxy.url) as purse:
        async with opened(str(tmp_path), proxy.url) as gateway:
            key = (await gateway.wallet()).lock_keys.public
            token = purse.token(PAID, dleq=True, secret=locked(key))
            proxy.spoil("swap", *[AWAY] * 9)
            taken = anyio.Event()

            async def dies(*_: Any) -> None:
                taken.set()
                await anyio.sleep_forever()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(Caller(token).call, dies, gateway)
                await taken.wait()
                assert await state_of(gateway, token) is PaymentState.REDEEMED
                tasks.cancel_scope.cancel()
        proxy.reset()
        async with opened(str(tmp_path), proxy.url) as gateway:
            with anyio.fail_after(30):
                while (found := await left(gateway, token)).status != 200:
                    await gateway._end_calls()
            assert json.loads(found.content)["change_msat"] == PAID
            assert purse.states(token) == {"SPENT"}
            assert holdings_msat(str(tmp_path)) == earnings_msat(str(tmp_path)) == 0


async def test_a_mint_that_has_not_said_whether_it_keeps_locks_takes_none(desk: Desk) -> None:
    assert desk.gateway._locks is not None
    desk.gateway._locks._keeps_locks.clear()
    refused = await desk.buy(desk.token())
    assert (refused.status, refused.code) == (503, "mint_unreachable")
    desk.gateway._locks._keeps_locks[desk.proxy.url] = False
    refused = await desk.buy(desk.token())
    assert (refused.status, refused.code) == (400, "lock_not_accepted")
