"""Wallets on disk against a real mint, each test under asyncio and under Trio."""

import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import httpx
import pytest
from sqlalchemy import delete

from otrta_cli.processes import Running
from otrta_wallet import Wallet, executor, mint_client, rate_limit
from otrta_wallet.database import open_engine, upgrade
from otrta_wallet.schema import settings
from otrta_wallet.wallet import VERSION_TABLE
from tests.fault_proxy import FaultProxy, fault_proxy

OpenWallet = Callable[..., AbstractAsyncContextManager[Wallet]]


@pytest.fixture(params=["asyncio", "trio"])
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


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all tables and nothing in them; to copy it is faster than to make one."""
    path = tmp_path_factory.mktemp("store") / "wallet.sqlite3"
    engine = open_engine(f"sqlite:///{path}")
    upgrade(engine, "otrta_wallet", VERSION_TABLE)
    engine.dispose()
    return path


@asynccontextmanager
async def wallet_in(
    directory: Path, empty_store: Path, name: str = "alice", **options
) -> AsyncIterator[Wallet]:
    """Open the wallet of this name, which is made if there is none."""
    path = directory / name / "wallet.sqlite3"
    if not path.exists():
        path.parent.mkdir(mode=0o700)
        shutil.copy(empty_store, path)
    async with Wallet.open(f"sqlite:///{path}", **options) as wallet:
        yield wallet


@pytest.fixture
def open_wallet(tmp_path: Path, empty_store: Path) -> OpenWallet:
    """Opens wallets by name; the same name is the same wallet again."""
    return partial(wallet_in, tmp_path, empty_store)


def store_that_knows(mint_url: str, directory: Path) -> Path:
    """Make a database that knows a mint and has no seed yet."""
    path = directory / "wallet.sqlite3"

    async def add_mint() -> None:
        async with Wallet.open(f"sqlite:///{path}") as wallet:
            await wallet.mints.add(mint_url)
            await wallet.transactions.run(lambda conn, _now: conn.execute(delete(settings)))

    anyio.run(add_mint)
    return path


@pytest.fixture(scope="session")
def store_with_mint(tmp_path_factory: pytest.TempPathFactory, mint: Running) -> Path:
    """A database that knows the mint without fees."""
    return store_that_knows(mint.url, tmp_path_factory.mktemp("store"))


@pytest.fixture
async def alice(tmp_path: Path, store_with_mint: Path) -> AsyncIterator[Wallet]:
    """A wallet that knows the mint without fees and has nothing."""
    async with wallet_in(tmp_path, store_with_mint, "alice") as wallet:
        yield wallet


@pytest.fixture
async def bob(tmp_path: Path, store_with_mint: Path) -> AsyncIterator[Wallet]:
    """Another such wallet."""
    async with wallet_in(tmp_path, store_with_mint, "bob") as wallet:
        yield wallet


@pytest.fixture(scope="session")
def session_network(mint: Running) -> Iterator[FaultProxy]:
    with fault_proxy(mint.port) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def store_behind_network(tmp_path_factory: pytest.TempPathFactory, session_network: FaultProxy) -> Path:
    """A database that knows the mint without fees by the address of the proxy before it."""
    return store_that_knows(session_network.url, tmp_path_factory.mktemp("store"))


@pytest.fixture
def network(session_network: FaultProxy) -> Iterator[FaultProxy]:
    """A proxy before the mint without fees, with no faults armed."""
    session_network.reset()
    yield session_network
    session_network.reset()


@pytest.fixture
async def far_alice(
    tmp_path: Path, store_behind_network: Path, network: FaultProxy, clock: Clock
) -> AsyncIterator[Wallet]:
    """A wallet that knows the mint behind the proxy only."""
    async with wallet_in(tmp_path, store_behind_network, "alice", clock=clock) as wallet:
        yield wallet


@pytest.fixture
async def far_bob(
    tmp_path: Path, store_behind_network: Path, network: FaultProxy, clock: Clock
) -> AsyncIterator[Wallet]:
    """Another such wallet."""
    async with wallet_in(tmp_path, store_behind_network, "bob", clock=clock) as wallet:
        yield wallet


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mint_client, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(rate_limit, "PAUSES_S", (0.01, 0.02, 0.04, 0.08))
    monkeypatch.setattr(executor, "_PAUSES_S", (0.01, 0.02, 0.04))
    monkeypatch.setattr(executor, "_SECOND_LOOK_S", 0.05)


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
