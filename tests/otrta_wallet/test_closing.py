"""How operations end: once, in one transaction, and with every proof where it belongs."""

from dataclasses import replace

import pytest

from otrta_wallet import journal, quotes, store
from otrta_wallet.closing import WATCH_S, Failure, Payment, add_late_change, fail, finish
from otrta_wallet.decisions import Verdict
from otrta_wallet.records import MeltQuote, Quote, Transfer
from otrta_wallet.schema import ProofStatus
from otrta_wallet.store import proofs_with, read_history
from tests.otrta_wallet.rows import KEYSET, MINT, NOW, operation, proof, put, statuses, transaction
from tests.stores import KINDS

REFUSED = Failure(Verdict.FAIL_REFUSED, "no", {})
SEED = bytes(64)


class Listener:
    """A participant that writes down what it hears."""

    def __init__(self):
        self.heard = []

    def operation_done(self, conn, operation):
        self.heard.append(("done", operation.id, operation.state))

    def operation_failed(self, conn, operation, verdict):
        self.heard.append(("failed", operation.id, operation.state, verdict))


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


def begin(conn, kind, inputs, amount=3, **options):
    """Journal an operation with inputs where its kind has them, and two outputs."""
    op = operation(kind, amount, **options)
    journal.create(conn, op, inputs)
    status = ProofStatus.INCOMING if kind in ("receive", "redeem", "offline") else ProofStatus.RESERVED
    put(conn, inputs, status, op.id)
    return op, journal.plan_outputs(conn, SEED, op.id, KEYSET, [(1, None), (2, "somebody")])


def saved_transfer(conn, state, reference=None):
    store.save_transfer(conn, Transfer("t", MINT, "msat", 3, "cashuB", state, reference, NOW))


def state_of_transfer(conn):
    [transfer] = store.load_transfers(conn, transfer_id="t")
    return transfer.state, transfer.token


def test_an_operation_is_finished_once(conn):
    spent, listener = proof(3), Listener()
    op, planned = begin(conn, "swap", [spent])
    made = [proof(1), proof(2)]
    assert finish(conn, op, planned, made, [listener], NOW)
    assert not finish(conn, op, planned, [proof(1), proof(2)], [listener], NOW)
    assert not fail(conn, op, REFUSED, [listener], NOW)
    assert statuses(conn) == {
        spent.secret: ("spent", op.id),
        made[0].secret: ("available", None),
        made[1].secret: ("held", "somebody"),
    }
    assert listener.heard == [("done", op.id, "done")]


@pytest.mark.parametrize("kind", ["swap", "reclaim", "receive"])
def test_an_operation_fails_once(conn, kind):
    saved_transfer(conn, "reclaiming")
    listener = Listener()
    op, planned = begin(conn, kind, [proof(3)], reference="t")
    assert fail(conn, op, REFUSED, [listener], NOW)
    after = statuses(conn)
    assert not fail(conn, op, REFUSED, [listener], NOW)
    assert not finish(conn, op, planned, [proof(1), proof(2)], [listener], NOW)
    assert statuses(conn) == after
    assert listener.heard == [("failed", op.id, "failed", Verdict.FAIL_REFUSED)]


@pytest.mark.parametrize("verdict", [Verdict.FAIL_REFUSED, Verdict.FAIL_PENDING, Verdict.FAIL_SPENT])
def test_a_token_that_counts_as_paid_stays_unless_it_is_spent(conn, verdict):
    given, listener = proof(3), Listener()
    op, _ = begin(conn, "offline", [given], reference="p")
    states = {given.Y: "SPENT" if verdict is Verdict.FAIL_SPENT else "UNSPENT"}
    assert fail(conn, op, Failure(verdict, "no", states), [listener], NOW)
    lost = verdict is Verdict.FAIL_SPENT
    assert listener.heard == [("failed", op.id, "failed" if lost else "stored", verdict)]
    assert statuses(conn) == ({} if lost else {given.secret: ("incoming", op.id)})
    assert [each.id for each in journal.offline(conn)] == ([] if lost else [op.id])


