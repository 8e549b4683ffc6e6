"""Stores for tests, of both kinds: made once as a template, and copied for each wallet."""

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, Self

from otrta_wallet.database import open_engine, upgrade
from otrta_wallet.wallet import VERSION_TABLE
from tests.postgres import Server

KINDS = ("sqlite", "postgresql")


class Template(Protocol):
    """What stores are copies of."""

    kind: str

    def url_in(self, directory: Path, name: str) -> str:
        """The URL of the store of this name, which is made if there is none."""

    def copy(self, directory: Path, name: str, to: str) -> None:
        """Copy a store, which nobody has open, to another name."""

    def used(self) -> AbstractContextManager["Template"]:
        """This template for one test: what was made of it is gone at the end."""


class SqliteTemplate:
    """A file, or none yet."""

    kind = "sqlite"

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    def url_in(self, directory: Path, name: str) -> str:
        home = directory / name
        if not home.exists():
            home.mkdir(mode=0o700)
            if self._path is not None:
                shutil.copy(self._path, home / "wallet.sqlite3")
        return f"sqlite:///{home}/wallet.sqlite3"

    def copy(self, directory: Path, name: str, to: str) -> None:
        shutil.copytree(directory / name, directory / to)

    @contextmanager
    def used(self) -> Iterator[Self]:
        yield self


class PostgresTemplate:
    """A database; its copies are put back as they were when the test is over, and used again."""

    kind = "postgresql"

    def __init__(self, server: Server, database: str, free: list[str]) -> None:
        self._server = server
        self._database = database
        self._free = free
        self._made: dict[tuple[Path, str], str] = {}

    @classmethod
    def of(cls, server: Server, database: str) -> Self:
        """A template of what is in a database now."""
        server.keep(database)
        return cls(server, database, [])

    def url_in(self, directory: Path, name: str) -> str:
        if (directory, name) not in self._made:
            database = self._free.pop() if self._free else self._server.create(self._database)
            self._made[directory, name] = database
        return self._server.url(self._made[directory, name])

    def copy(self, directory: Path, name: str, to: str) -> None:
        self._made[directory, to] = self._server.create(self._made[directory, name])

    @contextmanager
    def used(self) -> Iterator[Self]:
        fresh = type(self)(self._server, self._database, self._free)
        yield fresh
        for database in fresh._made.values():
            self._server.put_back(database)
            self._free.append(database)


class PostgresPlaces:
    """Databases with nothing in them, for what makes its own tables; they stay as long as the server."""

    kind = "postgresql"

    def __init__(self, server: Server) -> None:
        self._server = server
        self._made: dict[tuple[Path, str], str] = {}

    def url_in(self, directory: Path, name: str) -> str:
        if (directory, name) not in self._made:
            self._made[directory, name] = self._server.create()
        return self._server.url(self._made[directory, name])

    def copy(self, directory: Path, name: str, to: str) -> None:
        self._made[directory, to] = self._server.create(self._made[directory, name])

    @contextmanager
    def used(self) -> Iterator[Self]:
        yield self


def migrated(url: str) -> None:
    """Bring a store to the wallet's newest tables."""
    engine = open_engine(url)
    upgrade(engine, "otrta_wallet", VERSION_TABLE)
    engine.dispose()
