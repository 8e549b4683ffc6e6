"""The states of a payment, in a real store: each transition, and none other."""

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, Engine

from otrta_core import Settlement
from otrta_litellm import payments
from otrta_litellm.payments import AlreadyTaken, LeaseLost, Payment, PaymentParticipant
from otrta_litellm.schema import PaymentState
from otrta_wallet import journal
from otrta_wallet.decisions import Verdict
from otrta_wallet.records import Operation, OperationKind
from tests.otrta_litellm.samples import offer, token

SETTLED = Settlement(paid=10_000, fee=0, charged=110, change=9890)
WATCHED = PaymentParticipant(lambda: 9.0)
STATES = list(PaymentState)


@pytest.fixture
def conn(engine: Engine):
    with engine.begin() as conn:
        yield conn


def operation_of(kind: OperationKind, payment: Payment) -> Operation:
    return Operation(
        id=f"op-{payment.id}",
        kind=kind,
        state="prepared",
        mint=payment.mint,
        unit="msat",
        amount=2,
        fee=0,
        quote_id=None,
        reference=payment.id,
        error=None,
        created_at=1.0,
        changed_at=1.0,
    )


def swap_of(conn: Connection, payment: Payment, *secrets: str) -> Operation:
    """The journalled operation that redeems a payment."""
    operation = operation_of("receive", payment)
    journal.create(conn, operation, token(*secrets).proofs)
    return operation


def received(conn: Connection, *secrets: str) -> Payment:
    return payments.receive(conn, 1.0, offer(token(*secrets)))


def begin(conn: Connection, payment: Payment) -> None:
    payments.begin_redeeming(conn, 2.0, payment.id)


def done(conn: Connection, payment: Payment) -> None:
    WATCHED.operation_done(conn, swap_of(conn, payment))


def failed(conn: Connection, payment: Payment) -> None:
    WATCHED.operation_failed(conn, swap_of(conn, payment), Verdict.FAIL_REFUSED)


def settle(conn: Connection, payment: Payment) -> None:
    payments.settle(conn, 3.0, payment, SETTLED, "served")


def claim(conn: Connection, payment: Payment) -> None:
    payments.claim(conn, 4.0, payment.id)


def reject(conn: Connection, payment: Payment) -> None:
    payments.reject(conn, 5.0, payment.id)


PATHS: dict[PaymentState, tuple[Callable[[Connection, Payment], None], ...]] = {
    PaymentState.RECEIVED: (),
    PaymentState.REDEEMING: (begin,),
    PaymentState.REDEEMED: (begin, lambda c, p: WATCHED.operation_done(c, swap_of(c, p, "x"))),
    PaymentState.SETTLED: (begin, lambda c, p: WATCHED.operation_done(c, swap_of(c, p, "x")), settle),
    PaymentState.CLAIMED: (begin, lambda c, p: WATCHED.operation_done(c, swap_of(c, p, "x")), settle, claim),
    PaymentState.REJECTED: (reject,),
}
ALLOWED = {
    (PaymentState.RECEIVED, reject): PaymentState.REJECTED,
    (PaymentState.RECEIVED, failed): PaymentState.REJECTED,
    (PaymentState.REDEEMING, reject): PaymentState.REJECTED,
    (PaymentState.REDEEMING, failed): PaymentState.REJECTED,
    (PaymentState.REDEEMING, done): PaymentState.REDEEMED,
    (PaymentState.REDEEMED, settle): PaymentState.SETTLED,
    (PaymentState.SETTLED, claim): PaymentState.CLAIMED,
    (PaymentState.REJECTED, done): PaymentState.REDEEMED,
}


def test_every_state_is_reached(conn: Connection) -> None:
    assert set(PATHS) == set(STATES)


