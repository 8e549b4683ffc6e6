"""Opening the database: SQLite or PostgreSQL that cannot lose a commit, and migrations before first use.

PostgreSQL runs in READ COMMITTED. What must not change under a transaction is held by row locks and by
compare-and-set, and a row's key by its unique index; SERIALIZABLE would add aborts wherever two workers
take counters of one keyset, and guard nothing that these leave open.
"""

import contextlib
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock, Timeout
from sqlalchemy import URL, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import QueuePool

from otrta_wallet.errors import StoreUnavailable, WalletBusy, WalletError

BUSY_TIMEOUT_S = 30.0
_POOL = 16
_POSTGRES_POOL = 4
_POSTGRES_OVERFLOW = 6
_POSTGRES_CONNECT_S = 10
_POSTGRES_SETTINGS = {
    "lock_timeout": "10s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "60s",
    "default_transaction_isolation": "read committed",
    "synchronous_commit": "on",
}
_MIGRATIONS_LOCK = 0x6F74727461  # "otrta": whoever migrates holds it, so that one worker does
_ONE_AT_A_TIME = threading.Lock()
_TELLING = ("08", "23", "28", "3D", "40", "42", "53", "55", "57")


def open_engine(url: str | URL) -> Engine:
    """Make the engine for a database URL; ``postgresql://`` means psycopg 3.

    SQLite runs in WAL with ``synchronous=FULL`` and begins every transaction with ``BEGIN IMMEDIATE``, so
    that a transaction that reads before it writes can neither lose an update nor fail half-way.

    Raises:
        WalletError: the database is of another kind, not in a file, or its driver is not installed.
    """
    url = _parsed(url)
    if url.get_backend_name() == "postgresql":
        return _open_postgres(url)
    if url.get_backend_name() != "sqlite":
        raise WalletError(f"the store must be SQLite or PostgreSQL, not {url.get_backend_name()}")
    path = sqlite_path(url)
    if path is None:
        raise WalletError("the store must be a file: in memory it would end with the process")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.chmod(0o600)
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=_POOL,
        max_overflow=_POOL,
        connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None, "check_same_thread": False},
        hide_parameters=True,  # parameters hold secrets, and errors must not show them
    )
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _open_postgres(url: URL) -> Engine:
    options = " ".join(
        f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in _POSTGRES_SETTINGS.items()
    )
    try:
        engine = create_engine(
            url,
            poolclass=QueuePool,
            pool_size=_POSTGRES_POOL,
            max_overflow=_POSTGRES_OVERFLOW,
            pool_pre_ping=True,
            connect_args={"connect_timeout": _POSTGRES_CONNECT_S, "options": options},
            hide_parameters=True,
        )
    except ModuleNotFoundError:
        raise WalletError(
            "a PostgreSQL store needs psycopg: install it with `pip install 'otrta[postgres]'`"
        ) from None
    event.listen(engine, "handle_error", _without_rows)
    return engine


def _parsed(url: str | URL) -> URL:
    try:
        url = make_url(url)
    except (ArgumentError, ValueError):  # neither may show the URL, which can hold a password
        raise WalletError(
            "the store's address is not a database URL such as sqlite:////home/me/w.sqlite3"
        ) from None
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "postgresql" and url.drivername != "postgresql+psycopg":
        raise WalletError("a PostgreSQL store is used through psycopg 3: write the URL as postgresql://…")
    return url


def _on_connect(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _without_rows(context: ExceptionContext) -> None:
    """Take out of PostgreSQL's errors what it tells of the row: secrets may stand there."""
    error: Any = context.original_exception
    state = getattr(error, "sqlstate", None)
    if state is None:  # of the driver itself, about the connection
        return
    primary = error.diag.message_primary if state[:2] in _TELLING else None
    said = f"{primary or 'the statement failed'} ({state})"
    error.args = (said,)
    if context.sqlalchemy_exception is not None:
        name = type(error).__name__
        context.sqlalchemy_exception.args = (f"({name}) {said}",)


def sqlite_path(url: str | URL) -> Path | None:
    """Return the file behind a SQLite URL, or None for a database that is not a file."""
    url = _parsed(url)
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    return Path(url.database).resolve()


@contextlib.contextmanager
def sole_owner(url: str | URL) -> Iterator[None]:
    """Hold a SQLite database for this process alone, by a lock file beside it; others are shared.

    Raises:
        WalletBusy: another process holds it.
    """
    path = sqlite_path(url)
    if path is None:
        yield
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock", timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        raise WalletBusy("another process has this wallet open: stop it, or ask it to do this") from None
    try:
        yield
    finally:
        lock.release()


def upgrade(engine: Engine, package: str, version_table: str) -> None:
    """Bring the tables of a package to their newest version with Alembic.

    Of several workers that start at once, one migrates and the others wait for it.

    Args:
        engine: of the database.
        package: import path of the package that holds the ``migrations`` folder.
        version_table: where this package's version stands; each package has its own.

    Raises:
        StoreUnavailable: the database server could not be reached, or let nobody in.
    """
    with contextlib.ExitStack() as stack:
        scripts = stack.enter_context(resources.as_file(resources.files(package) / "migrations"))
        stack.enter_context(_ONE_AT_A_TIME)  # Alembic keeps its context in a module
        stack.enter_context(_reached(engine.url))
        connection = stack.enter_context(engine.begin())
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATIONS_LOCK})
        config = Config()
        config.set_main_option("script_location", str(scripts))
        config.attributes["connection"] = connection
        config.attributes["version_table"] = version_table
        head = ScriptDirectory.from_config(config).get_current_head()
        context = MigrationContext.configure(connection, opts={"version_table": version_table})
        if context.get_current_revision() != head:
            command.upgrade(config, "head")


@contextlib.contextmanager
def _reached(url: URL) -> Iterator[None]:
    """Say in a sentence, without the password, that a database server could not be used."""
    try:
        yield
    except DBAPIError as error:
        if url.get_backend_name() != "postgresql":
            raise
        said = next(iter(str(error.orig).strip().splitlines()), type(error.orig).__name__)
        if url.password:
            said = said.replace(str(url.password), "***")
        place = f"{url.host or 'this machine'}:{url.port or 5432}"
        raise StoreUnavailable(f"the PostgreSQL server at {place} cannot be used: {said}") from None
