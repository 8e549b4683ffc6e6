"""What is forgotten after a time, and what never is."""

import pytest
from sqlalchemy import func, select

from otrta_core import Token
from otrta_wallet import TokenSpent, journal, store
from otrta_wallet.closing import WATCH_S, Failure, fail, finish
from otrta_wallet.decisions import Verdict
from otrta_wallet.pruning import KEEP_S, OPERATIONS_AT_ONCE, PROOFS_AT_ONCE, prune
from otrta_wallet.schema import ProofStatus, operation_inputs, operations, outputs
from tests.otrta_wallet.reckoning import available, top_up
from tests.otrta_wallet.rows import KEYSET, MINT, NOW, operation, proof, put, statuses, transaction
from tests.stores import KINDS

LATER = NOW + KEEP_S + 1
SEED = bytes(64)


@pytest.fixture(params=KINDS)
def store_kind(request):
    return request.param


@pytest.fixture
def conn(tmp_path, empty_store):
    with transaction(empty_store.url_in(tmp_path, "store")) as conn:
        store.add_mint(conn, MINT, None, NOW)
        store.save_keysets(conn, MINT, [KEYSET])
        yield conn


def begin(conn, kind, **options):
    spent = proof(3)
    op = operation(kind, 3, **options)
    journal.create(conn, op, [] if kind == "mint" else [spent])
    if kind != "mint":
        status = ProofStatus.INCOMING if kind in ("receive", "redeem") else ProofStatus.RESERVED
        put(conn, [spent], status, op.id)
    return op, journal.plan_outputs(conn, SEED, op.id, KEYSET, [(1, None), (2, None)])


def done(conn, kind, now=NOW, **options):
    op, planned = begin(conn, kind, **options)
    assert finish(conn, op, planned, [proof(1), proof(2)], [], now)
    return op


def left(conn, op):
    """How many inputs and outputs an operation still has."""
    return tuple(
        conn.execute(
            select(func.count()).select_from(table).where(table.c.operation_id == op.id)
        ).scalar_one()
        for table in (operation_inputs, outputs)
    )


def how_many(conn, status):
    return [known for known, _ in statuses(conn).values()].count(status)


def test_a_spent_proof_and_its_operations_parts_go_after_a_time(conn):
    op = done(conn, "swap")
    assert prune(conn, LATER - 2) == 0
    assert (how_many(conn, "spent"), left(conn, op)) == (1, (1, 2))
    assert prune(conn, LATER) == 2
    assert (how_many(conn, "spent"), left(conn, op)) == (0, (0, 0))
    assert journal.load(conn, op.id).state == "done"
    assert prune(conn, LATER) == 0


def test_counters_are_not_given_out_again(conn):
    done(conn, "swap")
    prune(conn, LATER)
    op, planned = begin(conn, "swap")
    assert [output.counter for output in planned] == [2, 3]
    assert left(conn, op) == (1, 2)


@pytest.mark.parametrize("status", [status for status in ProofStatus if status is not ProofStatus.SPENT])
def test_what_is_not_spent_stays(conn, status):
    put(conn, [proof(8)], status, "somebody")
    prune(conn, LATER)
    assert how_many(conn, status) == 1


@pytest.mark.parametrize("state", ["prepared", "stored"])
def test_what_is_open_or_kept_stays(conn, state):
    op, _ = begin(conn, "redeem")
    if state == "stored":
        journal.set_state(conn, op.id, was="prepared", now_is="stored", now=NOW)
    ys = journal.parts(conn, op.id)[0]
    store.move_proofs(conn, ys, was=ProofStatus.INCOMING, now_is=ProofStatus.SPENT, holder=op.id, now=NOW)
    prune(conn, LATER)
    assert (how_many(conn, "spent"), left(conn, op)) == (1, (1, 2))


def test_what_may_still_land_stays_until_that_is_over(conn):
    op, _ = begin(conn, "swap")
    [y] = journal.parts(conn, op.id)[0]
    failed_at = NOW + KEEP_S
    fail(conn, op, Failure(Verdict.FAIL_SPENT, "spent", {y: "SPENT"}, may_land=True), [], failed_at)
    conn.execute(operations.update().values(changed_at=NOW))
    store.move_proofs(conn, [y], was=ProofStatus.SPENT, now_is=ProofStatus.SPENT, holder=op.id, now=NOW)
    assert prune(conn, failed_at + WATCH_S - 1) == 0
    assert left(conn, op) == (1, 2)
    assert prune(conn, failed_at + WATCH_S + 1) == 2
    assert left(conn, op) == (0, 0)


def test_the_outputs_of_a_minting_that_failed_stay(conn):
    op, _ = begin(conn, "mint", quote_id="q")
    fail(conn, op, Failure(Verdict.FAIL_REFUSED, "no", {}), [], NOW)
    prune(conn, LATER)
    assert left(conn, op) == (0, 2)


def test_change_that_comes_twice_is_known_for_good(conn):
    theirs, ours = done(conn, "redeem", reference="call"), done(conn, "redeem")
    prune(conn, LATER)
    assert (left(conn, theirs), left(conn, ours)) == ((1, 0), (0, 0))


def test_it_takes_a_bounded_number_at_a_time(conn):
    many = [proof() for _ in range(PROOFS_AT_ONCE + 10)]
    put(conn, many, ProofStatus.SPENT, "somebody")
    for _ in range(OPERATIONS_AT_ONCE + 5):
        op = operation("swap")
        journal.create(conn, op, ())
        journal.set_state(conn, op.id, was="prepared", now_is="done", now=NOW)
    assert prune(conn, LATER) == PROOFS_AT_ONCE + OPERATIONS_AT_ONCE
    assert prune(conn, LATER) == 15
    assert prune(conn, LATER) == 0


@pytest.mark.anyio
async def test_recovery_forgets_and_the_mint_still_refuses(far_alice, far_bob, network, clock):
    await top_up(far_alice, network.url, 64)
    token = Token.parse((await far_alice.send(network.url, 24, "msat")).token)
    await far_bob.receive(token)
    posted = len(network.seen)
    with pytest.raises(TokenSpent):
        await far_bob.receive(token)
    assert len(network.seen) == posted
    clock.ahead_s += KEEP_S + 10
    await far_bob.recover()
    spent = await far_bob.transactions.run(
        lambda conn, _now: store.proofs_with(conn, status=ProofStatus.SPENT)
    )
    assert spent == []
    with pytest.raises(TokenSpent):
        await far_bob.receive(token)
    assert len(network.seen) > posted
    assert await available(far_bob) == 24
