"""Several workers on one store: whose a payment is, and who ends a dead worker's."""

from collections.abc import AsyncIterator, Iterator

import anyio
import pytest
from sqlalchemy import Connection, Engine, insert, select, update

from otrta_cli.processes import Running
from otrta_core import Settlement, Token
from otrta_litellm import payments, till, turns
from otrta_litellm.asgi import App, Receive, Scope, Send
from otrta_litellm.gateway import Gateway
from otrta_litellm.payments import LeaseLost, Payment, PaymentParticipant
from otrta_litellm.schema import PaymentState
from otrta_litellm.schema import payments as payments_table
from otrta_wallet.database import open_engine
from otrta_wallet.schema import workers as rows_of_workers
from tests.integration.purse import Purse
from tests.otrta_litellm.made_up import PAID, STREAMED, Caller, answers, left, live, opened, state_of
from tests.otrta_litellm.samples import offer, token
from tests.otrta_litellm.test_meter import said
from tests.otrta_litellm.test_payments import begin, done, settle, swap_of

SETTLED = Settlement(paid=10_000, fee=0, charged=110, change=9890)
LONG_AGO = 0.0
FAR = 4e9


@pytest.fixture
def shared_engine(shared_place: str) -> Iterator[Engine]:
    engine = open_engine(shared_place)
    yield engine
    engine.dispose()


