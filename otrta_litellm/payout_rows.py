"""The payouts of a gateway and their states.

::

    offered ──▶ paying ──▶ paid ──▶ cancelled
       │           └─────▶ failed
       └──▶ failed

A payout is ``offered`` while nothing is spent; ``paying`` from the transaction that journals the wallet's
payment on, until the mint says how that ended; a token is ``paid`` in the transaction that makes it, and
``cancelled`` in the one that ends the swap which takes it back unclaimed. One that nobody begins ``failed``
after a while. An automatic one has its mint's slot, which is unique, until its end
is known: so no worker begins a second one meanwhile.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from sqlalchemy import Connection, Row, Select, and_, func, select, update

from otrta_core import Unit
from otrta_litellm.schema import PaymentState, payments, payouts
from otrta_wallet import at_hand
from otrta_wallet.decisions import Verdict
from otrta_wallet.records import Operation, TransferState
from otrta_wallet.schema import transfers
from otrta_wallet.store import insert_new

PayoutKind = Literal["bolt11", "lnurl", "token"]

_UNSETTLED = (PaymentState.RECEIVED, PaymentState.REDEEMING, PaymentState.REDEEMED)


class PayoutState(StrEnum):
    """Where a payout is."""

    OFFERED = "offered"
    PAYING = "paying"
    PAID = "paid"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Payout:
    """A payout; amounts in msat.

    Attributes:
        destination: the Lightning address, LNURL or invoice; "token" where a token is made.
        fee_msat: what it may cost at most; of one that is over, what it cost. What swaps for a token cost is
            among the gateway's own swaps.
        quote_id: of the mint's offer, or of the wallet's transfer.
        error: why it failed.
        transfer_state: of a token that was made: "open" until its receiver claims it or it is taken back.
    """

    id: str
    state: PayoutState
    kind: PayoutKind
    destination: str
    mint: str
    unit: str
    amount_msat: int
    fee_msat: int
    quote_id: str | None = field(repr=False)
    automatic: bool
    error: str | None
    created_at: float
    changed_at: float
    transfer_state: TransferState | None = None


class PayoutParticipant:
    """Moves a payout together with the swap that takes its token back."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now

    def operation_done(self, conn: Connection, operation: Operation) -> None:
        """The token is the gateway's again."""
        if operation.kind == "reclaim":
            query = update(payouts).where(
                payouts.c.quote_id == operation.reference, payouts.c.state == PayoutState.PAID
            )
            conn.execute(query.values(state=PayoutState.CANCELLED, changed_at=self._now()))

    def operation_failed(self, conn: Connection, operation: Operation, verdict: Verdict) -> None:
        """The receiver was first, or keeps it: it stays paid."""


def offer(
    conn: Connection,
    now: float,
    kind: PayoutKind,
    destination: str,
    mint: str,
    unit: str,
    *,
    automatic: bool = False,
) -> Payout | None:
    """Write down a payout before anybody is asked for it; None where the mint's slot is taken."""
    payout_id = uuid.uuid4().hex
    values = {
        "id": payout_id,
        "state": PayoutState.OFFERED,
        "slot": mint if automatic else None,
        "kind": kind,
        "destination": destination,
        "mint": mint,
        "unit": unit,
        "amount_msat": 0,
        "fee_msat": 0,
        "automatic": automatic,
        "created_at": now,
        "changed_at": now,
    }
    return load(conn, payout_id) if insert_new(conn, payouts, **values) else None


def put_terms(
    conn: Connection, _now: float, payout_id: str, amount_msat: int, fee_msat: int, quote_id: str | None
) -> Payout:
    """Write down what a payout pays and what it may cost."""
    query = update(payouts).where(payouts.c.id == payout_id, payouts.c.state == PayoutState.OFFERED)
    conn.execute(query.values(amount_msat=amount_msat, fee_msat=fee_msat, quote_id=quote_id))
    return load(conn, payout_id)


def begin(conn: Connection, now: float, payout_id: str) -> bool:
    """Note that the payment is journalled, in the transaction that does so; False where it is not offered."""
    return _move(conn, now, payout_id, PayoutState.OFFERED, PayoutState.PAYING)


def hand_over(conn: Connection, now: float, payout_id: str, transfer_id: str) -> bool:
    """Note that a token is made, in the transaction that does so; False where it is not offered."""
    values = {"quote_id": transfer_id, "fee_msat": 0, "slot": None}
    return _move(conn, now, payout_id, PayoutState.OFFERED, PayoutState.PAID, **values)


