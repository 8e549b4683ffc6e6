"""Opening the database: SQLite that cannot lose a commit, and migrations before first use."""

import contextlib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock, Timeout
from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.pool import QueuePool

from otrta_wallet.errors import WalletBusy, WalletError

BUSY_TIMEOUT_S = 30.0
_POOL = 16


def open_engine(url: str | URL) -> Engine:
    """Make the engine for a database URL.

    SQLite runs in WAL with ``synchronous=FULL`` and begins every transaction with ``BEGIN IMMEDIATE``, so
    that a transaction that reads before it writes can neither lose an update nor fail half-way.

    Raises:
        WalletError: the database is of another kind than SQLite, or not in a file.
    """
    url = make_url(url)
    if url.get_backend_name() != "sqlite":
        raise WalletError(f"the store must be SQLite for now, not {url.get_backend_name()}")
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


def _on_connect(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def sqlite_path(url: str | URL) -> Path | None:
    """Return the file behind a SQLite URL, or None for a database that is not a file."""
    url = make_url(url)
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    return Path(url.database).resolve()


@contextlib.contextmanager
def sole_owner(url: str | URL) -> Iterator[None]:
    """Hold a SQLite database for this process alone, by a lock file beside it.

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

    Args:
        engine: of the database.
        package: import path of the package that holds the ``migrations`` folder.
        version_table: where this package's version stands; each package has its own.
    """
    with resources.as_file(resources.files(package) / "migrations") as scripts, engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(scripts))
        config.attributes["connection"] = connection
        config.attributes["version_table"] = version_table
        head = ScriptDirectory.from_config(config).get_current_head()
        context = MigrationContext.configure(connection, opts={"version_table": version_table})
        if context.get_current_revision() != head:
            command.upgrade(config, "head")