@pytest.mark.parametrize("step", [done, failed, settle, claim, reject], ids=lambda step: step.__name__)
@pytest.mark.parametrize("state", STATES)
def test_transitions(
    conn: Connection, state: PaymentState, step: Callable[[Connection, Payment], None]
) -> None:
    payment = received(conn)
    for move in PATHS[state]:
        move(conn, payment)
    conn.exec_driver_sql("delete from operation_inputs")
    conn.exec_driver_sql("delete from operations")
    assert payments.load(conn, payment.id).state is state
    step(conn, payment)
    assert payments.load(conn, payment.id).state is ALLOWED.get((state, step), state)


@pytest.mark.parametrize("state", [state for state in STATES if state is not PaymentState.RECEIVED])
def test_a_payment_is_redeemed_once_only(conn: Connection, state: PaymentState) -> None:
    payment = received(conn)
    for move in PATHS[state]:
        move(conn, payment)
    with pytest.raises(LeaseLost):
        begin(conn, payment)


def test_a_payment_remembers_what_it_was_for(conn: Connection) -> None:
    payment = received(conn)
    assert payments.load(conn, payment.id) == payment
    assert (payment.call, payment.paid_msat, payment.price) == (offer().call, 10_000, offer().price)
    with pytest.raises(KeyError):
        payments.load(conn, "nobody")


def test_each_proof_is_claimed_by_one_payment(engine: Engine) -> None:
    with engine.begin() as conn:
        first = received(conn, "a", "b")
    for secrets in (("a", "b"), ("b",), ("b", "c"), ("a", "b", "c")):
        with pytest.raises(AlreadyTaken), engine.begin() as conn:
            received(conn, *secrets)
    with engine.begin() as conn:
        assert len(payments.ours_in_state(conn, 2.0, PaymentState.RECEIVED)) == 1
        claims = payments.claims_on(conn, [p.Y for p in token("a", "b", "c").proofs])
        assert claims == {first.id: {p.Y for p in token("a", "b").proofs}}
        assert payments.claim_size(conn, first.id) == 2
        received(conn, "c")


@pytest.mark.parametrize("started", [False, True])
def test_a_rejected_payment_frees_its_proofs(conn: Connection, started: bool) -> None:
    first = received(conn, "a", "b")
    if started:
        begin(conn, first)
    reject(conn, first)
    assert payments.claims_on(conn, [p.Y for p in token("a", "b").proofs]) == {}
    assert received(conn, "a", "b").id != first.id


def test_a_redeemed_payment_cannot_be_rejected_and_keeps_its_proofs(conn: Connection) -> None:
    payment = received(conn)
    begin(conn, payment)
    done(conn, payment)
    reject(conn, payment)
    assert payments.claim_size(conn, payment.id) == 2


def test_a_swap_that_lands_late_gives_the_payment_its_proofs_back(conn: Connection) -> None:
    payment = received(conn, "a", "b")
    begin(conn, payment)
    operation = swap_of(conn, payment, "a", "b")
    WATCHED.operation_failed(conn, operation, Verdict.FAIL_REFUSED)
    WATCHED.operation_done(conn, operation)
    assert payments.load(conn, payment.id).state is PaymentState.REDEEMED
    assert payments.claim_size(conn, payment.id) == 2


def test_a_swap_that_lands_late_takes_its_proofs_back_from_a_second_try(conn: Connection) -> None:
    first = received(conn, "a", "b")
    begin(conn, first)
    operation = swap_of(conn, first, "a", "b")
    WATCHED.operation_failed(conn, operation, Verdict.FAIL_REFUSED)
    second = received(conn, "a", "b", "c")
    begin(conn, second)
    WATCHED.operation_done(conn, operation)
    assert payments.claim_size(conn, first.id) == 2
    WATCHED.operation_failed(conn, swap_of(conn, second, "c"), Verdict.FAIL_SPENT)
    assert payments.load(conn, second.id).state is PaymentState.REJECTED
    claims = payments.claims_on(conn, [p.Y for p in token("a", "b", "c").proofs])
    assert claims == {first.id: {p.Y for p in token("a", "b").proofs}}


def test_swaps_of_others_move_no_payment(conn: Connection) -> None:
    payment = received(conn)
    begin(conn, payment)
    other = operation_of("swap", payment)
    WATCHED.operation_done(conn, other)
    WATCHED.operation_failed(conn, other, Verdict.FAIL_SPENT)
    assert payments.load(conn, payment.id).state is PaymentState.REDEEMING


