"""The processes that share one database, and who of them is alive.

Every process that has a PostgreSQL wallet open is a worker: a row that a thread renews every
``RENEW_EVERY_S``. A worker whose row is older than ``STALE_AFTER_S``, or gone, is dead, and what it was
doing is anybody's. Only the database's clock counts, since those of several machines differ.

A worker that was only asleep may wake up and go on. So being alive is no right to act: whoever takes over
writes its own id into what it took (a compare-and-set), and an owner looks, in the same transaction in
which it notes what it is about to do, whether its id still stands there.

A SQLite wallet has one process by its lock file. It is the worker ``LOCAL``, always alive, without a row.
"""

import contextlib
import math
import threading
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any, Final

import anyio
from anyio import to_thread
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Float,
    cast,
    delete,
    exists,
    extract,
    func,
    insert,
    literal,
    select,
    true,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from otrta_wallet.schema import LOCAL, workers

RENEW_EVERY_S = 3.0
STALE_AFTER_S = 10.0
FORGOTTEN_AFTER_S = 86_400.0

_OPTION: Final = "otrta_worker"


class Worker:
    """This process, as the others see it.

    Attributes:
        id: what stands as owner in what it does.
        shared: whether there can be other workers.
    """

    def __init__(self, engine: Engine, worker_id: str, shared: bool) -> None:
        self.id = worker_id
        self.shared = shared
        self.engine = engine.execution_options(**{_OPTION: worker_id})
        self._renewed_at = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, name="otrta-worker", daemon=True)

    def is_current(self) -> bool:
        """Tell, without asking the database, whether nobody can have taken this worker for dead yet."""
        return not self.shared or time.monotonic() - self._renewed_at < STALE_AFTER_S

    def renew(self) -> None:
        """Write down that this worker is alive.

        Raises:
            SQLAlchemyError: the database could not be asked.
        """
        began = time.monotonic()
        with self.engine.begin() as conn:
            query = update(workers).where(workers.c.id == self.id)
            if conn.execute(query.values(renewed_at=_database_time())).rowcount == 0:
                conn.execute(insert(workers).values(id=self.id, renewed_at=_database_time()))
        self._renewed_at = began

    def _keep_alive(self) -> None:
        while not self._stop.wait(RENEW_EVERY_S):
            with contextlib.suppress(SQLAlchemyError):  # tried again; meanwhile it grows stale
                self.renew()

    def start(self) -> None:
        """Become known and stay alive; raises as ``renew``."""
        self.renew()
        with contextlib.suppress(SQLAlchemyError), self.engine.begin() as conn:
            forgotten = workers.c.renewed_at < _database_time() - FORGOTTEN_AFTER_S
            conn.execute(delete(workers).where(forgotten))
        self._thread.start()

    def stop(self) -> None:
        """Leave: what is still open is anybody's at once."""
        self._renewed_at = -math.inf
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(SQLAlchemyError), self.engine.begin() as conn:
            conn.execute(delete(workers).where(workers.c.id == self.id))


@contextlib.asynccontextmanager
async def enroll(engine: Engine) -> AsyncIterator[Worker]:
    """Be a worker on this database until the end.

    Raises:
        SQLAlchemyError: the database could not be asked.
    """
    if engine.dialect.name != "postgresql":
        yield Worker(engine, LOCAL, shared=False)
        return
    worker = Worker(engine, uuid.uuid4().hex, shared=True)
    await to_thread.run_sync(worker.start)
    try:
        yield worker
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(worker.stop)


def own_id(conn: Connection) -> str:
    """Return the id of the worker whose connection this is."""
    return str(conn.get_execution_options().get(_OPTION, LOCAL))


def is_alive(conn: Connection, owner: ColumnElement[str] | str) -> ColumnElement[bool]:
    """Return the SQL condition that the worker named by ``owner`` is alive."""
    if conn.dialect.name != "postgresql":
        return true()
    named: Any = literal(owner) if isinstance(owner, str) else owner
    return exists(
        select(workers.c.id).where(
            workers.c.id == named, workers.c.renewed_at > _database_time() - STALE_AFTER_S
        )
    )


def _database_time() -> ColumnElement[float]:
    """The server's clock in unix seconds, as it is now and not as it was when the transaction began."""
    return cast(extract("epoch", func.clock_timestamp()), Float)
