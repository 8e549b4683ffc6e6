"""The moves of value from one mint to another, and their states.

::

    planned ──▶ paying ──▶ paid ──▶ done
        └──────────┴─────▶ failed

``planned``: the mints have said what it takes, and nothing has left. ``paying``: from the transaction that
takes the proofs for the Lightning payment. ``paid``: it has arrived at the other mint, which has not signed
e-cash for it yet. Each later state is written in the transaction that ends the wallet's own operation.
"""

import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from otrta_core import Unit
from otrta_wallet import Operation, journal, quotes
from proxy_trio.schema import moves


class MoveState(StrEnum):
    """Where a move is."""

    PLANNED = "planned"
    PAYING = "paying"
    PAID = "paid"
    DONE = "done"
    FAILED = "failed"


OPEN = (MoveState.PLANNED, MoveState.PAYING, MoveState.PAID)


@dataclass(frozen=True, slots=True)
class Move:
    """One move; amounts in msat. ``fee_msat`` is what it cost, once it is paid."""

    id: str
    state: MoveState
    from_mint: str
    from_unit: str
    to_mint: str
    to_unit: str
    amount_msat: int
    most_fee_msat: int
    fee_msat: int | None
    mint_quote_id: str
    melt_quote_id: str
    reason: str | None
    created_at: float


def begin(conn: Connection, now: float, **values: Any) -> str:
    """Write a move that is about to be made and return its id."""
    move_id = uuid.uuid4().hex
    row = {"id": move_id, "state": MoveState.PLANNED, "created_at": now, "changed_at": now, **values}
    conn.execute(insert(moves).values(row))
    return move_id


def change(
    conn: Connection,
    now: float,
    move_id: str,
    *,
    was: tuple[MoveState, ...],
    now_is: MoveState,
    **values: Any,
) -> bool:
    """Compare and set a move's state; False where it was another."""
    query = update(moves).where(moves.c.id == move_id, moves.c.state.in_(was))
    return conn.execute(query.values(state=now_is, changed_at=now, **values)).rowcount == 1


def load(conn: Connection, move_id: str) -> Move:
    """Return a move; raises KeyError."""
    row = conn.execute(select(moves).where(moves.c.id == move_id)).first()
    if row is None:
        raise KeyError(move_id)
    return _move(row)


def with_states(conn: Connection, *states: MoveState) -> list[Move]:
    """Return the moves in these states, oldest first."""
    query = select(moves).where(moves.c.state.in_(states)).order_by(moves.c.created_at)
    return [_move(row) for row in conn.execute(query)]


def newest(conn: Connection, limit: int) -> list[Move]:
    """Return the newest moves, newest first."""
    query = select(moves).order_by(moves.c.created_at.desc()).limit(limit)
    return [_move(row) for row in conn.execute(query)]


def payment_done(conn: Connection, now: float, operation: Operation) -> None:
    """Note, in the transaction that ends a Lightning payment, that a move is paid, and what it cost."""
    move = _of(conn, operation)
    if move is None:
        return
    swaps = journal.by_reference(conn, operation.id)
    fees = operation.fee + sum(swap.fee for swap in swaps if swap.state == "done")
    left_msat = Unit.parse(operation.unit).to_msat(operation.amount + fees)
    was = (MoveState.PLANNED, MoveState.PAYING)
    fee_msat = left_msat - move.amount_msat
    change(conn, now, move.id, was=was, now_is=MoveState.PAID, fee_msat=fee_msat)


def payment_failed(conn: Connection, now: float, operation: Operation) -> None:
    """Note, in the transaction that gives the proofs of a failed payment back, that a move has failed."""
    move = _of(conn, operation)
    if move is not None:
        reason = operation.error or "the Lightning payment failed"
        change(conn, now, move.id, was=(MoveState.PAYING,), now_is=MoveState.FAILED, reason=reason)
        quotes.set_quote_state(conn, move.mint_quote_id, was=("open",), now_is="expired")


def arrived(conn: Connection, now: float, quote_id: str) -> None:
    """Note, in the transaction that stores new e-cash, that a move is done."""
    query = select(moves.c.id).where(moves.c.mint_quote_id == quote_id)
    for move_id in conn.execute(query).scalars().all():
        change(conn, now, move_id, was=(MoveState.PAYING, MoveState.PAID), now_is=MoveState.DONE)


def _of(conn: Connection, operation: Operation) -> Move | None:
    try:
        return load(conn, operation.reference or "")
    except KeyError:
        return None


def _move(row: Row[Any]) -> Move:
    return Move(
        row.id,
        MoveState(row.state),
        row.from_mint,
        row.from_unit,
        row.to_mint,
        row.to_unit,
        row.amount_msat,
        row.most_fee_msat,
        row.fee_msat,
        row.mint_quote_id,
        row.melt_quote_id,
        row.reason,
        row.created_at,
    )