def test_cost_and_change_are_fixed_once(conn: Connection) -> None:
    payment = received(conn)
    begin(conn, payment)
    done(conn, payment)
    assert payments.settle(conn, 3.0, payment, SETTLED, "served")
    other = Settlement(paid=10_000, fee=0, charged=0, change=10_000)
    assert not payments.settle(conn, 4.0, payment, other, "recovered")
    settled = payments.load(conn, payment.id)
    assert (settled.cost_msat, settled.change_msat, settled.change_due) == (110, 9890, True)


def test_without_change_nothing_is_due(conn: Connection) -> None:
    payment = received(conn)
    begin(conn, payment)
    done(conn, payment)
    payments.settle(conn, 3.0, payment, Settlement(10_000, 0, 10_000, 0), "served")
    assert not payments.load(conn, payment.id).change_due
    assert not payments.put_change(conn, 4.0, payment, "cashuB")


def test_change_is_made_once_and_erased_when_it_is_claimed(conn: Connection) -> None:
    payment = received(conn)
    begin(conn, payment)
    done(conn, payment)
    settle(conn, payment)
    assert [p.id for p in payments.ours_with_change_due(conn, 4.0)] == [payment.id]
    assert payments.put_change(conn, 4.0, payment, "cashuBfirst")
    assert not payments.put_change(conn, 5.0, payment, "cashuBsecond")
    assert payments.ours_with_change_due(conn, 4.0) == []
    assert payments.take_claims_to_check(conn, 5.0) == []
    assert [p.change_token for p in payments.take_claims_to_check(conn, 64.0)] == ["cashuBfirst"]
    assert payments.claim(conn, 6.0, payment.id)
    claimed = payments.load(conn, payment.id)
    assert (claimed.change_token, claimed.change_msat) == (None, 9890)
    assert payments.take_claims_to_check(conn, 1e6) == []


def test_change_that_was_asked_for_is_left_alone_for_longer_and_longer(conn: Connection) -> None:
    for n, secret in enumerate(("a", "b")):
        payment = received(conn, secret)
        begin(conn, payment)
        WATCHED.operation_done(conn, swap_of(conn, payment, secret))
        settle(conn, payment)
        payments.put_change(conn, 4.0 + n, payment, secret)

    def due(at: float, limit: int = 5) -> list[str | None]:
        return [payment.change_token for payment in payments.take_claims_to_check(conn, at, limit)]

    assert due(100.0, limit=1) == ["a"]
    assert due(100.0) == ["b"]
    assert due(159.0) == []
    assert due(161.0) == ["a", "b"]
    assert due(36_000.0) == ["a", "b"]
    assert due(36_000.0 + 3_590.0) == []
    assert due(36_000.0 + 3_600.0) == ["b", "a"]


def test_only_the_digest_of_a_memo_is_kept(conn: Connection) -> None:
    payment = payments.receive(conn, 1.0, offer(token("a", memo="my memo")))
    assert payment.memo_hash == payments.memo_hash(token("b", memo="my memo"))
    assert payment.memo_hash != payments.memo_hash(token("b", memo="other"))
    assert payments.memo_hash(token("a")) is None
    dump = "\n".join(str(row) for row in conn.exec_driver_sql("select * from payments"))
    assert "my memo" not in dump


def test_a_payments_repr_shows_nothing_that_can_be_spent(conn: Connection) -> None:
    payment = received(conn)
    begin(conn, payment)
    done(conn, payment)
    settle(conn, payment)
    payments.put_change(conn, 4.0, payment, "cashuBsecret")
    assert "cashuBsecret" not in repr(payments.load(conn, payment.id))


def test_what_a_live_stream_delivered_is_noted(conn: Connection) -> None:
    payment = received(conn)
    assert payments.note_live(conn, 2.0, payment, 40)
    assert payments.load(conn, payment.id).live_tokens == 40