def test_a_failed_operation_whose_post_landed_is_finished_once(conn):
    op, planned = begin(conn, "swap", [proof(3)])
    fail(conn, op, replace(REFUSED, may_land=True), [], NOW)
    [watched] = journal.watched(conn, NOW)
    assert finish(conn, watched, planned, [proof(1), proof(2)], [], NOW)
    assert not finish(conn, watched, planned, [proof(1), proof(2)], [], NOW)
    assert journal.watched(conn, NOW) == []
    assert len(proofs_with(conn, status=ProofStatus.AVAILABLE)) == 1


def test_only_what_may_land_is_watched(conn):
    op, _ = begin(conn, "swap", [proof(3)])
    fail(conn, op, REFUSED, [], NOW)
    assert journal.watched(conn, NOW) == []


def test_of_a_swap_the_spent_inputs_are_lost_and_the_others_are_ours_again(conn):
    spent, kept = proof(2), proof(1)
    op, _ = begin(conn, "swap", [spent, kept])
    fail(conn, op, Failure(Verdict.FAIL_SPENT, "spent", {spent.Y: "SPENT", kept.Y: "UNSPENT"}), [], NOW)
    assert statuses(conn) == {spent.secret: ("spent", op.id), kept.secret: ("available", None)}
    [line] = read_history(conn, 9)
    assert (line.kind, line.amount_msat, line.state) == ("lost", -2, "lost")


@pytest.mark.parametrize(
    ("states", "transfer", "left"),
    [
        (["UNSPENT", "UNSPENT"], "open", {"sent"}),
        (["SPENT", "UNSPENT"], "open", {"spent", "sent"}),
        (["SPENT", "SPENT"], "claimed", {"spent"}),
    ],
)
def test_of_a_taking_back_the_transfer_stays_open_while_anything_is_out(conn, states, transfer, left):
    saved_transfer(conn, "reclaiming")
    sent = [proof(2), proof(1)]
    op, _ = begin(conn, "reclaim", sent, reference="t")
    known = {p.Y: state for p, state in zip(sent, states, strict=True)}
    fail(conn, op, Failure(Verdict.FAIL_SPENT, "spent", known), [], NOW)
    assert state_of_transfer(conn) == (transfer, None if transfer == "claimed" else "cashuB")
    assert {status for status, _ in statuses(conn).values()} == left


def test_of_a_refused_token_nothing_stays(conn):
    op, _ = begin(conn, "receive", [proof(3)])
    fail(conn, op, REFUSED, [], NOW)
    assert (statuses(conn), journal.load(conn, op.id).state) == ({}, "failed")


@pytest.mark.parametrize("verdict", [Verdict.FAIL_REFUSED, Verdict.FAIL_PENDING])
def test_a_kept_token_stays_kept(conn, verdict):
    kept, listener = proof(3), Listener()
    op, _ = begin(conn, "redeem", [kept], reference="payment")
    fail(conn, op, Failure(verdict, "no", {kept.Y: "PENDING"}, may_land=True), [listener], NOW)
    assert statuses(conn) == {kept.secret: ("incoming", op.id)}
    assert listener.heard == [("failed", op.id, "stored", verdict)]
    assert [balance.available for balance in store.balances(conn)] == [3]


@pytest.mark.parametrize(("reference", "state"), [(None, "stored"), ("payment", "failed")])
def test_a_promised_token_becomes_a_kept_one_unless_somebody_answers_for_it(conn, reference, state):
    op, _ = begin(conn, "receive", [proof(3)], reference=reference)
    fail(conn, op, replace(REFUSED, promised=True), [], NOW)
    after = journal.load(conn, op.id)
    assert (after.state, after.kind) == (state, "redeem" if state == "stored" else "receive")
    assert bool(statuses(conn)) is (state == "stored")


