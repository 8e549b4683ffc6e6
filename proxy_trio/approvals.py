"""Calls that may cost so much that the user is to be asked first.

Such a call is written down as waiting before anything is sent, and held open for a while. An approval lets
one call of the same key and model pass that may cost as much or less, the held one or the same made again;
where that call's payment comes back whole, it lets another one pass. A denial refuses those that may cost as
much or more. Both hold for some minutes. What waits outlives a restart, and a day.
"""

import secrets
from dataclasses import dataclass
from typing import Any, Final

import trio
from sqlalchemy import ColumnElement, Connection, Row, and_, delete, or_, select, update
from sqlalchemy import insert as insert_into

from otrta_core import format_msat
from otrta_wallet.transactions import Transactions
from proxy_trio.errors import ApprovalDenied, ApprovalNotKnown, ApprovalRequired
from proxy_trio.schema import ApprovalState, CallState, approvals, calls

MAX_WAITING: Final = 50
FORGET_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Ask:
    """A call that asks for approval: its app's key, its model and gateway, and what may leave for it."""

    key_id: str | None
    model: str
    gateway: str
    amount_msat: int


@dataclass(frozen=True, slots=True)
class Approval:
    """What was asked, and what the user said; times in unix seconds."""

    id: str
    state: ApprovalState
    key_id: str | None
    model: str
    gateway: str
    amount_msat: int
    asked_at: float
    decided_at: float | None


class ApprovalNeeded(Exception):
    """The choke point's word for a payment above the threshold that nobody has approved."""


