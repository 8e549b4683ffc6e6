"""Running synchronous transactions from either event loop."""

import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import anyio
from anyio import to_thread
from sqlalchemy import Connection, Engine

_T = TypeVar("_T")
_P = ParamSpec("_P")
_THREADS = 8


class Transactions:
    """Runs functions in a worker thread, each in one transaction of its own."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock
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

        A caller that is cancelled waits for the transaction's end: it is then done or rolled back, never
        half-way.
        """
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(_THREADS)

        def transaction() -> _T:
            with self._engine.begin() as connection:
                return work(connection, self._clock(), *args, **kwargs)

        return await to_thread.run_sync(transaction, limiter=self._limiter)