def test_the_rest_of_a_kept_token_is_a_kept_token_less_its_own_fee(conn):
    spent, first, second = proof(4), proof(2), proof(8)
    op, _ = begin(conn, "redeem", [spent, first, second], amount=13, reference="payment")
    states = {spent.Y: "SPENT", first.Y: "UNSPENT", second.Y: "UNSPENT"}
    fail(conn, op, Failure(Verdict.FAIL_SPENT, "spent", states), [], NOW)
    [rest] = journal.with_state(conn, "stored")
    assert (rest.kind, rest.amount, rest.fee, rest.reference) == ("redeem", 9, 1, None)
    assert statuses(conn) == {p.secret: ("incoming", rest.id) for p in (first, second)}
    assert journal.load(conn, op.id).state == "failed"


def test_the_rest_of_a_kept_token_that_its_fee_would_eat_is_let_go(conn):
    spent, kept = proof(4), proof(1)
    op, _ = begin(conn, "redeem", [spent, kept])
    fail(conn, op, Failure(Verdict.FAIL_SPENT, "spent", {spent.Y: "SPENT", kept.Y: "UNSPENT"}), [], NOW)
    assert (journal.with_state(conn, "stored"), statuses(conn)) == ([], {})


def test_our_own_proofs_in_a_refused_token_are_out_again(conn):
    saved_transfer(conn, "open")
    ours, theirs = proof(2), proof(1)
    op, _ = begin(conn, "receive", [ours, theirs])
    journal.note_origin(conn, op.id, ours.Y, "t")
    fail(conn, op, REFUSED, [], NOW)
    assert statuses(conn) == {ours.secret: ("sent", "t")}
    assert state_of_transfer(conn) == ("open", "cashuB")


def test_a_transfer_whose_last_proof_came_back_is_closed(conn):
    saved_transfer(conn, "open")
    first, second = proof(2), proof(1)
    put(conn, [second], ProofStatus.SENT, "t")
    for ours in (first, second):
        assert state_of_transfer(conn) == ("open", "cashuB")
        if ours is second:
            store.forget_proofs(conn, [second.Y])
        op, planned = begin(conn, "receive", [ours])
        journal.note_origin(conn, op.id, ours.Y, "t")
        finish(conn, op, planned, [proof(1), proof(2)], [], NOW)
    assert state_of_transfer(conn) == ("claimed", None)


@pytest.mark.parametrize(("verdict", "state"), [(Verdict.FAIL_REFUSED, "open"), (Verdict.FAIL_SPENT, "lost")])
def test_a_quote_that_was_not_minted_can_be_minted_again_unless_somebody_else_did(conn, verdict, state):
    quotes.save_quote(conn, Quote("q", MINT, "msat", 3, "lnbc", "minting", None), NOW)
    op, _ = begin(conn, "mint", [], quote_id="q")
    fail(conn, op, Failure(verdict, "no", {}), [], NOW)
    quote = quotes.load_quote(conn, "q")
    assert quote is not None
    assert quote.state == state


def test_a_participant_that_fails_undoes_all_of_the_end(url):
    class Failing(Listener):
        def operation_done(self, conn, operation):
            raise RuntimeError("not now")

    with transaction(url) as conn:
        store.add_mint(conn, MINT, None, NOW)
        store.save_keysets(conn, MINT, [KEYSET])
        op, planned = begin(conn, "swap", [proof(3)])
        before = statuses(conn)
    with pytest.raises(RuntimeError, match="not now"), transaction(url) as conn:
        finish(conn, op, planned, [proof(1), proof(2)], [Failing()], NOW)
    with transaction(url) as conn:
        assert (statuses(conn), journal.load(conn, op.id).state) == (before, "prepared")


def begin_melt(conn, inputs, amount=60, reserve=30, fee=1):
    """Journal the payment of an invoice, with three blanks."""
    quotes.save_melt_quote(conn, MeltQuote("q", MINT, "msat", amount, reserve, "lnbc", "paying", None, NOW))
    op = operation("melt", amount, fee, quote_id="q")
    journal.create(conn, op, inputs)
    put(conn, inputs, ProofStatus.RESERVED, op.id)
    return op, journal.plan_outputs(conn, SEED, op.id, KEYSET, [(0, None)] * 3)


def signed(blanks, *amounts):
    """The first blanks as they came back, and their proofs."""
    change = [replace(blank, amount=amount) for blank, amount in zip(blanks, amounts, strict=False)]
    return change, [proof(amount) for amount in amounts]


