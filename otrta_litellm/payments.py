"""The payments of a gateway and their states.

::

    received ──▶ redeeming ──▶ redeemed ──▶ settled ──▶ claimed
       │ │          │            ▲ ▲
       │ └──locked──┼────────────┘ │
       └────────────┴──▶ rejected ─┘

A payment is ``received`` when its proofs are claimed here, each Y by this payment alone; ``redeeming`` from
the moment its swap is journalled; ``redeemed`` in the transaction that stores the swap's outputs;
``settled`` once, with cost and change; ``claimed`` when its change has been seen spent. It is ``rejected``
only while nothing of it can have become ours, and frees its Ys in the same transaction; should its swap
land all the same it is ``redeemed``, and has its Ys back.

Each payment has an owner: the worker that runs its call and, after that, ends what is left to do. Those of
a dead worker (``otrta_wallet.workers``) are taken over by whoever finds them, which raises their lease by
one. Who settles, makes change or notes how far a stream has come gives the payment as it had it: under
another owner or lease nothing is written.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from otrta_core import CallRequest, ModelPrice, OtrtaError, Settlement, Token
from otrta_litellm import losses
from otrta_litellm.schema import PaymentState, opened_locks, payment_proofs, payments
from otrta_wallet import Operation, journal, polling
from otrta_wallet.decisions import Verdict
from otrta_wallet.store import insert_new
from otrta_wallet.workers import is_alive, own_id

AT_ONCE = 200
"""How many payments are looked at in one go, so that no backlog has to fit into memory."""

CLAIM_PAUSE_S = 60.0
"""How long a mint is left alone at least about change that has not been spent yet."""

_TO_BE_ENDED = (PaymentState.RECEIVED, PaymentState.REDEEMED)


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment; amounts in msat, None until it is settled.

    ``change_token`` can be spent by whoever reads it, so it is in no repr.
    """

    id: str
    state: PaymentState
    mint: str
    unit: str
    memo_hash: str | None
    paid_msat: int
    fee_msat: int
    cost_msat: int | None
    change_msat: int | None
    change_token: str | None = field(repr=False)
    change_due: bool
    call: CallRequest
    price: ModelPrice
    live_tokens: int | None
    owner: str
    lease: int
    changed_at: float


@dataclass(frozen=True, slots=True)
class Offer:
    """A payment about to be received: what it pays with and what for."""

    token: Token
    paid_msat: int
    fee_msat: int
    path: str
    call: CallRequest
    price: ModelPrice


class AlreadyTaken(Exception):
    """A proof is claimed by another payment."""


class LeaseLost(OtrtaError):
    """Another worker took this one for dead, and ended the payment."""

    code = "lease_lost"
    http_status = 503


def memo_hash(token: Token) -> str | None:
    """Return the digest under which a token's memo is remembered."""
    return None if token.memo is None else hashlib.sha256(token.memo.encode()).hexdigest()


def new_id() -> str:
    """Return an id for a payment that is about to be received."""
    return uuid.uuid4().hex


def receive(conn: Connection, now: float, offer: Offer, payment_id: str | None = None) -> Payment:
    """Write a payment of this worker's and claim its proofs.

    Args:
        conn: inside a transaction.
        now: unix time.
        offer: what pays, and what for.
        payment_id: from ``new_id``, where it has to be known before; else one is made.

    Raises:
        AlreadyTaken: one of them is claimed already; nothing was written.
    """
    payment = Payment(
        id=payment_id or new_id(),
        state=PaymentState.RECEIVED,
        mint=offer.token.mint,
        unit=offer.token.unit,
        memo_hash=memo_hash(offer.token),
        paid_msat=offer.paid_msat,
        fee_msat=offer.fee_msat,
        cost_msat=None,
        change_msat=None,
        change_token=None,
        change_due=False,
        call=offer.call,
        price=offer.price,
        live_tokens=None,
        owner=own_id(conn),
        lease=0,
        changed_at=now,
    )
    conn.execute(
        insert(payments),
        {
            "id": payment.id,
            "state": payment.state,
            "mint": payment.mint,
            "unit": payment.unit,
            "memo_hash": payment.memo_hash,
            "paid_msat": payment.paid_msat,
            "fee_msat": payment.fee_msat,
            "change_due": payment.change_due,
            "path": offer.path,
            "model": payment.call.model,
            "price": json.dumps(payment.price.to_dict()),
            "call": json.dumps(asdict(payment.call)),
            "owner": payment.owner,
            "lease": payment.lease,
            "created_at": now,
            "changed_at": now,
        },
    )
    # in one order, so that two tokens with proofs in common do not wait for each other
    claims = [{"y": y, "payment_id": payment.id} for y in sorted(proof.Y for proof in offer.token.proofs)]
    try:
        conn.execute(insert(payment_proofs), claims)
    except IntegrityError:
        raise AlreadyTaken from None
    return payment


def note_opened_locks(conn: Connection, ys: Collection[str]) -> None:
    """Remember for good whose locks are opened for a mint before they have paid.

    What opens a lock is valid at any mint, since neither the secret nor its Y names one: a mint that refuses
    such a proof can spend another's proof of the same secret with what it was shown.
    """
    for y in sorted(ys):
        insert_new(conn, opened_locks, y=y)


