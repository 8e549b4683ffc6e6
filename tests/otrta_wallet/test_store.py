"""The store's rules: proofs move all together or not at all, counters are taken once, sums are exact."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from otrta_core import KeysetError, Token, TokenError
from otrta_wallet import TokenPending, TokenSpent, journal, scans, store
from otrta_wallet.custody import hand_out, let_go, take_in
from otrta_wallet.schema import ProofStatus, metadata
from otrta_wallet.wallet import VERSION_TABLE
from tests.otrta_wallet.rows import KEYSET, MINT, NOW, POINT, operation, proof, put, statuses, transaction
from tests.stores import KINDS


@pytest.fixture(params=KINDS)
def store_kind(request):
    return request.param


@pytest.fixture
def url(tmp_path, empty_store):
    return empty_store.url_in(tmp_path, "store")


@pytest.fixture
def conn(url):
    with transaction(url) as conn:
        store.add_mint(conn, MINT, None, NOW)
        store.save_keysets(conn, MINT, [KEYSET])
        yield conn


@pytest.mark.parametrize("wrong", ["status", "holder", "unknown"])
def test_proofs_move_all_together_or_not_at_all(url, wrong):
    ours, other = [proof(), proof()], proof()
    with transaction(url) as conn:
        put(conn, ours, ProofStatus.RESERVED, "me")
        if wrong != "unknown":
            put(
                conn,
                [other],
                *{"status": (ProofStatus.SENT, "me"), "holder": (ProofStatus.RESERVED, "you")}[wrong],
            )
        before = statuses(conn)
    with pytest.raises(RuntimeError, match="1 proofs were not reserved"), transaction(url) as conn:
        store.move_proofs(
            conn,
            [p.Y for p in (*ours, other)],
            was=ProofStatus.RESERVED,
            now_is=ProofStatus.AVAILABLE,
            holder=None,
            was_held_by="me",
            now=NOW,
        )
    with transaction(url) as conn:
        assert statuses(conn) == before


def test_more_proofs_move_than_a_statement_has_room_for(conn):
    many = [proof() for _ in range(1_201)]
    put(conn, many, ProofStatus.AVAILABLE)
    ys = [p.Y for p in many]
    store.move_proofs(conn, ys, was=ProofStatus.AVAILABLE, now_is=ProofStatus.SENT, holder="t", now=NOW)
    assert len(store.proofs_by_y(conn, ys)) == 1_201
    store.forget_proofs(conn, ys[1:])
    assert statuses(conn) == {many[0].secret: ("sent", "t")}


def test_a_proof_is_stored_once(conn):
    known = proof()
    put(conn, [known], ProofStatus.AVAILABLE)
    with pytest.raises(IntegrityError) as caught:
        put(conn, [known], ProofStatus.AVAILABLE)
    assert known.secret not in str(caught.value)
    assert known.C not in str(caught.value)


def test_counters_are_taken_once_and_only_forwards(conn):
    assert [store.take_counters(conn, KEYSET.id, count) for count in (3, 1, 5)] == [0, 3, 4]
    store.skip_counters(conn, KEYSET.id, 100)
    store.skip_counters(conn, KEYSET.id, 50)
    assert store.take_counters(conn, KEYSET.id, 1) == 100


def test_a_rolled_back_transaction_takes_no_counter(url):
    with transaction(url) as conn:
        store.save_keysets(conn, MINT, [KEYSET])

    def take_and_fail():
        with transaction(url) as conn:
            store.take_counters(conn, KEYSET.id, 7)
            raise RuntimeError("undone")

    with pytest.raises(RuntimeError, match="undone"):
        take_and_fail()
    with transaction(url) as conn:
        assert store.take_counters(conn, KEYSET.id, 1) == 0


def test_a_keyset_brought_up_to_date_keeps_its_counter(conn):
    store.take_counters(conn, KEYSET.id, 7)
    store.save_keysets(conn, MINT, [replace(KEYSET, active=False, input_fee_ppk=7, final_expiry=9)])
    assert store.load_keysets(conn) == {
        MINT: {KEYSET.id: replace(KEYSET, active=False, input_fee_ppk=7, final_expiry=9)}
    }
    assert store.take_counters(conn, KEYSET.id, 1) == 7


def test_two_mints_cannot_have_one_keyset(conn):
    with pytest.raises(KeysetError, match="two mints"):
        store.save_keysets(conn, "http://127.0.0.1:2", [KEYSET])


def test_two_outputs_cannot_have_one_counter(conn):
    for _ in range(2):
        op = operation("swap")
        journal.create(conn, op, ())
        journal.plan_outputs(conn, bytes(64), op.id, KEYSET, [(1, None)])
    with pytest.raises(IntegrityError):
        conn.execute(text("update outputs set counter = 0"))


def test_outputs_are_planned_in_ascending_order_of_amount(conn):
    op = operation("swap")
    journal.create(conn, op, ())
    planned = journal.plan_outputs(conn, bytes(64), op.id, KEYSET, [(4, None), (1, "me"), (2, None)])
    assert [(o.position, o.counter, o.amount, o.holder) for o in planned] == [
        (0, 0, 1, "me"),
        (1, 1, 2, None),
        (2, 2, 4, None),
    ]
    assert journal.parts(conn, op.id) == ([], [], planned)


def test_balances_past_63_bits_are_summed_exactly(conn):
    put(conn, [proof(2**62) for _ in range(5)] + [proof(3)], ProofStatus.AVAILABLE)
    put(conn, [proof(2**62), proof(2**62)], ProofStatus.SENT, "t")
    [balance] = store.balances(conn)
    assert (balance.available, balance.pending) == (5 * 2**62 + 3, 2**63)


@pytest.mark.parametrize(
    ("status", "available", "pending"),
    [
        (ProofStatus.AVAILABLE, 8, 0),
        (ProofStatus.INCOMING, 0, 8),
        (ProofStatus.RESERVED, 0, 8),
        (ProofStatus.HELD, 0, 8),
        (ProofStatus.SENT, 0, 8),
    ],
)
def test_what_is_not_available_is_pending(conn, status, available, pending):
    put(conn, [proof(8)], status, "somebody")
    [balance] = store.balances(conn)
    assert (balance.available, balance.pending) == (available, pending)


def test_what_is_spent_is_in_no_balance(conn):
    put(conn, [proof(8)], ProofStatus.SPENT, "somebody")
    assert store.balances(conn) == []


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (ProofStatus.SPENT, TokenSpent),
        (ProofStatus.AVAILABLE, TokenPending),
        (ProofStatus.INCOMING, TokenPending),
        (ProofStatus.RESERVED, TokenPending),
        (ProofStatus.HELD, TokenPending),
    ],
)
def test_a_token_with_a_proof_that_the_wallet_has_is_not_taken_in(conn, status, error):
    known, new = proof(), proof()
    put(conn, [known], status, "somebody")
    op = operation("receive")
    journal.create(conn, op, [known, new])
    with pytest.raises(error):
        take_in(conn, Token(MINT, "msat", (new, known)), op.id, NOW)


@pytest.mark.parametrize("change", [{"C": "03" + POINT[2:]}, {"id": "00" + "cd" * 7}])
def test_a_token_with_a_sent_proof_in_another_shape_is_not_taken_in(conn, change):
    known = proof()
    put(conn, [known], ProofStatus.SENT, "t")
    op = operation("receive")
    journal.create(conn, op, [known])
    with pytest.raises(TokenError):
        take_in(conn, Token(MINT, "msat", (replace(known, **change),)), op.id, NOW)
    assert statuses(conn) == {known.secret: ("sent", "t")}


def test_only_available_proofs_are_handed_out(url):
    ours = proof(8)
    with transaction(url) as conn:
        put(conn, [ours], ProofStatus.RESERVED, "somebody")
    with pytest.raises(RuntimeError), transaction(url) as conn:
        hand_out(conn, NOW, MINT, "msat", [ours], None, False, None, "send")
    with transaction(url) as conn:
        assert (store.load_transfers(conn), store.read_history(conn, 9)) == ([], [])


def test_a_debts_proofs_are_never_let_go(conn):
    held, owed = proof(), proof()
    put(conn, [held], ProofStatus.HELD, "somebody")
    put(conn, [owed], ProofStatus.HELD, "debt:somebody")
    let_go(conn, NOW + 60)
    assert {status for status, _ in statuses(conn).values()} == {"held"}
    let_go(conn, NOW + 10**9)
    assert statuses(conn) == {held.secret: ("available", None), owed.secret: ("held", "debt:somebody")}


def test_the_token_of_a_closed_transfer_is_erased(conn, url):
    ours = proof(8)
    put(conn, [ours], ProofStatus.AVAILABLE)
    transfer = hand_out(conn, NOW, MINT, "msat", [ours], None, False, None, "send")
    assert store.set_transfer_state(conn, transfer.id, was=("open",), now_is="claimed", now=NOW)
    assert not store.set_transfer_state(conn, transfer.id, was=("open",), now_is="reclaimed", now=NOW)
    [closed] = store.load_transfers(conn, transfer_id=transfer.id)
    assert (closed.state, closed.token) == ("claimed", None)


def test_the_migrations_make_the_tables_that_the_code_expects(conn):
    context = MigrationContext.configure(conn, opts={"version_table": VERSION_TABLE})
    assert compare_metadata(context, metadata) == []


def test_settings_are_replaced(conn):
    for value in ("a", "b"):
        store.put_setting(conn, "name", value)
    assert (store.get_setting(conn, "name"), store.get_setting(conn, "other")) == ("b", None)


def test_what_another_worker_spends_while_a_restore_ends_is_left_to_it(url, store_kind):
    ours = proof(8)
    with transaction(url) as conn:
        store.add_mint(conn, MINT, None, NOW)
        store.save_keysets(conn, MINT, [KEYSET])
        put(conn, [ours], ProofStatus.AVAILABLE)

    def end_restore():
        with transaction(url) as conn:
            return scans.close(conn, NOW, MINT, {ours.Y: "SPENT"})

    with ThreadPoolExecutor() as threads:
        with transaction(url) as conn:
            was, now_is = ProofStatus.AVAILABLE, ProofStatus.RESERVED
            store.move_proofs(conn, [ours.Y], was=was, now_is=now_is, holder="other", now=NOW)
            ended = threads.submit(end_restore)
            waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            while store_kind == "postgresql" and not conn.execute(waiting).scalar_one():
                assert not ended.done()
        assert ended.result() == ([], {})
    with transaction(url) as conn:
        assert statuses(conn)[ours.secret] == (ProofStatus.RESERVED, "other")
