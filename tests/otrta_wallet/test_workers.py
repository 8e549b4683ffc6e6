"""Several processes on one PostgreSQL wallet: who does what, who takes over, and who may still post."""

import threading

import anyio
import pytest
from anyio import to_thread
from sqlalchemy import select, update

from otrta_core import Token
from otrta_wallet import (
    OutcomeUnknown,
    TokenPending,
    TokenSpent,
    Wallet,
    at_hand,
    executor,
    journal,
    store,
    workers,
)
from otrta_wallet.schema import ProofStatus
from otrta_wallet.schema import workers as rows_of_workers
from otrta_wallet.transactions import Contended
from tests.fault_proxy import Fault
from tests.otrta_wallet.conftest import wallet_in
from tests.otrta_wallet.reckoning import accounted_for, assert_really_there, available, top_up
from tests.otrta_wallet.rows import KEYSET, MINT, NOW, proof, put

pytestmark = pytest.mark.anyio
POSTS = r"^/v1/(swap|mint/bolt11)$"
DROPPED = Fault("dropped", keeps=None)
LIVING_S = 10.0


@pytest.fixture
def store_kind():
    return "postgresql"


@pytest.fixture(autouse=True)
def _alive(monkeypatch, _short_pauses):
    monkeypatch.setattr(workers, "STALE_AFTER_S", LIVING_S)
    monkeypatch.setattr(executor, "WAITS_FOR_OTHERS_S", 0.3)


@pytest.fixture
async def first(tmp_path, store_behind_network, network, clock):
    async with wallet_in(tmp_path, store_behind_network, "alice", clock=clock) as wallet:
        yield wallet


@pytest.fixture
async def second(tmp_path, store_behind_network, first, clock):
    """Another process's wallet on the database of ``first``."""
    async with wallet_in(tmp_path, store_behind_network, "alice", clock=clock) as wallet:
        yield wallet


def kill(monkeypatch):
    """Let every other worker count as dead."""
    monkeypatch.setattr(workers, "STALE_AFTER_S", 0.0)


async def left_open(wallet, network):
    """Begin a swap whose outcome its worker does not learn; returns the operation."""
    network.spoil(POSTS, *[DROPPED] * 10)
    network.spoil(r"^/v1/(restore|checkstate)$", *[Fault("away", forwards=0, keeps=None)] * 20)
    with pytest.raises(OutcomeUnknown):
        await wallet.hold_exact(network.url, 30, "msat", "debt:somebody")
    network.reset()
    [operation] = await wallet.open_operations()
    return operation


async def test_they_have_one_seed_one_purse_and_one_list_of_mints(tmp_path, empty_store, mint):
    async with (
        wallet_in(tmp_path, empty_store, "alice") as first,
        wallet_in(tmp_path, empty_store, "alice") as second,
    ):
        assert await first.words() == await second.words()
        assert first.worker.id != second.worker.id
        await first.mints.add(mint.url)
        await top_up(first, mint.url, 100)
        transfer = await second.send(mint.url, 30, "msat")
        assert transfer.amount == 30
        assert (await first.reclaim(transfer.id)).amount == 30
        assert await available(second) == 100


async def test_many_first_starts_at_once_make_one_wallet(tmp_path, blank_store):
    url = await to_thread.run_sync(blank_store.url_in, tmp_path, "new")
    words = []

    async def start():
        async with Wallet.open(url) as wallet:
            words.append(await wallet.words())

    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(start)
    assert len(words) == 6
    assert len(set(words)) == 1


async def test_what_a_living_worker_does_is_left_to_it(first, second, network):
    await top_up(first, network.url, 100)
    operation = await left_open(first, network)
    asked = [seen for seen in network.seen if seen.path != "/v1/keysets"]
    found = await second.recover()
    assert (found.finished, found.open) == (0, 1)
    with pytest.raises(OutcomeUnknown):
        await second.carry_out(operation)
    assert [seen for seen in network.seen if seen.path != "/v1/keysets"] == asked
    assert (await first.recover()).finished == 1
    assert (await second.carry_out(operation)).state == "done"


async def test_what_a_dead_worker_did_is_taken_over(first, second, network, monkeypatch):
    await top_up(first, network.url, 100)
    await left_open(first, network)
    kill(monkeypatch)
    assert (await second.recover()).finished == 1
    assert await accounted_for(second) == 100
    await assert_really_there(second)


