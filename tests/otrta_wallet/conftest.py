"""Wallets on disk against a real mint, under asyncio and under Trio."""

import os
import subprocess
import time
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import httpx
import pytest
from anyio import to_thread
from sqlalchemy import delete

from otrta_cli.processes import Running, free_port, mint_python, start_mint
from otrta_wallet import Wallet, executor, mint_client, rate_limit, workers
from otrta_wallet.schema import settings
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.otrta_wallet.lightning import MoodyMint
from tests.parts import kept_running
from tests.postgres import Server
from tests.stores import KINDS, PostgresPlaces, PostgresTemplate, SqliteTemplate, Template, migrated

LONG = os.environ.get("OTRTA_LONG") == "1"

BACKENDS = ["asyncio", "trio"]

OpenWallet = Callable[..., AbstractAsyncContextManager[Wallet]]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let a sampled run have each test under one of the two loops, and a long one under both."""
    twins: dict[tuple[Path, str], list[pytest.Item]] = defaultdict(list)
    for item in items:
        if not LONG and item.path.is_relative_to(Path(__file__).parent) and backend_of(item.name):
            twins[item.path, without_backend(item.name)].append(item)
    dropped = []
    for (_, name), both in twins.items():
        if len(both) == 2:
            both.sort(key=lambda item: item.name)
            dropped.append(both[zlib.crc32(name.encode()) >> 1 & 1])
    config.hook.pytest_deselected(items=dropped)
    gone = set(dropped)
    items[:] = [item for item in items if item not in gone]


def backend_of(name: str) -> str | None:
    """Return the loop that a test runs under, by its name."""
    return next((backend for backend in BACKENDS if backend in name), None)


def without_backend(name: str) -> str:
    return name.replace(backend_of(name) or "", "")


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


class Clock:
    """The time, which a test can move on."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def kind_of_store(request: pytest.FixtureRequest) -> str:
    """Which database a test gets in a sampled run: under both loops it would be both."""
    of_test = zlib.crc32(without_backend(request.node.name).encode())
    return KINDS[(of_test + (backend_of(request.node.name) == "trio")) % 2]


if LONG:

    @pytest.fixture(params=KINDS)
    def store_kind(request: pytest.FixtureRequest) -> str:
        """The kind of database that the test's wallets are in: each in turn."""
        return request.param

else:

    @pytest.fixture
    def store_kind(request: pytest.FixtureRequest) -> str:
        """The kind of database that the test's wallets are in."""
        return kind_of_store(request)


class Templates:
    """The stores that others are copies of, by kind and by what they know; each is made when first used."""

    def __init__(self, home: Path, postgres: Callable[[], Server]) -> None:
        self._home = home
        self._postgres = postgres
        self._made: dict[tuple[str, str], Template] = {}

    def blank(self, kind: str) -> Template:
        """No store yet."""
        return SqliteTemplate() if kind == "sqlite" else PostgresPlaces(self._postgres())

    def empty(self, kind: str) -> Template:
        """All tables and nothing in them."""
        return self._get(kind, "empty", migrated)

    def knowing(self, kind: str, mint_url: str) -> Template:
        """A store that knows a mint and has no seed yet."""
        return self._get(kind, mint_url, lambda url: teach(url, mint_url))

    def _get(self, kind: str, what: str, make: Callable[[str], None]) -> Template:
        if (kind, what) not in self._made:
            if kind == "sqlite":
                path = self._home / str(len(self._made)) / "wallet.sqlite3"
                make(f"sqlite:///{path}")
                self._made[kind, what] = SqliteTemplate(path)
            else:
                server = self._postgres()
                database = server.create()
                make(server.url(database))
                self._made[kind, what] = PostgresTemplate.of(server, database)
        return self._made[kind, what]


def teach(url: str, mint_url: str) -> None:
    """Let a store know a mint, and take its seed away."""

    async def add_mint() -> None:
        async with Wallet.open(url) as wallet:
            await wallet.mints.add(mint_url)
            await wallet.transactions.run(lambda conn, _now: conn.execute(delete(settings)))

    anyio.run(add_mint)