class Approvals:
    """Holds calls until the user has decided; one process has the store, so its events tell of everything."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._waiting: dict[str, trio.Event] = {}

    async def wait(self, ask: Ask, wait_s: float) -> None:
        """Write down that a call waits, and hold it until it is approved.

        If cancelled, what was written down stays.

        Raises:
            ApprovalDenied: the user said no.
            ApprovalRequired: nobody has decided within ``wait_s``, or too many wait already.
        """
        held = frozenset(self._waiting)
        approval = await self._transactions.run(ask_for, ask, held)
        if approval is None:
            raise ApprovalRequired(
                f"This call may cost up to {format_msat(ask.amount_msat)}, which is to be approved first, "
                f"and {MAX_WAITING} calls wait for that already: `otrta pending approvals`.",
                required_msat=ask.amount_msat,
                approval_id=None,
            )
        if approval.id in self._waiting:  # taken up twice in the same moment
            decided = self._waiting[approval.id]
        else:
            decided = self._waiting[approval.id] = trio.Event()
        try:
            with trio.move_on_after(wait_s):
                await decided.wait()
        finally:
            if self._waiting.get(approval.id) is decided:
                del self._waiting[approval.id]
        state = await self._transactions.run(lambda conn, _now: load(conn, approval.id).state)
        if state is ApprovalState.APPROVED:
            return
        if state is ApprovalState.DENIED:
            raise denied(approval.amount_msat)
        raise ApprovalRequired(
            f"This call may cost up to {format_msat(ask.amount_msat)}, which is to be approved first: "
            f"`otrta pending approve {approval.id}`. Then send it again.",
            required_msat=ask.amount_msat,
            approval_id=approval.id,
        )

    async def decide(self, approval_id: str, *, approve: bool) -> Approval:
        """Approve or deny a call that waits, and let it go on.

        Raises:
            ApprovalNotKnown: none waits under this id.
        """
        state = ApprovalState.APPROVED if approve else ApprovalState.DENIED
        approval = await self._transactions.run(decide, approval_id, state)
        if (held := self._waiting.get(approval.id)) is not None:
            held.set()
        return approval


def denied(amount_msat: int) -> ApprovalDenied:
    """Return the error of a call that the user has said no to."""
    return ApprovalDenied(
        f"The user was asked for a call that may cost up to {format_msat(amount_msat)}, and said no."
    )


def ask_for(conn: Connection, now: float, ask: Ask, held: frozenset[str]) -> Approval | None:
    """Write down what is asked, if the same does not wait already, held by nobody; None: too many wait."""
    conn.execute(
        delete(approvals).where(
            or_(
                and_(approvals.c.state == ApprovalState.WAITING, approvals.c.asked_at < now - FORGET_S),
                and_(approvals.c.state != ApprovalState.WAITING, approvals.c.decided_at < now - FORGET_S),
            ),
            approvals.c.id.not_in(held),
        )
    )
    known = waiting(conn)
    for approval in known:
        same = (approval.key_id, approval.model, approval.gateway) == (ask.key_id, ask.model, ask.gateway)
        if same and approval.amount_msat == ask.amount_msat and approval.id not in held:
            return approval
    if len(known) >= MAX_WAITING:
        return None
    approval_id = secrets.token_hex(4)
    conn.execute(
        insert_into(approvals).values(
            id=approval_id,
            state=ApprovalState.WAITING,
            key_id=ask.key_id,
            model=ask.model,
            gateway=ask.gateway,
            amount_msat=ask.amount_msat,
            asked_at=now,
        )
    )
    return load(conn, approval_id)


def decide(conn: Connection, now: float, approval_id: str, state: ApprovalState) -> Approval:
    """Write down what the user said.

    Raises:
        ApprovalNotKnown: none waits under this id.
    """
    is_it = and_(approvals.c.id == approval_id, approvals.c.state == ApprovalState.WAITING)
    if not conn.execute(update(approvals).where(is_it).values(state=state, decided_at=now)).rowcount:
        raise ApprovalNotKnown(
            f"No call waits for approval under {approval_id}: see `otrta pending approvals`."
        )
    return load(conn, approval_id)


def granted(conn: Connection, now: float, ask: Ask, holds_s: float) -> Approval | None:
    """Return the smallest approval that lets a call pass; None where there is none.

    Raises:
        ApprovalDenied: there is none, and the user said no to one that is as large or smaller.
    """
    unused = or_(approvals.c.call_id.is_(None), calls.c.state == CallState.REFUNDED)
    query = (
        select(approvals)
        .outerjoin(calls, calls.c.id == approvals.c.call_id)
        .where(*_is_for(ask), approvals.c.state == ApprovalState.APPROVED, unused)
        # one that is dated in the future is of a clock that was set back: it must not hold until then
        .where(approvals.c.decided_at.between(now - holds_s, now + holds_s))
        .where(approvals.c.amount_msat >= ask.amount_msat)
        .order_by(approvals.c.amount_msat)
    )
    if (row := conn.execute(query).first()) is not None:
        return _approval(row)
    query = select(approvals).where(*_is_for(ask), approvals.c.state == ApprovalState.DENIED)
    query = query.where(approvals.c.decided_at >= now - holds_s, approvals.c.amount_msat <= ask.amount_msat)
    if conn.execute(query).first() is not None:
        raise denied(ask.amount_msat)
    return None


def use(conn: Connection, approval_id: str, call_id: str) -> None:
    """Note for which payment an approval was used."""
    conn.execute(update(approvals).where(approvals.c.id == approval_id).values(call_id=call_id))


def waiting(conn: Connection) -> list[Approval]:
    """Return what waits for the user, oldest first."""
    query = select(approvals).where(approvals.c.state == ApprovalState.WAITING)
    return [_approval(row) for row in conn.execute(query.order_by(approvals.c.asked_at, approvals.c.id))]


def load(conn: Connection, approval_id: str) -> Approval:
    """Return what was asked under an id.

    Raises:
        ApprovalNotKnown: nothing.
    """
    row = conn.execute(select(approvals).where(approvals.c.id == approval_id)).first()
    if row is None:
        raise ApprovalNotKnown(
            f"No call waits for approval under {approval_id}: see `otrta pending approvals`."
        )
    return _approval(row)


def _unknown(approval_id: str) -> ApprovalNotKnown:
    return ApprovalNotKnown(f"No call waits for approval as {approval_id}: see `otrta pending approvals`.")


def _is_for(ask: Ask) -> tuple[ColumnElement[bool], ...]:
    return approvals.c.key_id.is_not_distinct_from(ask.key_id), approvals.c.model == ask.model


def _approval(row: Row[Any]) -> Approval:
    return Approval(
        row.id,
        ApprovalState(row.state),
        row.key_id,
        row.model,
        row.gateway,
        row.amount_msat,
        row.asked_at,
        row.decided_at,
    )
