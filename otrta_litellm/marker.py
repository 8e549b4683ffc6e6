"""Knowing whether the store is the one that it was: a file outside it counts along with it.

A store that is a copy or a backup must not go on as if nothing had happened: another store may take tokens
locked to the same key, its proofs may be spent and its counters used. So the file and the store both hold a
number that is raised every few seconds while the gateway runs, and the store holds what it is by itself (the
number of its file, or what PostgreSQL calls its cluster and database). What does not fit is a copy.

A snapshot of a whole machine takes both along, and is not found out.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from enum import Enum, auto
from pathlib import Path

import anyio
import platformdirs
import structlog
from anyio import to_thread
from filelock import FileLock, Timeout
from sqlalchemy import Connection, delete, make_url, select, text, update
from sqlalchemy.exc import DBAPIError

from otrta_litellm.schema import markers
from otrta_litellm.settings import GatewaySettings, SettingsError
from otrta_wallet import Wallet, store
from otrta_wallet.database import sqlite_path

RAISE_EVERY_S = 5.0
FORGOTTEN_AFTER_S = 400 * 86_400.0
"""How long a machine that is not heard of may come back with its file."""

_COPIED = "copied"  # the name of the wallet's setting that says what has still to be looked at
_DATABASE = text("SELECT oid FROM pg_database WHERE datname = current_database()")
_CLUSTER = text("SELECT system_identifier FROM pg_control_system()")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Mark:
    """What the file says, and the store of the same place.

    Attributes:
        place: the machine, or directory, that the file belongs to.
        number: raised while the gateway runs; first in the store, then in the file.
        identity: what the store is by itself.
    """

    place: str
    number: int
    identity: str


class Finding(Enum):
    """What a store turns out to be at a start."""

    NEW = auto()
    SAME = auto()
    COPIED = auto()


def judge(in_file: Mark | None, in_store: Collection[Mark], identity: str, *, shared: bool) -> Finding:
    """Compare what the file, the store's rows and the store itself say.

    Args:
        in_file: None where there is no file, or none that can be read.
        in_store: of all places.
        identity: of the store, as it is now.
        shared: whether further machines may join.
    """
    if not in_store:
        return Finding.NEW
    if any(mark.identity != identity for mark in in_store):
        return Finding.COPIED
    if in_file is None:
        return Finding.SAME if shared else Finding.COPIED
    here = next((mark for mark in in_store if mark.place == in_file.place), None)
    if here is None or here.number < in_file.number or in_file.identity != identity:
        return Finding.COPIED
    return Finding.SAME


class Marker:
    """The file, and the store's row for it."""

    def __init__(self, settings: GatewaySettings, wallet: Wallet) -> None:
        self._wallet = wallet
        self._store_file = sqlite_path(settings.store_url)
        self.path = _path(settings, self._store_file)
        self._lock = FileLock(f"{self.path}.lock", thread_local=False, mode=0o600)

    async def arrive(self) -> Finding:
        """Look what the store is, at the start, and write that down.

        A copy gets a new lock key, and is marked until ``settle`` is told that it was looked through.

        Raises:
            SettingsError: the file cannot be written.
        """
        with _writable(self.path):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            await self._lock_file()
            try:
                in_file = self._read()
                finding, mark = await self._wallet.transactions.run(self._arrive, in_file)
                await to_thread.run_sync(self._write, mark)
            finally:
                self._lock.release()
        if finding is Finding.COPIED:
            _log.warning("store_is_a_copy", file=str(self.path))
        await self._wallet.lock_keys.load()
        return finding

    async def raise_number(self) -> None:
        """Raise the number in the store and in the file, where no other worker of this machine is at it."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return
        try:
            in_file = self._read()
            mark = None if in_file is None else await self._wallet.transactions.run(_raise, in_file)
            if mark is None:
                # an older store was put in its place under way: the next start will see it
                _log.error("store_does_not_fit_its_marker", file=str(self.path))
            else:
                await to_thread.run_sync(self._write, mark)
        finally:
            self._lock.release()

    async def _lock_file(self) -> None:
        # not in a thread: the lock counts as that of the thread that took it
        while True:
            with suppress(Timeout):
                self._lock.acquire(timeout=0)
                return
            await anyio.sleep(0.05)

    async def is_unsettled(self) -> bool:
        """Tell whether the store is a copy that has not been looked through yet."""
        found = await self._wallet.transactions.run(lambda conn, _now: store.get_setting(conn, _COPIED))
        return found == "yes"

    async def settle(self) -> None:
        """Note that a copy has been looked through."""
        await self._wallet.transactions.run(lambda conn, _now: store.put_setting(conn, _COPIED, "no"))

    def _arrive(self, conn: Connection, now: float, in_file: Mark | None) -> tuple[Finding, Mark]:
        identity = self._identity(conn)
        in_store = [Mark(row.place, row.number, row.identity) for row in conn.execute(select(markers))]
        finding = judge(in_file, in_store, identity, shared=self._store_file is None)
        if finding is Finding.COPIED:
            conn.execute(delete(markers))
            self._wallet.lock_keys.renew(conn, now)
            store.put_setting(conn, _COPIED, "yes")
        place = in_file.place if in_file is not None and finding is Finding.SAME else uuid.uuid4().hex
        numbers = [mark.number for mark in (in_file, *in_store) if mark is not None and mark.place == place]
        mark = Mark(place, max(numbers, default=0) + 1, identity)
        conn.execute(delete(markers).where(markers.c.seen_at < now - FORGOTTEN_AFTER_S))
        if not store.insert_new(conn, markers, **asdict(mark), seen_at=now):
            row = update(markers).where(markers.c.place == place)
            conn.execute(row.values(number=mark.number, identity=identity, seen_at=now))
        return finding, mark

    def _identity(self, conn: Connection) -> str:
        if self._store_file is not None:
            return f"file {self._store_file.stat().st_ino}"
        oid = conn.execute(
            text("SELECT oid FROM pg_database WHERE datname = current_database()")
        ).scalar_one()
        cluster = ""
        with suppress(DBAPIError), conn.begin_nested():  # who may not ask is known by the database alone
            cluster = conn.execute(text("SELECT system_identifier FROM pg_control_system()")).scalar_one()
        return f"database {cluster} {oid}"

    def _read(self) -> Mark | None:
        try:
            found = json.loads(self.path.read_text())
            return Mark(str(found["place"]), int(found["number"]), str(found["identity"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write(self, mark: Mark) -> None:
        new = self.path.with_name(f"{self.path.name}.new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(json.dumps(asdict(mark)))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)


def _raise(conn: Connection, now: float, in_file: Mark) -> Mark | None:
    """Raise a place's number; None where the store is behind its file."""
    row = conn.execute(select(markers).where(markers.c.place == in_file.place).with_for_update()).first()
    if row is None or row.number < in_file.number:
        return None
    mark = Mark(in_file.place, row.number + 1, in_file.identity)
    query = update(markers).where(markers.c.place == in_file.place)
    conn.execute(query.values(number=mark.number, seen_at=now))
    return mark


def _path(settings: GatewaySettings, store_file: Path | None) -> Path:
    """Where the file is: beside an SQLite store, else in a directory of this machine."""
    if settings.state_dir is None and store_file is not None:
        return store_file.with_name(f"{store_file.name}.marker")
    url = make_url(settings.store_url)
    named = f"{url.host}:{url.port or 5432}/{url.database}" if store_file is None else str(store_file)
    home = settings.state_dir or platformdirs.user_state_path("otrta")
    return Path(home).expanduser() / f"{hashlib.sha256(named.encode()).hexdigest()[:16]}.marker"


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SettingsError(
            f"{path.parent} cannot be written ({error.strerror}): set callback_settings.otrta.state_dir to a "
            "directory that lasts, and is not part of the store's backups"
        ) from None