def any_lock_opened(conn: Connection, ys: Collection[str]) -> bool:
    """Tell whether one of these proofs' locks was opened before."""
    query = select(opened_locks.c.y).where(opened_locks.c.y.in_(ys)).limit(1)
    return conn.execute(query).first() is not None


def claims_on(conn: Connection, ys: Sequence[str]) -> dict[str, set[str]]:
    """Return which payments have claimed which of these Ys, by payment id."""
    found: dict[str, set[str]] = {}
    for row in conn.execute(select(payment_proofs).where(payment_proofs.c.y.in_(ys))):
        found.setdefault(row.payment_id, set()).add(row.y)
    return found


def claim_size(conn: Connection, payment_id: str) -> int:
    """Return how many proofs a payment has."""
    rows = conn.execute(select(payment_proofs.c.y).where(payment_proofs.c.payment_id == payment_id))
    return len(rows.all())


def load(conn: Connection, payment_id: str) -> Payment:
    """Return a payment.

    Raises:
        KeyError: there is none of this id.
    """
    row = conn.execute(_ONE, {"id": payment_id}).first()
    if row is None:
        raise KeyError(payment_id)
    return _payment(row)


_ONE = select(payments).where(payments.c.id == bindparam("id"))  # once: to make it takes as long as to run it


def take_over(conn: Connection, now: float) -> int:
    """Make dead workers' payments that are not over our own, and return how many.

    Those whose swap is open stay as they are until the wallet's recovery has ended it.
    """
    if conn.dialect.name != "postgresql":
        return 0
    dead = select(payments.c.id).where(
        or_(payments.c.state.in_(_TO_BE_ENDED), payments.c.change_due),
        payments.c.owner != own_id(conn),
        ~is_alive(conn, payments.c.owner),
    )
    found = list(conn.execute(dead.limit(AT_ONCE).with_for_update(skip_locked=True)).scalars())
    if found:
        _raise_lease(conn, payments.c.id.in_(found))
    return len(found)


def begin_life(conn: Connection, _now: float) -> None:
    """Fence off what an earlier process may have left that was this same worker, as on SQLite.

    For the start of a process, before it takes payments.
    """
    _raise_lease(conn, payments.c.owner == own_id(conn), or_(_is_open(), payments.c.change_due))


def _is_open() -> ColumnElement[bool]:
    return payments.c.state.in_((PaymentState.RECEIVED, PaymentState.REDEEMING, PaymentState.REDEEMED))


def _raise_lease(conn: Connection, *which: ColumnElement[bool]) -> None:
    query = update(payments).where(*which)
    conn.execute(query.values(owner=own_id(conn), lease=payments.c.lease + 1))


def ours_in_state(
    conn: Connection, _now: float, state: PaymentState, running: Collection[str] = ()
) -> list[Payment]:
    """Return this worker's payments in a state that no call of it runs, oldest first."""
    return _ours(conn, payments.c.state == state, running)


def ours_with_change_due(conn: Connection, _now: float, running: Collection[str] = ()) -> list[Payment]:
    """Return this worker's payments whose change is owed and that no call of it runs, oldest first."""
    return _ours(conn, payments.c.change_due, running)


def _ours(conn: Connection, which: ColumnElement[bool], running: Collection[str]) -> list[Payment]:
    query = select(payments).where(which, payments.c.owner == own_id(conn))
    query = query.where(payments.c.id.not_in(running)).order_by(payments.c.created_at).limit(AT_ONCE)
    return [_payment(row) for row in conn.execute(query)]


def take_claims_to_check(conn: Connection, now: float, limit: int = AT_ONCE) -> list[Payment]:
    """Return payments whose change is out and due to be asked for, and put off when it is due again.

    So of several workers each asks for others.
    """
    due = select(payments).where(payments.c.claim_look_at <= now).order_by(payments.c.claim_look_at)
    rows = conn.execute(due.limit(limit).with_for_update(skip_locked=True)).all()
    for row in rows:
        put_off_claim(conn, now, row.id, row.changed_at)
    return [_payment(row) for row in rows]


def put_off_claim(conn: Connection, now: float, payment_id: str, out_since: float) -> None:
    """Note that the mint has just been asked whether a payment's change is spent, and that it is not."""
    query = update(payments).where(payments.c.id == payment_id, payments.c.claim_look_at.is_not(None))
    conn.execute(query.values(claim_look_at=now + max(CLAIM_PAUSE_S, polling.pause_s(now - out_since))))


def begin_redeeming(conn: Connection, now: float, payment_id: str) -> None:
    """Note that the payment's swap is journalled, in the transaction that does so.

    Raises:
        LeaseLost: another worker has rejected it, or is about to.
    """
    was = PaymentState.RECEIVED
    if not _move(conn, now, payment_id, was, PaymentState.REDEEMING, payments.c.owner == own_id(conn)):
        raise LeaseLost("the gateway was held up and let go of the token: it is untouched; send it again")


