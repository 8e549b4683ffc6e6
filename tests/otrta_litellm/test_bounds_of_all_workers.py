"""What may be out at a time is bounded for all workers together, not for each."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from sqlalchemy import Connection, Engine

from otrta_cli.processes import Running
from otrta_core import Token
from otrta_litellm import lock_desk, payments
from otrta_litellm.asgi import App, Receive, Scope, Send
from otrta_litellm.gateway import Gateway
from otrta_litellm.ledger import earnings_msat, holdings_msat, swaps_msat
from otrta_litellm.payments import PaymentParticipant
from otrta_litellm.risk import Risk
from otrta_litellm.schema import PaymentState
from otrta_wallet import Operation
from otrta_wallet.database import open_engine
from tests.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.integration.locked import locked
from tests.integration.purse import Purse
from tests.otrta_litellm.made_up import PAID, Caller, answers, opened, state_of, swapped
from tests.otrta_litellm.samples import offer, token
from tests.otrta_litellm.test_payments import begin, swap_of

SLOW = Fault("slow", silent_s=1.0)
LIMIT = 100


@pytest.fixture
def stores(shared_place: str, engine: Engine) -> Iterator[list[Engine]]:
    """An empty store of either kind, and another connection to a shared one."""
    opened_here = [open_engine(shared_place) for _ in range(2)]
    yield opened_here
    for each in opened_here:
        each.dispose()


def risk(conn: Connection, now: float, *secrets: str, msat: int = 60, pause_s: float = 10.0) -> str | None:
    """Put a payment at risk; returns its id if that was done."""
    payment = payments.receive(conn, now, offer(token(*secrets)))
    begin(conn, payment)
    return payment.id if Risk(LIMIT, pause_s).risked_by_all(conn, now, payment.id, msat) else None


def test_what_is_at_risk_counts_until_it_is_certain(engine: Engine) -> None:
    with engine.begin() as conn:
        first = risk(conn, 1.0, "a")
        assert first is not None
        assert risk(conn, 1.0, "b") is None
        assert risk(conn, 1.0, "c", msat=40) is not None
        PaymentParticipant(lambda: 2.0).operation_done(conn, swap_of(conn, payments.load(conn, first), "a"))
        assert risk(conn, 3.0, "d") is not None


def test_after_a_loss_nothing_is_risked_for_a_while(engine: Engine) -> None:
    with engine.begin() as conn:
        lost = risk(conn, 1.0, "a")
        assert lost is not None
        payments.reject(conn, 2.0, lost)
        assert risk(conn, 11.0, "b") is None
        assert risk(conn, 13.0, "c") is not None


def test_a_payment_that_was_rejected_without_risk_is_no_loss(engine: Engine) -> None:
    with engine.begin() as conn:
        payments.reject(conn, 1.0, payments.receive(conn, 1.0, offer(token("a"))).id)
        assert risk(conn, 1.0, "b") is not None


def test_two_workers_that_look_at_the_same_moment_do_not_both_find_room(stores: list[Engine]) -> None:
    found: list[str | None] = []

    def other() -> None:
        with stores[1].begin() as conn:
            found.append(risk(conn, 1.0, "b"))

    thread = threading.Thread(target=other)
    with stores[0].begin() as conn:
        assert risk(conn, 1.0, "a") is not None
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()  # it waits for this one's end
    thread.join(20)
    assert found == [None]


@asynccontextmanager
async def crew(
    place: str, mint: Running, **values: Any
) -> AsyncIterator[tuple[Gateway, Gateway, FaultProxy, Purse]]:
    """Two workers on one store, and their mint."""
    with fault_proxy(mint.port) as proxy, Purse(mint.url, proxy.url) as purse:
        async with opened(place, proxy.url, **values) as one, opened(place, proxy.url, **values) as two:
            yield one, two, proxy, purse


def even(place: str) -> bool:
    return holdings_msat(place) == earnings_msat(place) + swaps_msat(place)


@pytest.mark.integration
@pytest.mark.anyio
async def test_what_another_worker_has_at_risk_counts_here(shared_place: str, mint: Running) -> None:
    values = {"redeem": "with_call", "at_risk_msat": PAID + 1}
    async with crew(shared_place, mint, **values) as (one, two, proxy, purse):
        first, second = purse.token(PAID), purse.token(PAID)
        states: list[PaymentState | None] = []
        within = anyio.Event()

        def seen(gateway: Gateway, paid: Token) -> App:
            async def app(scope: Scope, receive: Receive, send: Send) -> None:
                states.append(await state_of(gateway, paid))
                within.set()
                await answers()(scope, receive, send)

            return app

        proxy.spoil("swap", SLOW)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Caller(first).call, seen(one, first), one)
            await within.wait()
            await Caller(second).call(seen(two, second), two)
        assert states == [PaymentState.REDEEMING, PaymentState.REDEEMED]
    assert even(shared_place)


@pytest.mark.integration
@pytest.mark.anyio
async def test_no_more_locked_tokens_than_the_cap_are_taken_by_all_workers(
    shared_place: str, mint: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, both = lock_desk.journal.offline, threading.Barrier(2)

    def looked(conn: Connection, mint_url: str | None = None) -> list[Operation]:
        found = look(conn, mint_url)
        with suppress(threading.BrokenBarrierError):
            both.wait(0.5)  # until the other has looked as well, if nothing keeps it from that
        return found

    async with crew(shared_place, mint, lock_max_msat=PAID + 5000) as (one, two, proxy, purse):
        key = (await one.wallet()).lock_keys.public
        callers = [Caller(purse.token(PAID, dleq=True, secret=locked(key))) for _ in range(2)]
        proxy.spoil("swap", SLOW, SLOW)
        monkeypatch.setattr(lock_desk.journal, "offline", looked)
        async with anyio.create_task_group() as tasks:
            for gateway, caller in zip((one, two), callers, strict=True):
                tasks.start_soon(caller.call, answers(), gateway)
        assert sorted(caller.status for caller in callers) == [200, 503]
        assert {caller.code for caller in callers if caller.status == 503} == {"locks_unavailable"}
        await swapped(one)
        await swapped(two)
    assert even(shared_place)
