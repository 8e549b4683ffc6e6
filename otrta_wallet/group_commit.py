"""Group commit: what waits while SQLite commits shares the next commit.

SQLite lets one transaction write at a time, and each commit waits for the disk. So whoever comes while one
runs queues, and all that have queued then run one after the other in a single transaction, each in a
savepoint of its own: one that fails is undone alone, and none is told that it is done before the commit.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import anyio
from anyio import to_thread
from sqlalchemy import Connection, Engine

from otrta_wallet.errors import StoreUnavailable

_T = TypeVar("_T")

MOST: Final = 32
"""How many share one commit."""

Work = Callable[[Connection], _T]


@dataclass(slots=True, eq=False)
class _Job:
    work: Work[Any]
    result: Any = None
    error: BaseException | None = None
    leads: bool = False
    called: anyio.Event = field(default_factory=anyio.Event)
    done: anyio.Event = field(default_factory=anyio.Event)

    def try_on(self, connection: Connection) -> None:
        """Run the work; what it raises is its own affair."""
        driver: Any = connection.connection.dbapi_connection  # savepoints by way of SQLAlchemy take longer
        driver.execute("SAVEPOINT job")
        try:
            self.result, self.error = self.work(connection), None
        except BaseException as error:
            if not driver.in_transaction:  # SQLite undid all of it: a full disk, for one
                raise
            driver.execute("ROLLBACK TO job")
            self.error = error
        driver.execute("RELEASE job")

    def outcome(self) -> Any:
        """Return what the work returned, or raise what it raised."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None  # else the traceback would keep this frame, and the frame the error
        return self.result


class GroupCommit:
    """Runs works on a SQLite engine, as many in one commit as have queued. For one event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: list[_Job] = []
        self._is_led = False
        self._limiter: anyio.CapacityLimiter | None = None

    async def run(self, work: Work[_T]) -> _T:
        """Call ``work(connection)`` in a worker thread and return its result once it is committed.

        A caller that is cancelled while its work still queues takes it out again; afterwards it waits for
        the commit.

        Raises:
            whatever ``work`` raises: nothing of it is kept. It may be called twice, so it must have no
                other effect than on its connection.
        """
        job = _Job(work)
        self._waiting.append(job)
        if self._is_led:
            try:
                await job.called.wait()
            except BaseException:
                await self._withdraw(job)
                raise
        else:
            self._is_led = job.leads = True
        with anyio.CancelScope(shield=True):
            if job.leads:
                await self._lead()
            else:
                await job.done.wait()
        result: _T = job.outcome()
        return result

    async def _withdraw(self, job: _Job) -> None:
        if job in self._waiting:
            self._waiting.remove(job)
            if job.leads:
                self._hand_over()
        else:
            with anyio.CancelScope(shield=True):
                await job.done.wait()

    async def _lead(self) -> None:
        """Commit all that wait, the leader's own first among them, and name the next leader."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(1)
        jobs = self._waiting[:MOST]
        del self._waiting[:MOST]
        for job in jobs:
            job.error = StoreUnavailable("the wallet's database was left in the middle of a transaction")
            job.called.set()
        try:
            await to_thread.run_sync(self._commit, jobs, limiter=self._limiter)
        finally:
            for job in jobs:
                job.done.set()
            self._hand_over()

    def _hand_over(self) -> None:
        if self._waiting:
            self._waiting[0].leads = True
            self._waiting[0].called.set()
        else:
            self._is_led = False

    def _commit(self, jobs: list[_Job]) -> None:
        if len(jobs) > 1:
            try:
                with self._engine.begin() as connection:
                    for job in jobs:
                        job.try_on(connection)
            except BaseException:  # noqa: S110 (nothing was committed, and each finds its own error below)
                pass
            else:
                return
        for job in jobs:
            try:
                with self._engine.begin() as connection:
                    job.result = job.work(connection)
                job.error = None
            except BaseException as error:
                job.error = error