def claim_locked(conn: Connection, now: float, payment_id: str) -> None:
    """Note that the payment's token is locked to us, and so ours from the moment that its proofs are claimed.

    Raises:
        LeaseLost: as ``begin_redeeming``.
    """
    was = PaymentState.RECEIVED
    if not _move(conn, now, payment_id, was, PaymentState.REDEEMED, payments.c.owner == own_id(conn)):
        raise LeaseLost("the gateway was held up and let go of the token: it is untouched; send it again")


def reject(conn: Connection, now: float, payment_id: str) -> None:
    """Close a payment that never became ours and free its proofs."""
    for was in (PaymentState.RECEIVED, PaymentState.REDEEMING):
        if _move(conn, now, payment_id, was, PaymentState.REJECTED):
            conn.execute(delete(payment_proofs).where(payment_proofs.c.payment_id == payment_id))


def settle(conn: Connection, now: float, payment: Payment, settled: Settlement, outcome: str) -> bool:
    """Fix cost and change, once; False where that was done before, or the payment is another's now."""
    return _move(
        conn,
        now,
        payment.id,
        PaymentState.REDEEMED,
        PaymentState.SETTLED,
        *_held(payment),
        cost_msat=settled.charged,
        change_msat=settled.change,
        excess_msat=settled.excess,
        change_due=settled.change > 0,
        outcome=outcome,
    )


def put_change(conn: Connection, now: float, payment: Payment, token: str) -> bool:
    """Store the change of a settled payment, once; False where it was made before or is another's to make."""
    query = update(payments).where(payments.c.id == payment.id, payments.c.change_due, *_held(payment))
    made = {"change_token": token, "change_due": False, "changed_at": now}
    return conn.execute(query.values(claim_look_at=now + CLAIM_PAUSE_S, **made)).rowcount == 1


def claim(conn: Connection, now: float, payment_id: str) -> bool:
    """Note that the change has been spent and erase it."""
    over: dict[str, Any] = {"change_token": None, "claim_look_at": None}
    return _move(conn, now, payment_id, PaymentState.SETTLED, PaymentState.CLAIMED, **over)


def note_live(conn: Connection, _now: float, payment: Payment, tokens: int) -> bool:
    """Write down how much of a live stream has been delivered, for whoever settles after a crash.

    Returns:
        False where the payment is another worker's now, and nothing more may be delivered.
    """
    query = update(payments).where(payments.c.id == payment.id, *_held(payment))
    return conn.execute(query.values(live_tokens=tokens)).rowcount == 1


def _held(payment: Payment) -> tuple[ColumnElement[bool], ...]:
    return payments.c.owner == payment.owner, payments.c.lease == payment.lease


class PaymentParticipant:
    """Moves a payment together with the operation that redeems it."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now

    def operation_done(self, conn: Connection, operation: Operation) -> None:
        """The token is ours: the payment is redeemed, even one that was given up before its swap landed."""
        if operation.kind == "offline":
            losses.make_good(conn, operation.id)
        if operation.kind == "receive" and operation.reference is not None:
            now, payment_id = self._now(), operation.reference
            certain: dict[str, Any] = {"at_risk_msat": None}
            if _move(conn, now, payment_id, PaymentState.REDEEMING, PaymentState.REDEEMED, **certain):
                return
            if _move(conn, now, payment_id, PaymentState.REJECTED, PaymentState.REDEEMED, **certain):
                # whoever tried the same proofs meanwhile cannot have got them
                ys = journal.parts(conn, operation.id)[0]
                conn.execute(delete(payment_proofs).where(payment_proofs.c.y.in_(ys)))
                conn.execute(insert(payment_proofs), [{"y": y, "payment_id": payment_id} for y in ys])

    def operation_failed(self, conn: Connection, operation: Operation, verdict: Verdict) -> None:
        """The token did not become ours: the payment is rejected and its proofs are free.

        One that is locked to us was paid all the same, and is the operator's loss where it has been spent,
        but for what is left of it.
        """
        if operation.kind == "offline" and verdict is Verdict.FAIL_SPENT:
            rest = sum(each.amount for each in journal.offline(conn) if each.reference == operation.reference)
            losses.record(conn, self._now(), operation, operation.error or "spent", rest=rest)
        if operation.kind == "receive" and operation.reference is not None:
            reject(conn, self._now(), operation.reference)


def _move(
    conn: Connection,
    now: float,
    payment_id: str,
    was: PaymentState,
    now_is: PaymentState,
    *also: ColumnElement[bool],
    **values: Any,
) -> bool:
    query = update(payments).where(payments.c.id == payment_id, payments.c.state == was, *also)
    return conn.execute(query.values(state=now_is, changed_at=now, **values)).rowcount == 1


def _payment(row: Row[Any]) -> Payment:
    return Payment(
        row.id,
        PaymentState(row.state),
        row.mint,
        row.unit,
        row.memo_hash,
        row.paid_msat,
        row.fee_msat,
        row.cost_msat,
        row.change_msat,
        row.change_token,
        row.change_due,
        CallRequest(**json.loads(row.call)),
        ModelPrice.from_dict(json.loads(row.price)),
        row.live_tokens,
        row.owner,
        row.lease,
        row.changed_at,
    )
