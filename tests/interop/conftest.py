"""Our wallets and strangers' ones, all at the same mints."""

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from otrta_cli.processes import Running
from otrta_wallet import Wallet
from otrta_wallet.seed import seed_of
from tests.interop.strangers import CashuTs, Node, Nutshell
from tests.otrta_wallet.conftest import OpenWallet, store_that_knows, wallet_in

_INSTALL = Path(__file__).resolve().parents[2] / "scripts" / "npm_packages.py"
_numbers = count(1)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One Node process for all wallets of cashu-ts."""
    installed = subprocess.run([sys.executable, _INSTALL], capture_output=True, text=True)
    if installed.returncode:
        pytest.fail(
            f"cashu-ts cannot be installed (it takes an npm registry)\n{installed.stderr}", pytrace=False
        )
    process = Node(tmp_path_factory.mktemp("node") / "node.log")
    yield process
    process.stop()


@pytest.fixture
def cashu_ts(node: Node, mint: Running) -> Callable[..., CashuTs]:
    """Makes wallets of cashu-ts by unit, and by words where they are to have a seed."""

    def make(unit: str, words: str | None = None) -> CashuTs:
        return CashuTs(node, mint.url, unit, None if words is None else seed_of(words))

    return make


@pytest.fixture
def nutshell(tmp_path: Path, mint: Running) -> Callable[..., Nutshell]:
    """Makes wallets of Nutshell by unit, and by words where they are to be restored."""
    return lambda unit, words=None: Nutshell(tmp_path / f"nutshell-{next(_numbers)}", mint.url, unit, words)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, mint: Running) -> Path:
    """A database that knows the mint and has no seed."""
    return store_that_knows(mint.url, tmp_path_factory.mktemp("store"))


@pytest.fixture
def open_wallet(tmp_path: Path, store: Path) -> OpenWallet:
    """Opens wallets of ours by name; the same name is the same wallet again."""
    return partial(wallet_in, tmp_path, store)


@pytest.fixture
async def ours(open_wallet: OpenWallet) -> AsyncIterator[Wallet]:
    """A wallet of ours, empty."""
    async with open_wallet("ours") as wallet:
        yield wallet