async def test_what_a_worker_leaves_behind_is_anybodys_at_once(tmp_path, store_behind_network, network):
    async with wallet_in(tmp_path, store_behind_network, "alice") as staying:
        async with wallet_in(tmp_path, store_behind_network, "alice") as leaving:
            await top_up(leaving, network.url, 100)
            await left_open(leaving, network)
        assert (await staying.recover()).finished == 1


async def test_one_that_was_taken_for_dead_neither_posts_nor_closes(first, second, network, monkeypatch):
    await top_up(first, network.url, 100)

    def taken_over_meanwhile(body):
        kill(monkeypatch)
        with second.worker.engine.begin() as conn:
            [operation] = journal.with_state(conn, "prepared")
            assert journal.take_over(conn, operation.id, NOW)
        monkeypatch.setattr(workers, "STALE_AFTER_S", LIVING_S)
        return b'{"detail": "no", "code": 11000}'

    refused = Fault("refused", forwards=1, twist=taken_over_meanwhile, keeps=0.5)
    network.spoil(POSTS, refused)
    with pytest.raises(OutcomeUnknown):
        await first.hold_exact(network.url, 30, "msat", "debt:somebody")
    [operation] = await first.open_operations()
    assert sum(seen.path == "/v1/swap" for seen in network.seen) == 1
    reserved = await first.transactions.run(
        lambda conn, _now: store.proofs_with(conn, status=ProofStatus.RESERVED, holder=operation.id)
    )
    assert reserved
    assert (await second.recover()).finished == 1
    assert (await first.carry_out(operation)).state == "done"
    assert await accounted_for(first) == 100
    await assert_really_there(first)


async def test_only_the_owner_may_note_hold_and_take(first, second, network, monkeypatch):
    await top_up(first, network.url, 100)
    operation = await left_open(first, network)
    run, run_second = first.transactions.run, second.transactions.run
    hold, note = (lambda conn, _now: journal.hold(conn, operation.id)), _noted(operation)
    assert (await run(hold), await run(note)) == (True, True)
    assert (await run_second(hold), await run_second(note)) == (False, False)
    assert not await run_second(_take_over, operation.id)
    kill(monkeypatch)
    assert await run_second(_take_over, operation.id)
    assert not await run_second(_take_over, operation.id)
    assert (await run(hold), await run(note)) == (False, False)
    assert (await run_second(hold), await run_second(note)) == (True, True)


def _noted(operation):
    return lambda conn, now: journal.note_post(conn, operation.id, now)


def _take_over(conn, now, operation_id):
    return journal.take_over(conn, operation_id, now)


async def test_what_is_taken_over_may_have_been_posted_just_now(first, second, network, clock, monkeypatch):
    await top_up(first, network.url, 100)
    operation = await left_open(first, network)
    clock.ahead_s += 1_000
    kill(monkeypatch)
    before = second.transactions.now()
    assert await second.transactions.run(_take_over, operation.id)
    taken = await second.transactions.run(lambda conn, _now: journal.load(conn, operation.id))
    assert taken.changed_at >= before


async def test_a_token_received_by_two_is_taken_once(first, second, network):
    await top_up(first, network.url, 100)
    token = Token.parse((await first.send(network.url, 60, "msat")).token)
    ends = []

    async def receive(wallet):
        try:
            ends.append((await wallet.receive(token)).state)
        except (TokenPending, TokenSpent) as error:
            ends.append(error.code)

    async with anyio.create_task_group() as tasks:
        for wallet in (first, second, first, second):
            tasks.start_soon(receive, wallet)
    assert ends.count("done") == 1
    assert len(ends) == 4
    assert await available(first) == 100


async def test_money_that_another_workers_swap_brings_back_is_waited_for(first, second, network):
    await top_up(first, network.url, 64)
    async with anyio.create_task_group() as tasks:
        network.spoil(POSTS, Fault("slow", silent_s=0.8))
        tasks.start_soon(first.hold_exact, network.url, 3, "msat", "debt:one")
        with anyio.fail_after(10):
            while not await first.open_operations():  # noqa: ASYNC110 (a database tells nobody)
                await anyio.sleep(0.01)
        await second.hold_exact(network.url, 33, "msat", "debt:two")
    assert await available(first) == 64 - 3 - 33


async def test_two_workers_never_take_the_same_counter(first, second, network):
    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(top_up, (first, second)[number % 2], network.url, 10 + number)
    assert await available(first) == sum(10 + number for number in range(6))
    await assert_really_there(first)