def pay(conn: Connection, now: float, payout_id: str, fee_msat: int) -> bool:
    """Note that the invoice is paid, and what that cost."""
    return _move(conn, now, payout_id, PayoutState.PAYING, PayoutState.PAID, fee_msat=fee_msat, slot=None)


def fail(conn: Connection, now: float, payout_id: str, was: PayoutState, error: str) -> bool:
    """Note that nothing was paid."""
    return _move(conn, now, payout_id, was, PayoutState.FAILED, error=error[:500], slot=None)


def load(conn: Connection, payout_id: str) -> Payout:
    """Return a payout.

    Raises:
        KeyError: there is none of this id.
    """
    row = conn.execute(_with_transfer_state().where(payouts.c.id == payout_id)).first()
    if row is None:
        raise KeyError(payout_id)
    return _payout(row)


def in_state(conn: Connection, _now: float, state: PayoutState) -> list[Payout]:
    """Return the payouts in a state, oldest first."""
    query = _with_transfer_state().where(payouts.c.state == state).order_by(payouts.c.created_at)
    return [_payout(row) for row in conn.execute(query)]


def newest(conn: Connection, _now: float, limit: int) -> list[Payout]:
    """Return the payouts that were begun, newest first; offers that nobody took are left out."""
    begun = payouts.c.state != PayoutState.OFFERED
    query = _with_transfer_state().where(begun).order_by(payouts.c.created_at.desc()).limit(limit)
    return [_payout(row) for row in conn.execute(query)]


def last_automatic(conn: Connection, _now: float, mint: str, unit: str) -> float | None:
    """Return when an automatic payout of a mint and unit was last begun, be it in vain."""
    query = select(func.max(payouts.c.created_at)).where(
        payouts.c.automatic, payouts.c.mint == mint, payouts.c.unit == unit
    )
    found: float | None = conn.execute(query).scalar_one()
    return found


def sums_paid(conn: Connection) -> dict[tuple[str, str], tuple[int, int]]:
    """Return what has been paid out and what that cost, in msat, by mint and unit."""
    query = (
        select(payouts.c.mint, payouts.c.unit, func.sum(payouts.c.amount_msat), func.sum(payouts.c.fee_msat))
        .where(payouts.c.state == PayoutState.PAID)
        .group_by(payouts.c.mint, payouts.c.unit)
    )
    return {(row[0], row[1]): (int(row[2]), int(row[3])) for row in conn.execute(query)}


def owed_msat(conn: Connection, mint: str, unit: str) -> int:
    """Return what callers may still have to get at a mint in a unit: change due, and all of running calls."""
    ours = payments.c.mint == mint, payments.c.unit == unit
    due = select(func.coalesce(func.sum(payments.c.change_msat), 0)).where(*ours, payments.c.change_due)
    running = select(func.coalesce(func.sum(payments.c.paid_msat), 0)).where(
        *ours, payments.c.state.in_(_UNSETTLED)
    )
    return int(conn.execute(due).scalar_one()) + int(conn.execute(running).scalar_one())


def free_msat(conn: Connection, mint: str, unit: str) -> int:
    """Return what a mint holds in a unit, net of input fees, beyond what callers may have to get of it."""
    there = Unit.parse(unit).to_msat(at_hand.spendable(conn, mint, unit))
    return there - owed_msat(conn, mint, unit)


def places(conn: Connection, mints: Sequence[str]) -> list[tuple[str, str, int]]:
    """Return mint, unit and what is free there, most first, of those where anything is free."""
    found = [(mint, unit.value, free_msat(conn, mint, unit.value)) for mint in mints for unit in Unit]
    return sorted((place for place in found if place[2] > 0), key=lambda place: -place[2])


def _move(
    conn: Connection, now: float, payout_id: str, was: PayoutState, now_is: PayoutState, **values: Any
) -> bool:
    query = update(payouts).where(payouts.c.id == payout_id, payouts.c.state == was)
    return conn.execute(query.values(state=now_is, changed_at=now, **values)).rowcount == 1


def _with_transfer_state() -> Select[Any]:
    """The payouts, each with the state of the transfer that its token is."""
    there = and_(payouts.c.kind == "token", transfers.c.id == payouts.c.quote_id)
    return select(payouts, transfers.c.state.label("transfer_state")).select_from(
        payouts.outerjoin(transfers, there)
    )


def _payout(row: Row[Any]) -> Payout:
    return Payout(
        row.id,
        PayoutState(row.state),
        row.kind,
        row.destination,
        row.mint,
        row.unit,
        row.amount_msat,
        row.fee_msat,
        row.quote_id,
        row.automatic,
        row.error,
        row.created_at,
        row.changed_at,
        row.transfer_state,
    )
