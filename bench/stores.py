"""Places for databases of both kinds, for the length of a measurement."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.postgres import find_binaries, running, unprivileged_user

Place = Callable[[str], str]
"""Gives the URL of a database by name; it is empty when its name is used first."""


@contextmanager
def places(home: Path) -> Iterator[dict[str, Place]]:
    """Give places in a directory of one's own, by the kind of database."""
    binaries = find_binaries()
    if binaries is None:
        raise SystemExit("PostgreSQL's programs are missing: apt-get install postgresql")
    user, server_home = unprivileged_user(), home / "postgres"
    server_home.mkdir(mode=0o700)
    if user is not None:
        home.chmod(0o711)
        os.chown(server_home, user.pw_uid, user.pw_gid)
    with running(binaries, server_home, user) as server:
        yield {
            "sqlite": lambda name: f"sqlite:///{home / name}.sqlite3",
            "postgresql": cache(lambda _name: server.url(server.create())),
        }
