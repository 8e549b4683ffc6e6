"""Wallets on disk against a real mint, each test under asyncio and under Trio."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from otrta_cli.processes import Running
from otrta_wallet import Wallet
from otrta_wallet.database import open_engine, upgrade
from otrta_wallet.wallet import VERSION_TABLE

OpenWallet = Callable[..., AbstractAsyncContextManager[Wallet]]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


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


@pytest.fixture
async def alice(open_wallet: OpenWallet, mint: Running) -> AsyncIterator[Wallet]:
    """A wallet that knows the mint without fees and has nothing."""
    async with open_wallet("alice") as wallet:
        await wallet.mints.add(mint.url)
        yield wallet


@pytest.fixture
async def bob(open_wallet: OpenWallet, mint: Running) -> AsyncIterator[Wallet]:
    """Another such wallet."""
    async with open_wallet("bob") as wallet:
        await wallet.mints.add(mint.url)
        yield wallet


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
