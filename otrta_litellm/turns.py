"""Work that one of several workers does at a time, so that nobody asks a mint what another is asking.

A turn saves questions and nothing else. Whatever is done in one must come out right when two do it at once:
a worker that hangs in its turn does not hold up the others for longer than ``LONGEST_S``.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from sqlalchemy import Connection, or_, update

from otrta_litellm.schema import turns
from otrta_wallet import Wallet, store
from otrta_wallet.workers import is_alive, own_id

LONGEST_S = 60.0


@asynccontextmanager
async def turn(wallet: Wallet, name: str) -> AsyncIterator[bool]:
    """Take the turn at some work, and leave it at the end; tells whether it was free.

    Cancelled, the turn is left, or taken by others when its worker is gone or ``LONGEST_S`` are over.
    """
    if not wallet.worker.shared:
        yield True
        return
    ours = await wallet.transactions.run(take_turn, name)
    try:
        yield ours
    finally:
        if ours:
            with anyio.CancelScope(shield=True):
                await wallet.transactions.run(leave_turn, name)


def take_turn(conn: Connection, now: float, name: str) -> bool:
    """Take a turn that is free, or whose owner is dead or has had it for too long; False where it is not."""
    if store.insert_new(conn, turns, name=name, owner=own_id(conn), begun_at=now):
        return True
    free = or_(
        turns.c.owner.is_(None),
        turns.c.owner == own_id(conn),
        ~is_alive(conn, turns.c.owner),
        ~turns.c.begun_at.between(now - LONGEST_S, now + LONGEST_S),  # clocks differ
    )
    query = update(turns).where(turns.c.name == name, free)
    return conn.execute(query.values(owner=own_id(conn), begun_at=now)).rowcount == 1


def leave_turn(conn: Connection, _now: float, name: str) -> None:
    """Leave a turn to whoever wants it next."""
    query = update(turns).where(turns.c.name == name, turns.c.owner == own_id(conn))
    conn.execute(query.values(owner=None))