@pytest.fixture(scope="session")
def templates(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """All templates; the server is started only when one wants it."""
    return Templates(tmp_path_factory.mktemp("stores"), lambda: request.getfixturevalue("postgres"))


@pytest.fixture(scope="session")
def rotating_mint(parts_home: Path) -> Iterator[tuple[Running, Callable[..., None]]]:
    """A mint that makes a new keyset when it is told to, and how to tell it: unit, and when that expires."""
    rpc, log = str(free_port()), parts_home / "logs/rotating-mint.log"
    env = {
        "MINT_RPC_SERVER_ENABLE": "TRUE",
        "MINT_RPC_SERVER_MUTUAL_TLS": "FALSE",
        "MINT_RPC_SERVER_ADDR": "127.0.0.1",
        "MINT_RPC_SERVER_PORT": rpc,
    }
    tool = [mint_python().with_name("mint-cli"), "-i", "-h", "127.0.0.1", "-p", rpc]

    def rotate(unit: str = "msat", final_expiry: int | None = None, fee_ppk: int = 0) -> None:
        expiry = [] if final_expiry is None else ["0", str(final_expiry)]
        command = [*tool, "next-keyset", unit, str(fee_ppk), *expiry]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    home = parts_home / "rotating-mint"
    with kept_running(log, lambda: start_mint(home, free_port(), log=log, env=env)) as part:
        yield part, rotate


@pytest.fixture
def blank_store(templates: Templates, store_kind: str) -> Iterator[Template]:
    """Places for stores that are not there yet."""
    with templates.blank(store_kind).used() as template:
        yield template


@pytest.fixture
def empty_store(templates: Templates, store_kind: str) -> Iterator[Template]:
    """A store with all tables and nothing in them; to copy it is faster than to make one."""
    with templates.empty(store_kind).used() as template:
        yield template


@asynccontextmanager
async def wallet_in(
    directory: Path, template: Template, name: str = "alice", **options
) -> AsyncIterator[Wallet]:
    """Open the wallet of this name, which is made if there is none."""
    url = await to_thread.run_sync(template.url_in, directory, name)
    async with Wallet.open(url, **options) as wallet:
        yield wallet


@pytest.fixture
def open_wallet(tmp_path: Path, empty_store: Template) -> OpenWallet:
    """Opens wallets by name; the same name is the same wallet again."""
    return partial(wallet_in, tmp_path, empty_store)


def store_that_knows(mint_url: str, directory: Path) -> Template:
    """Make a SQLite store that knows a mint and has no seed yet."""
    path = directory / "wallet.sqlite3"
    teach(f"sqlite:///{path}", mint_url)
    return SqliteTemplate(path)


@pytest.fixture
def store_with_mint(templates: Templates, store_kind: str, mint: Running) -> Iterator[Template]:
    """A store that knows the mint without fees."""
    with templates.knowing(store_kind, mint.url).used() as template:
        yield template


@pytest.fixture
async def alice(tmp_path: Path, store_with_mint: Template) -> AsyncIterator[Wallet]:
    """A wallet that knows the mint without fees and has nothing."""
    async with wallet_in(tmp_path, store_with_mint, "alice") as wallet:
        yield wallet


@pytest.fixture
async def bob(tmp_path: Path, store_with_mint: Template) -> AsyncIterator[Wallet]:
    """Another such wallet."""
    async with wallet_in(tmp_path, store_with_mint, "bob") as wallet:
        yield wallet


@pytest.fixture(scope="session")
def session_network(mint: Running) -> Iterator[FaultProxy]:
    with fault_proxy(mint.port) as proxy:
        yield proxy


@pytest.fixture
def store_behind_network(
    templates: Templates, store_kind: str, session_network: FaultProxy
) -> Iterator[Template]:
    """A store that knows the mint without fees by the address of the proxy before it."""
    with templates.knowing(store_kind, session_network.url).used() as template:
        yield template


@pytest.fixture
def network(session_network: FaultProxy) -> Iterator[FaultProxy]:
    """A proxy before the mint without fees, with no faults armed."""
    session_network.reset()
    yield session_network
    session_network.reset()


@pytest.fixture
async def far_alice(
    tmp_path: Path, store_behind_network: Template, network: FaultProxy, clock: Clock
) -> AsyncIterator[Wallet]:
    """A wallet that knows the mint behind the proxy only."""
    async with wallet_in(tmp_path, store_behind_network, "alice", clock=clock) as wallet:
        yield wallet


@pytest.fixture
async def far_bob(
    tmp_path: Path, store_behind_network: Template, network: FaultProxy, clock: Clock
) -> AsyncIterator[Wallet]:
    """Another such wallet."""
    async with wallet_in(tmp_path, store_behind_network, "bob", clock=clock) as wallet:
        yield wallet


@pytest.fixture(scope="session")
def moody_mint(parts_home: Path) -> Iterator[MoodyMint]:
    """A mint that takes fees and whose Lightning payments end as it is told; not started yet."""
    mint = MoodyMint(parts_home / "moody-mint", parts_home / "logs/moody-mint.log")
    yield mint
    mint.stop()


@pytest.fixture(scope="session")
def patient_mint(parts_home: Path) -> Iterator[Running]:
    """A mint without fees whose invoices stay unpaid until it is asked for them, so that one can pay them."""
    log, env = parts_home / "logs/patient-mint.log", {"FAKEWALLET_DELAY_INCOMING_PAYMENT": "3600"}
    with kept_running(
        log, lambda: start_mint(parts_home / "patient-mint", free_port(), log=log, env=env)
    ) as part:
        yield part


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mint_client, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(rate_limit, "PAUSES_S", (0.01, 0.02, 0.04, 0.08))
    monkeypatch.setattr(executor, "_PAUSES_S", (0.01, 0.02, 0.04))
    monkeypatch.setattr(executor, "_SECOND_LOOK_S", 0.05)
    monkeypatch.setattr(workers, "STALE_AFTER_S", 0.0)  # whom a test has killed is dead at once


class CountingTransport(httpx.AsyncHTTPTransport):
    """Writes down every request before a byte of it can leave."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(str(request.url))
        return await super().handle_async_request(request)


@pytest.fixture
async def counting_http() -> AsyncIterator[tuple[httpx.AsyncClient, list[str]]]:
    """An HTTP client, and the URLs that it was asked for."""
    transport = CountingTransport()
    async with httpx.AsyncClient(transport=transport) as client:
        yield client, transport.calls
