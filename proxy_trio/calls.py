"""The payments for calls and their states.

::

    in_flight ──▶ awaiting_change ──▶ done | refunded | disputed
        └────────────────────────────▶ done | refunded | disputed
    disputed ──▶ done | refunded (the gateway gave it after all) | lost (its time is over)

    done ──▶ disputed (the change was false, or spent already) | refunded (the token was never taken)

A payment is ``in_flight`` from the transaction that takes its proofs out of the wallet. ``done``: its change
is stored. ``refunded``: the token is ours again. ``disputed``: the gateway kept more than it may.
``missing_msat`` of a dispute is what has still to come.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, case, func, insert, select, update

from otrta_wallet.schema import operations, transfers
from proxy_trio.schema import CallState, calls

OPEN = (CallState.IN_FLIGHT, CallState.AWAITING_CHANGE)
CLOSED = (CallState.DONE, CallState.REFUNDED, CallState.LOST)


@dataclass(frozen=True, slots=True)
class PaidCall:
    """The payment of one call; amounts in msat."""

    id: str
    state: CallState
    gateway: str
    model: str
    stream: bool
    mint: str
    unit: str
    transfer_id: str
    paid_msat: int
    fee_msat: int
    bound_msat: int
    cost_msat: int | None
    change_msat: int | None
    change_token: str | None = field(repr=False)
    missing_msat: int | None
    reason: str | None
    refused: bool
    tries: int
    next_try_at: float
    created_at: float
    key_id: str | None = None

    @property
    def spent_msat(self) -> int:
        """What counts against budgets: all that was paid until it is known what came back."""
        return self.paid_msat - (self.change_msat or 0)


def new_id() -> str:
    """Make the id of a payment."""
    return uuid.uuid4().hex


def begin(conn: Connection, now: float, **values: Any) -> None:
    """Write a payment that is about to leave."""
    conn.execute(
        insert(calls).values(
            state=CallState.IN_FLIGHT,
            refused=False,
            tries=0,
            next_try_at=now,
            created_at=now,
            changed_at=now,
            **values,
        )
    )


def load(conn: Connection, call_id: str) -> PaidCall:
    """Return a payment.

    Raises:
        KeyError: there is none of this id.
    """
    row = conn.execute(select(calls).where(calls.c.id == call_id)).first()
    if row is None:
        raise KeyError(call_id)
    return _call(row)


def change(
    conn: Connection,
    now: float,
    call_id: str,
    *,
    was: Sequence[CallState] = (*OPEN, CallState.DISPUTED),
    **values: Any,
) -> bool:
    """Change a payment that is in one of the states ``was``; False where it is in another."""
    query = update(calls).where(calls.c.id == call_id, calls.c.state.in_(was))
    return conn.execute(query.values(changed_at=now, **values)).rowcount == 1


def with_states(conn: Connection, states: Sequence[CallState]) -> list[PaidCall]:
    """Return the payments in any of these states, oldest first."""
    query = select(calls).where(calls.c.state.in_(states)).order_by(calls.c.created_at)
    return [_call(row) for row in conn.execute(query)]


def of_transfers(conn: Connection, transfer_ids: Sequence[str]) -> list[PaidCall]:
    """Return the payments that these transfers were made for."""
    query = select(calls).where(calls.c.transfer_id.in_(transfer_ids))
    return [_call(row) for row in conn.execute(query)]


def with_token_left(conn: Connection) -> list[PaidCall]:
    """Return the payments that are done and of which the token is still here, oldest first.

    Those whose change waits for its swap are left out: the swap will tell.
    """
    waiting = select(operations.c.reference).where(
        operations.c.reference.is_not(None), operations.c.state.in_(("stored", "prepared"))
    )
    query = (
        select(calls)
        .join(transfers, transfers.c.id == calls.c.transfer_id)
        .where(calls.c.state == CallState.DONE, transfers.c.state == "open", calls.c.id.not_in(waiting))
        .order_by(calls.c.created_at)
    )
    return [_call(row) for row in conn.execute(query)]


def newest(conn: Connection, limit: int) -> list[PaidCall]:
    """Return the newest payments, newest first."""
    query = select(calls).order_by(calls.c.created_at.desc()).limit(limit)
    return [_call(row) for row in conn.execute(query)]


def spent_since(conn: Connection, since: Sequence[float], key_id: str | None = None) -> list[int]:
    """Return what calls since each of some times have spent, in msat; of open ones all that was paid.

    What is dated in the future counts too. With ``key_id`` only the calls of that app key count.
    """
    if not since:
        return []
    came_back = case((calls.c.state.in_(OPEN), 0), else_=func.coalesce(calls.c.change_msat, 0))
    spent = calls.c.paid_msat - came_back
    sums = [func.coalesce(func.sum(case((calls.c.created_at >= at, spent), else_=0)), 0) for at in since]
    query = select(*sums).where(calls.c.created_at >= min(since))
    if key_id is not None:
        query = query.where(calls.c.key_id == key_id)
    return [int(found) for found in conn.execute(query).one()]


def _call(row: Row[Any]) -> PaidCall:
    return PaidCall(
        row.id,
        CallState(row.state),
        row.gateway,
        row.model,
        row.stream,
        row.mint,
        row.unit,
        row.transfer_id,
        row.paid_msat,
        row.fee_msat,
        row.bound_msat,
        row.cost_msat,
        row.change_msat,
        row.change_token,
        row.missing_msat,
        row.reason,
        row.refused,
        row.tries,
        row.next_try_at,
        row.created_at,
        row.key_id,
    )
