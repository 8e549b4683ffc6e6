"""The payments of a gateway and their states.

::

    received ──▶ redeeming ──▶ redeemed ──▶ settled ──▶ claimed
       │            │             ▲
       └────────────┴──▶ rejected ─┘

A payment is ``received`` when its proofs are claimed here, each Y by this payment alone; ``redeeming`` from
the moment its swap is journalled; ``redeemed`` in the transaction that stores the swap's outputs;
``settled`` once, with cost and change; ``claimed`` when its change has been seen spent. It is ``rejected``
only while nothing of it can have become ours, and frees its Ys in the same transaction; should its swap
land all the same it is ``redeemed``, and has its Ys back.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from otrta_core import CallRequest, ModelPrice, Settlement, Token
from otrta_litellm.schema import PaymentState, payment_proofs, payments
from otrta_wallet import Operation, journal
from otrta_wallet.decisions import Verdict


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


def memo_hash(token: Token) -> str | None:
    """Return the digest under which a token's memo is remembered."""
    return None if token.memo is None else hashlib.sha256(token.memo.encode()).hexdigest()


def receive(conn: Connection, now: float, offer: Offer, owner: str) -> Payment:
    """Write a payment and claim its proofs.

    Raises:
        AlreadyTaken: one of them is claimed already; nothing was written.
    """
    payment_id = uuid.uuid4().hex
    conn.execute(
        insert(payments).values(
            id=payment_id,
            state=PaymentState.RECEIVED,
            mint=offer.token.mint,
            unit=offer.token.unit,
            memo_hash=memo_hash(offer.token),
            paid_msat=offer.paid_msat,
            fee_msat=offer.fee_msat,
            change_due=False,
            path=offer.path,
            model=offer.call.model,
            price=json.dumps(offer.price.to_dict()),
            call=json.dumps(asdict(offer.call)),
            owner=owner,
            created_at=now,
            changed_at=now,
        )
    )
    claims = [{"y": proof.Y, "payment_id": payment_id} for proof in offer.token.proofs]
    try:
        conn.execute(insert(payment_proofs), claims)
    except IntegrityError:
        raise AlreadyTaken from None
    return load(conn, payment_id)


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
    row = conn.execute(select(payments).where(payments.c.id == payment_id)).first()
    if row is None:
        raise KeyError(payment_id)
    return _payment(row)


def in_state(conn: Connection, state: PaymentState) -> list[Payment]:
    """Return all payments in a state, oldest first."""
    query = select(payments).where(payments.c.state == state).order_by(payments.c.created_at)
    return [_payment(row) for row in conn.execute(query)]


def with_change_due(conn: Connection) -> list[Payment]:
    """Return the payments whose change is owed and not yet made, oldest first."""
    query = select(payments).where(payments.c.change_due).order_by(payments.c.created_at)
    return [_payment(row) for row in conn.execute(query)]


def with_change_out(conn: Connection, limit: int) -> list[Payment]:
    """Return settled payments whose change is not known to be spent, least recently looked at first."""
    query = (
        select(payments)
        .where(payments.c.state == PaymentState.SETTLED, payments.c.change_token.is_not(None))
        .order_by(payments.c.changed_at)
        .limit(limit)
    )
    return [_payment(row) for row in conn.execute(query)]


def begin_redeeming(conn: Connection, now: float, payment_id: str) -> None:
    """Note that the payment's swap is journalled, in the transaction that does so."""
    if not _move(conn, now, payment_id, PaymentState.RECEIVED, PaymentState.REDEEMING):
        raise RuntimeError("a payment is redeemed once only")


def reject(conn: Connection, now: float, payment_id: str) -> None:
    """Close a payment that never became ours and free its proofs."""
    for was in (PaymentState.RECEIVED, PaymentState.REDEEMING):
        if _move(conn, now, payment_id, was, PaymentState.REJECTED):
            conn.execute(delete(payment_proofs).where(payment_proofs.c.payment_id == payment_id))


def settle(conn: Connection, now: float, payment_id: str, settled: Settlement, outcome: str) -> bool:
    """Fix cost and change, once; False where it has been settled before."""
    return _move(
        conn,
        now,
        payment_id,
        PaymentState.REDEEMED,
        PaymentState.SETTLED,
        cost_msat=settled.charged,
        change_msat=settled.change,
        excess_msat=settled.excess,
        change_due=settled.change > 0,
        outcome=outcome,
    )


def put_change(conn: Connection, now: float, payment_id: str, token: str) -> bool:
    """Store the change of a settled payment, once; False where it has been made before."""
    query = update(payments).where(payments.c.id == payment_id, payments.c.change_due)
    return conn.execute(query.values(change_token=token, change_due=False, changed_at=now)).rowcount == 1


def claim(conn: Connection, now: float, payment_id: str) -> bool:
    """Note that the change has been spent and erase it."""
    return _move(conn, now, payment_id, PaymentState.SETTLED, PaymentState.CLAIMED, change_token=None)


def touch(conn: Connection, now: float, payment_id: str) -> None:
    """Note that the payment has been looked at."""
    conn.execute(update(payments).where(payments.c.id == payment_id).values(changed_at=now))


def note_live(conn: Connection, _now: float, payment_id: str, tokens: int) -> None:
    """Write down how much of a live stream has been delivered, for whoever settles after a crash."""
    conn.execute(update(payments).where(payments.c.id == payment_id).values(live_tokens=tokens))


class PaymentParticipant:
    """Moves a payment together with the operation that redeems it."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now

    def operation_done(self, conn: Connection, operation: Operation) -> None:
        """The token is ours: the payment is redeemed, even one that was given up before its swap landed."""
        if operation.kind == "receive" and operation.reference is not None:
            now, payment_id = self._now(), operation.reference
            if _move(conn, now, payment_id, PaymentState.REDEEMING, PaymentState.REDEEMED):
                return
            if _move(conn, now, payment_id, PaymentState.REJECTED, PaymentState.REDEEMED):
                # whoever tried the same proofs meanwhile cannot have got them
                ys = journal.parts(conn, operation.id)[0]
                conn.execute(delete(payment_proofs).where(payment_proofs.c.y.in_(ys)))
                conn.execute(insert(payment_proofs), [{"y": y, "payment_id": payment_id} for y in ys])

    def operation_failed(self, conn: Connection, operation: Operation, verdict: Verdict) -> None:
        """The token did not become ours: the payment is rejected and its proofs are free."""
        if operation.kind == "receive" and operation.reference is not None:
            reject(conn, self._now(), operation.reference)


def _move(
    conn: Connection, now: float, payment_id: str, was: PaymentState, now_is: PaymentState, **values: Any
) -> bool:
    query = update(payments).where(payments.c.id == payment_id, payments.c.state == was)
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
        row.changed_at,
    )