def melt_quote(conn):
    quote = quotes.load_melt_quote(conn, "q")
    assert quote is not None
    return quote.state, quote.owed, quote.preimage


def test_a_payment_is_what_did_not_come_back(conn):
    given = proof(100)
    op, blanks = begin_melt(conn, [given])
    change, made = signed(blanks, 16, 8)
    assert finish(conn, op, change, made, [], NOW, Payment("pre", 1, change_is_all=True))
    assert not finish(conn, op, change, made, [], NOW, Payment("pre", 1, change_is_all=True))
    assert melt_quote(conn) == ("paid", 0, "pre")
    assert journal.load(conn, op.id).fee == 16
    assert {s: status for s, (status, _) in statuses(conn).items()} == {
        given.secret: "spent",
        made[0].secret: "available",
        made[1].secret: "available",
    }
    [line] = read_history(conn, 9)
    assert (line.kind, line.amount_msat, line.fee_msat) == ("pay", -76, 16)
    assert journal.watched(conn, NOW) == []


@pytest.mark.parametrize(
    ("amounts", "change_is_all", "owed", "watched"),
    [
        ((32, 4, 3), False, 0, False),  # nothing more can come
        ((8, 1), False, 0, True),  # the way may have taken all of the reserve, or not
        ((8, 1), True, 0, False),
        ((8,), True, 1, True),
        ((), True, 9, True),
    ],
)
def test_change_is_looked_for_while_more_may_be_due(conn, amounts, change_is_all, owed, watched):
    op, blanks = begin_melt(conn, [proof(100)])
    change, made = signed(blanks, *amounts)
    finish(conn, op, change, made, [], NOW, Payment(None, 1, change_is_all))
    assert melt_quote(conn)[:2] == ("paid", owed)
    assert [found.id for found in journal.watched(conn, NOW)] == [op.id] * watched
    assert journal.watched(conn, NOW + WATCH_S) == []


def test_late_change_is_stored_once(conn):
    op, blanks = begin_melt(conn, [proof(100)])
    finish(conn, op, [], [], [], NOW, Payment(None, 1, change_is_all=True))
    done = journal.load(conn, op.id)
    for amounts, new in (((4,), 4), ((4, 8), 8), ((4, 8), 0)):
        assert add_late_change(conn, done, *signed(blanks, *amounts), NOW) == new
    assert journal.load(conn, op.id).fee == 100 - 60 - 12
    assert melt_quote(conn)[1] == 0
    assert sum(p.amount for p in proofs_with(conn, status=ProofStatus.AVAILABLE)) == 12
    assert sum(line.amount_msat for line in read_history(conn, 9)) == -88


@pytest.mark.parametrize(
    ("verdict", "state", "left"),
    [
        (Verdict.FAIL_REFUSED, "open", "available"),
        (Verdict.FAIL_PAID, "paid", "available"),
        (Verdict.FAIL_SPENT, "open", "spent"),
    ],
)
def test_a_payment_that_was_not_made_frees_what_is_not_spent(conn, verdict, state, left):
    given = proof(100)
    op, _ = begin_melt(conn, [given])
    states = {given.Y: "SPENT" if left == "spent" else "UNSPENT"}
    assert fail(conn, op, Failure(verdict, "no", states), [], NOW)
    assert melt_quote(conn)[0] == state
    assert statuses(conn)[given.secret][0] == left


def test_a_payment_that_was_given_up_and_landed_is_finished_once(conn):
    given = proof(100)
    op, blanks = begin_melt(conn, [given])
    fail(conn, op, replace(REFUSED, may_land=True), [], NOW)
    [watched] = journal.watched(conn, NOW)
    change, made = signed(blanks, 32, 4, 3)
    assert finish(conn, watched, change, made, [], NOW, Payment(None, 1, change_is_all=False))
    assert melt_quote(conn)[0] == "paid"
    assert (statuses(conn)[given.secret][0], journal.watched(conn, NOW)) == ("spent", [])
