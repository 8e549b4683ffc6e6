"""Running synchronous transactions from either event loop.

Transactions of several processes on one PostgreSQL database get into each other's way. So that none waits
for another in a circle, every transaction locks in this order, what it does not need left out:

1. the operation (``journal.hold``, or the compare-and-set that closes it)
2. the transfer or quote it belongs to
3. proofs: chosen ones without waiting (``at_hand.take`` skips what others have locked), all others in the
   order of their Y (``store.lock_proofs``); rows of new proofs are inserted in that order too
4. the keyset whose counters are taken; several keysets in the order of their ids
5. what participants and ``also`` callbacks of other packages have

What still collides, in whatever way, is rolled back and run again from the beginning. So the functions that
are run here, and the callbacks that run in them, must do nothing but work on their connection.
"""

import random
import time
from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

import anyio
from anyio import to_thread
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from otrta_wallet.errors import StoreUnavailable
from otrta_wallet.group_commit import GroupCommit

_T = TypeVar("_T")
_P = ParamSpec("_P")
_THREADS = 8
_TRIES = 100
_KEY_TRIES = 3
_LONGEST_PAUSE_S = 0.1
_COLLISIONS: Final = frozenset({"40001", "40P01", "55P03"})  # serialization, deadlock, a lock not had in time
_UNIQUE: Final = "23505"


class Contended(Exception):
    """Somebody else has what this transaction wants and will be done with it in a moment: run it again."""


class Transactions:
    """Runs functions in a worker thread, each in one transaction of its own."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock
        self._group = GroupCommit(engine) if engine.dialect.name == "sqlite" else None
        self._limiter: anyio.CapacityLimiter | None = None

    def now(self) -> float:
        """The time in unix seconds."""
        return self._clock()

    async def run(
        self,
        work: Callable[Concatenate[Connection, float, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Call ``work(connection, now, ...)`` and commit; an exception rolls back.

        Where other processes were in the way it is rolled back and called again, so it must have no other
        effect than on its connection. A caller that is cancelled waits for the running attempt's end: it is
        then done or rolled back, never half-way.

        Raises:
            StoreUnavailable: the database was lost; whether it committed is then not known.
            whatever ``work`` raises.
        """

        def on(connection: Connection) -> _T:
            return work(connection, self._clock(), *args, **kwargs)

        for attempt in range(_TRIES):
            try:
                return await self._commit(on)
            except Contended:
                pass
            except (DBAPIError, PoolTimeout) as error:
                if not _collided(error, attempt):
                    if _lost(error):
                        raise StoreUnavailable("the wallet's database cannot be used right now") from None
                    raise
            longest_s = min(_LONGEST_PAUSE_S, 0.002 * 2**attempt)
            await anyio.sleep(longest_s * random.uniform(0.5, 1.0))  # noqa: S311 (nobody is to guess it)
        raise StoreUnavailable("the wallet's database is too busy right now: try again soon")

    async def _commit(self, work: Callable[[Connection], _T]) -> _T:
        if self._group is not None:
            return await self._group.run(work)
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(_THREADS)

        def transaction() -> _T:
            with self._engine.begin() as connection:
                return work(connection)

        return await to_thread.run_sync(transaction, limiter=self._limiter)


def _collided(error: DBAPIError | PoolTimeout, attempt: int) -> bool:
    """Whether somebody else was faster: what this one looked for before it wrote, it will find now."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    if isinstance(error, IntegrityError) and state == _UNIQUE:
        return attempt < _KEY_TRIES
    return state in _COLLISIONS


def _lost(error: DBAPIError | PoolTimeout) -> bool:
    """Whether the database itself failed, and not a statement."""
    if isinstance(error, PoolTimeout):
        return True
    state = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state[:2] in ("08", "53", "57")