class Worker:
    """One of several, as the store sees it."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine.execution_options(otrta_worker=name)
        self.name = name
        with engine.begin() as conn:
            conn.execute(insert(rows_of_workers).values(id=name, renewed_at=FAR))

    def die(self) -> None:
        with self.engine.begin() as conn:
            bury(conn, self.name)

    def received(self, *secrets: str) -> Payment:
        with self.engine.begin() as conn:
            return payments.receive(conn, 1.0, offer(token(*secrets)))

    def redeemed(self, *secrets: str) -> Payment:
        payment = self.received(*secrets)
        with self.engine.begin() as conn:
            begin(conn, payment)
            PaymentParticipant(lambda: 2.0).operation_done(conn, swap_of(conn, payment, *secrets))
        return payment

    def take_over(self) -> int:
        with self.engine.begin() as conn:
            return payments.take_over(conn, 5.0)

    def owns(self, state: PaymentState) -> list[str]:
        with self.engine.begin() as conn:
            return [payment.id for payment in payments.ours_in_state(conn, 5.0, state)]


def bury(conn: Connection, worker_id: str) -> None:
    conn.execute(update(rows_of_workers).where(rows_of_workers.c.id == worker_id).values(renewed_at=LONG_AGO))


@pytest.fixture
def crew(shared_engine: Engine) -> tuple[Worker, Worker]:
    return Worker(shared_engine, "one"), Worker(shared_engine, "two")


def test_a_living_workers_payments_are_its_own(crew: tuple[Worker, Worker]) -> None:
    one, two = crew
    payment = one.redeemed("a")
    assert two.take_over() == 0
    assert (one.owns(PaymentState.REDEEMED), two.owns(PaymentState.REDEEMED)) == ([payment.id], [])


def test_a_dead_workers_payments_are_taken_over_once(crew: tuple[Worker, Worker]) -> None:
    one, two = crew
    ids = {one.redeemed("a").id, one.received("b").id, one.redeemed("c").id}
    with one.engine.begin() as conn:
        settle(conn, payments.load(conn, max(ids)))
    one.die()
    assert two.take_over() == len(ids)
    assert two.take_over() == 0
    with two.engine.begin() as conn:
        taken = [payments.load(conn, payment_id) for payment_id in ids]
    assert {(payment.owner, payment.lease) for payment in taken} == {("two", 1)}


def test_what_is_over_or_has_an_open_swap_is_not_taken_over(crew: tuple[Worker, Worker]) -> None:
    one, two = crew
    rejected, redeeming, claimed = one.received("a"), one.received("b"), one.redeemed("c")
    with one.engine.begin() as conn:
        payments.reject(conn, 3.0, rejected.id)
        begin(conn, redeeming)
        payments.settle(conn, 3.0, claimed, SETTLED, "served")
        payments.put_change(conn, 3.0, claimed, "cashuB")
    one.die()
    assert two.take_over() == 0


def test_workers_that_find_the_same_dead_one_do_not_wait_for_each_other(crew: tuple[Worker, Worker]) -> None:
    one, two = crew
    three = Worker(one.engine, "three")
    one.redeemed("a")
    one.die()
    with two.engine.begin() as conn:
        assert payments.take_over(conn, 5.0) == 1
        assert three.take_over() == 0
    assert three.owns(PaymentState.REDEEMED) == []


def test_late_work_of_a_dead_worker_changes_nothing(crew: tuple[Worker, Worker]) -> None:
    one, two = crew
    redeemed, owed = one.redeemed("a"), one.redeemed("b")
    with one.engine.begin() as conn:
        settle(conn, owed)
    one.die()
    two.take_over()
    with one.engine.begin() as conn:
        assert not payments.settle(conn, 6.0, redeemed, SETTLED, "served")
        assert not payments.put_change(conn, 6.0, owed, "cashuBlate")
        assert not payments.note_live(conn, 6.0, redeemed, 40)
        assert payments.load(conn, redeemed.id).state is PaymentState.REDEEMED
        assert payments.load(conn, owed.id).change_token is None


def test_a_payment_that_comes_back_to_its_first_owner_is_still_fenced(crew: tuple[Worker, Worker]) -> None:
    one, two = crew
    payment = one.redeemed("a")
    one.die()
    two.take_over()
    with one.engine.begin() as conn:
        conn.execute(update(rows_of_workers).where(rows_of_workers.c.id == "one").values(renewed_at=FAR))
    two.die()
    assert one.take_over() == 1
    with one.engine.begin() as conn:
        assert not payments.settle(conn, 6.0, payment, SETTLED, "served")
        assert payments.settle(conn, 6.0, payments.load(conn, payment.id), SETTLED, "recovered")


def test_a_swap_is_not_begun_for_a_payment_that_was_taken_over(crew: tuple[Worker, Worker]) -> None:
    one, two = crew
    payment = one.received("a")
    one.die()
    two.take_over()
    with pytest.raises(LeaseLost), one.engine.begin() as conn:
        begin(conn, payment)
    assert two.owns(PaymentState.RECEIVED) == [payment.id]


def test_a_new_life_of_the_same_worker_fences_the_one_before(engine: Engine) -> None:
    with engine.begin() as conn:
        payment = payments.receive(conn, 1.0, offer(token("a")))
        begin(conn, payment)
        done(conn, payment)
        payments.begin_life(conn, 2.0)
        assert not payments.settle(conn, 3.0, payment, SETTLED, "served")
        [again] = payments.ours_in_state(conn, 3.0, PaymentState.REDEEMED)
        assert payments.settle(conn, 3.0, again, SETTLED, "recovered")


def test_what_a_call_runs_is_not_among_what_is_to_be_ended(engine: Engine) -> None:
    with engine.begin() as conn:
        payment = payments.receive(conn, 1.0, offer(token("a")))
        begin(conn, payment)
        done(conn, payment)
        assert payments.ours_in_state(conn, 3.0, PaymentState.REDEEMED, {payment.id}) == []
        settle(conn, payment)
        assert payments.ours_with_change_due(conn, 3.0, {payment.id}) == []
        assert [p.id for p in payments.ours_with_change_due(conn, 3.0, {"other"})] == [payment.id]


def test_one_worker_at_a_time_has_the_turn(crew: tuple[Worker, Worker]) -> None:
    one, two = crew

    def take(worker: Worker, now: float, name: str = "recover") -> bool:
        with worker.engine.begin() as conn:
            return turns.take_turn(conn, now, name)

    assert (take(one, 10.0), take(two, 11.0), take(two, 11.0, "other")) == (True, False, True)
    assert take(one, 12.0)
    with two.engine.begin() as conn:
        turns.leave_turn(conn, 13.0, "recover")
    assert not take(two, 13.0)
    with one.engine.begin() as conn:
        turns.leave_turn(conn, 13.0, "recover")
    assert take(two, 14.0)
    assert not take(one, 14.0 + turns.LONGEST_S)
    assert take(one, 15.0 + turns.LONGEST_S)
    one.die()
    assert take(two, 16.0 + turns.LONGEST_S)


def test_each_worker_looks_for_other_claims(crew: tuple[Worker, Worker]) -> None:
    one, two = crew
    payment = one.redeemed("a")
    with one.engine.begin() as conn:
        settle(conn, payment)
        payments.put_change(conn, 3.0, payment, "cashuB")
    with one.engine.begin() as here, two.engine.begin() as there:
        assert [p.id for p in payments.take_claims_to_check(here, 100.0)] == [payment.id]
        assert payments.take_claims_to_check(there, 100.0) == []
    with two.engine.begin() as conn:
        assert payments.take_claims_to_check(conn, 101.0) == []


@pytest.fixture
async def neighbours(
    shared_place: str, mint: Running, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """Two gateways on one store."""
    monkeypatch.setattr(till, "LOG_WAIT_S", 0.05)
    async with opened(shared_place, mint.url) as here, opened(shared_place, mint.url) as there:
        yield here, there


async def fall_asleep(gateway: Gateway) -> None:
    """Let a worker stop being heard of, while its calls run on."""
    wallet = await gateway.wallet()
    wallet.worker._stop.set()
    wallet.worker._thread.join()
    wallet.worker._renewed_at = -1e9
    await wallet.transactions.run(lambda conn, _now: bury(conn, wallet.worker.id))


def during(call: App, app: App) -> App:
    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        await call(scope, receive, send)
        await app(scope, receive, send)

    return both


async def paid_back(gateway: Gateway, purse: Purse, token: Token) -> int:
    """What the change route gives back, which is really there."""
    with anyio.fail_after(30):
        while (found := await left(gateway, token)).status == 202:
            await gateway._end_calls()
    assert found.status == 200
    change = Token.parse(found.told[b"x-cashu"].decode())
    assert purse.states(change) == {"UNSPENT"}
    return change.amount


@pytest.mark.anyio
@pytest.mark.integration
class TestTwoGateways:
    async def test_neither_settles_what_the_other_runs(
        self, neighbours: tuple[Gateway, Gateway], purse: Purse
    ) -> None:
        here, there = neighbours
        paid = purse.token(PAID)

        async def look(*_: object) -> None:
            await there._recover_swaps()
            await there._end_calls()
            assert await state_of(there, paid) is PaymentState.REDEEMED

        caller = await Caller(paid).call(during(look, answers()), here)
        assert caller.sums == (PAID, 110, 0, PAID - 110)
        assert (await left(there, paid)).told[b"x-cashu"] == caller.told[b"x-cashu"]

    async def test_a_worker_that_was_taken_for_dead_answers_without_what_was_not_paid(
        self, neighbours: tuple[Gateway, Gateway], purse: Purse
    ) -> None:
        here, there = neighbours
        paid = purse.token(PAID)

        async def sleep(*_: object) -> None:
            await fall_asleep(here)
            await there._end_calls()

        caller = await Caller(paid).call(during(sleep, answers()), here)
        assert (caller.status, caller.code) == (500, "internal_error")
        assert b"hello" not in caller.content
        assert b"x-cashu" not in caller.told
        assert await paid_back(there, purse, paid) == PAID
        assert here.running == set()

    async def test_a_live_stream_stops_when_its_worker_cannot_say_that_it_is_alive(
        self, neighbours: tuple[Gateway, Gateway], purse: Purse
    ) -> None:
        here, there = neighbours
        paid = purse.token(PAID)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": said("paid for"), "more_body": True})
            wallet = await here.wallet()
            [payment] = await wallet.transactions.run(payments.ours_in_state, PaymentState.REDEEMED)
            assert await wallet.transactions.run(payments.note_live, payment, 40)
            await fall_asleep(here)
            await send({"type": "http.response.body", "body": said("not paid"), "more_body": True})
            raise AssertionError("it was passed on")

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                caller = Caller(paid, headers=live(), body=STREAMED)
                tasks.start_soon(caller.call, app, here)
        assert b"paid for" in caller.content
        assert b"not paid" not in caller.content
        await there._end_calls()
        wallet = await there.wallet()
        query = select(payments_table).where(payments_table.c.state == PaymentState.SETTLED)
        [row] = await wallet.transactions.run(lambda conn, _now: list(conn.execute(query)))
        assert row.cost_msat > 0
        assert row.cost_msat + row.change_msat == PAID
        assert await paid_back(there, purse, paid) == row.change_msat

    async def test_a_dead_workers_debt_is_paid_by_another(
        self, neighbours: tuple[Gateway, Gateway], purse: Purse, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here, there = neighbours
        paid = purse.token(PAID)

        async def no_swap(*_: object) -> None:
            raise RuntimeError("away")

        def no_change(*_: object, **__: object) -> None:
            return None

        with monkeypatch.context() as broken:
            broken.setattr("otrta_litellm.change.at_hand.take", no_change)
            broken.setattr(await here.wallet(), "hold_exact", no_swap)
            caller = await Caller(paid).call(answers(), here)
        assert caller.sums == (PAID, 110, 0, PAID - 110)
        assert b"x-cashu" not in caller.told
        owed = await left(there, paid)
        assert (owed.status, b"retry-after" in owed.told) == (202, True)
        assert b'"owed"' in owed.content
        await there._end_calls()
        assert (await left(there, paid)).status == 202
        await fall_asleep(here)
        await there._end_calls()
        assert await paid_back(there, purse, paid) == PAID - 110