async def test_a_worker_renews_its_row_and_takes_it_away(tmp_path, empty_store, monkeypatch):
    monkeypatch.setattr(workers, "RENEW_EVERY_S", 0.02)
    async with wallet_in(tmp_path, empty_store, "alice") as wallet:

        def renewed_at(conn, _now):
            query = select(rows_of_workers.c.renewed_at).where(rows_of_workers.c.id == wallet.worker.id)
            return conn.execute(query).scalar_one()

        begun = await wallet.transactions.run(renewed_at)
        with anyio.fail_after(10):
            while await wallet.transactions.run(renewed_at) == begun:  # noqa: ASYNC110 (a database tells nobody)
                await anyio.sleep(0.01)
        assert wallet.worker.is_current()
    async with wallet_in(tmp_path, empty_store, "alice") as other:
        known = await other.transactions.run(
            lambda conn, _now: conn.execute(select(rows_of_workers.c.id)).scalars().all()
        )
        assert known == [other.worker.id]


async def test_a_worker_that_cannot_renew_knows_that_it_may_be_taken_for_dead(first, monkeypatch):
    assert first.worker.is_current()
    monkeypatch.setattr(workers, "STALE_AFTER_S", 0.0)
    assert not first.worker.is_current()


async def test_a_worker_whose_row_was_forgotten_comes_back(first):
    await first.transactions.run(lambda conn, _now: conn.execute(rows_of_workers.delete()))
    await to_thread.run_sync(first.worker.renew)
    alive = workers.is_alive
    assert await first.transactions.run(
        lambda conn, _now: conn.execute(select(alive(conn, first.worker.id))).scalar_one()
    )


async def test_the_machines_own_clock_does_not_make_anybody_dead(first, second, network, clock):
    await top_up(first, network.url, 100)
    await left_open(first, network)
    clock.ahead_s += 10**6
    assert (await second.recover()).open == 1


async def test_a_circle_of_locks_is_untangled_and_both_are_done(tmp_path, empty_store):
    async with wallet_in(tmp_path, empty_store, "alice") as wallet:
        one, other = proof(), proof()
        await wallet.transactions.run(lambda conn, _now: put(conn, [one, other], ProofStatus.AVAILABLE))
        meet, runs = threading.Barrier(2), []

        def cross(conn, _now, ys):
            runs.append(ys)
            again = len(runs) > 2
            store.lock_proofs(conn, ys[:1])
            if not again:
                meet.wait(10)
            store.lock_proofs(conn, ys[1:])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wallet.transactions.run, cross, (one.Y, other.Y))
            tasks.start_soon(wallet.transactions.run, cross, (other.Y, one.Y))
        assert len(runs) == 3


async def test_what_is_contended_is_run_again(first):
    tries = []

    def work(conn, _now):
        tries.append(1)
        store.put_setting(conn, "tries", str(len(tries)))
        if len(tries) < 3:
            raise Contended
        return store.get_setting(conn, "tries")

    assert await first.transactions.run(work) == "3"


async def test_a_row_that_breaks_a_rule_is_not_shown(tmp_path, empty_store):
    async with wallet_in(tmp_path, empty_store, "alice") as wallet:
        secret = proof()

        def work(conn, now):
            put(conn, [secret], ProofStatus.AVAILABLE)
            table = store.proofs
            conn.execute(update(table).values(status=None))

        with pytest.raises(Exception, match="not-null") as caught:
            await wallet.transactions.run(work)
        for said in (str(caught.value), repr(caught.value), repr(caught.value.__cause__)):
            assert secret.secret not in said
            assert MINT not in said


async def test_a_proof_that_somebody_else_is_taking_is_passed_over(tmp_path, empty_store):
    async with wallet_in(tmp_path, empty_store, "alice") as wallet:
        ours = [proof(8), proof(8), proof(4)]

        def fill(conn, now):
            store.add_mint(conn, MINT, None, now)
            store.save_keysets(conn, MINT, [KEYSET])
            put(conn, ours, ProofStatus.AVAILABLE)

        def taken(conn, _now=0.0):
            chosen = at_hand.take(conn, MINT, "msat", lambda ps, _fees: [p for p in ps if p.amount == 8][:1])
            return chosen.proofs

        await wallet.transactions.run(fill)
        with wallet.worker.engine.begin() as one, wallet.worker.engine.begin() as other:
            [first_taken], [second_taken] = taken(one), taken(other)
            assert {first_taken.Y, second_taken.Y} == {p.Y for p in ours[:2]}
            with wallet.worker.engine.begin() as third, pytest.raises(Contended):
                taken(third)
