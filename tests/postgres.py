"""A PostgreSQL server of the tests' own, and databases on it."""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest

from otrta_cli.processes import free_port

MISSING = "these tests need PostgreSQL's programs: install them with `apt-get install postgresql`"
SHOWN_LINES = 30
# the server ends with the tests however they end: their end of the pipe is then closed
_WATCHED = """
exec 3<&0
"$@" </dev/null 3<&- & server=$!
(read -r _ <&3; kill -QUIT $server) & watch=$!
wait $server; code=$?
kill $watch
exit $code
"""
_START_S = 60.0
_SETTINGS = ("max_connections=200", "logging_collector=off", "log_min_messages=warning")

_KEEP = """
DO $$ DECLARE name text; BEGIN
    CREATE SCHEMA kept;
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('CREATE TABLE kept.%I AS TABLE public.%I', name, name);
    END LOOP;
END $$
"""
_PUT_BACK = """
DO $$ DECLARE name text; BEGIN
    SET LOCAL session_replication_role = replica;  -- no foreign keys
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('DELETE FROM public.%I', name);
        EXECUTE format('INSERT INTO public.%I SELECT * FROM kept.%I', name, name);
    END LOOP;
END $$
"""


class Server:
    """A running server, which belongs to one test session."""

    def __init__(self, port: int, password: str) -> None:
        self._admin = f"host=127.0.0.1 port={port} user=otrta password={password}"
        self._base = f"postgresql://otrta:{password}@127.0.0.1:{port}"
        self._numbers = count(1)

    def url(self, database: str) -> str:
        """The address of a database, as a user would write it."""
        return f"{self._base}/{database}"

    def create(self, like: str = "template1") -> str:
        """Make a database, a copy of another to which nobody is connected; returns its name."""
        name = f"d{next(self._numbers)}"
        self.tell(f"CREATE DATABASE {name} TEMPLATE {like}")
        return name

    def keep(self, database: str) -> None:
        """Remember what is in a database, for `put_back` on it or on copies of it."""
        self.tell(_KEEP, database)

    def put_back(self, database: str) -> None:
        """Bring a database to what was kept: quicker than to drop it and to copy another."""
        self.tell(_PUT_BACK, database)

    def deadlocks(self) -> int:
        """How often the server has had to end a circle of waiting transactions."""
        with psycopg.connect(f"{self._admin} dbname=postgres") as connection:
            row = connection.execute("SELECT sum(deadlocks)::bigint FROM pg_stat_database").fetchone()
        return int(row[0]) if row is not None else 0

    def tell(self, statement: str, database: str = "postgres") -> None:
        """Run one statement as the server's owner."""
        with psycopg.connect(f"{self._admin} dbname={database}", autocommit=True) as connection:
            connection.execute(statement.encode())


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server on a free port, started when the first test wants it."""
    binaries = find_binaries()
    if binaries is None:
        pytest.fail(MISSING, pytrace=False)
    home = Path(tempfile.mkdtemp(prefix="otrta-pg-"))
    try:
        user = unprivileged_user()
        if user is not None:
            os.chown(home, user.pw_uid, user.pw_gid)
        with running(binaries, home, user) as server:
            yield server
    finally:
        shutil.rmtree(home)


def find_binaries() -> Path | None:
    """Where `initdb` and `postgres` are: in PATH, or where Debian and `pg_config` have them."""
    candidates = [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry]
    config = shutil.which("pg_config")
    if config is not None:
        said = subprocess.run([config, "--bindir"], capture_output=True, text=True)
        candidates.append(Path(said.stdout.strip()))
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    candidates += sorted(installed, key=lambda path: float(path.parent.name), reverse=True)
    fitting = (path for path in candidates if (path / "initdb").exists() and (path / "postgres").exists())
    return next((path / "initdb").resolve().parent for path in fitting) if fitting else None


def unprivileged_user() -> pwd.struct_passwd | None:
    """Whom the server runs as where the tests run as root, which it refuses to; else None."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.fail("PostgreSQL does not run as root, and there is no user postgres or nobody", pytrace=False)


@contextmanager
def running(binaries: Path, home: Path, user: pwd.struct_passwd | None) -> Iterator[Server]:
    """Make a cluster in this directory, run a server on it and stop it at the end."""
    identity = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(home)}
    password, data, log = secrets.token_hex(16), home / "data", home / "server.log"
    password_file = home / "password"
    password_file.write_text(password)
    password_file.chmod(0o644)  # in a directory that only its owner enters
    initdb = [binaries / "initdb", "-D", data, "-U", "otrta", "-A", "scram-sha-256", "-E", "UTF8"]
    made = subprocess.run(
        [*initdb, f"--pwfile={password_file}", "--locale=C"],
        cwd=home, env=environment, capture_output=True, text=True, **identity,
    )  # fmt: skip
    if made.returncode:
        pytest.fail(f"initdb failed\n{made.stdout}{made.stderr}", pytrace=False)
    port = free_port()
    where = ["-D", data, "-k", home, "-p", str(port), "-c", "listen_addresses=127.0.0.1"]
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    command = ["/bin/sh", "-c", _WATCHED, "sh", binaries / "postgres", *where, *settings]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=home, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=output,
            start_new_session=True, **identity,
        )  # fmt: skip
    try:
        server = Server(port, password)
        wait_for(server, process, log)
        yield server
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)


def wait_for(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the server takes connections."""
    until = time.monotonic() + _START_S
    while True:
        try:
            server.tell("SELECT 1")
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > until:
                lines = log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]
                pytest.fail("\n".join(["PostgreSQL did not start", *lines]), pytrace=False)
            time.sleep(0.05)
        else:
            return
