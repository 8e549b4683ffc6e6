"""A store without a gateway, and a gateway at work before a made-up LiteLLM."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from otrta_cli.processes import Running
from otrta_litellm import till
from otrta_litellm.gateway import VERSION_TABLE, Gateway
from otrta_wallet.database import open_engine, upgrade
from tests.integration.purse import Purse
from tests.otrta_litellm.made_up import opened


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """LiteLLM's own types warn when they are first used."""
    for item in items:
        if "otrta_litellm" in item.path.parts:
            item.add_marker(pytest.mark.filterwarnings("ignore:Items? .* using the `ReadOnly` qualifier"))


@pytest.fixture
def anyio_backend() -> str:
    """LiteLLM runs under asyncio."""
    return "asyncio"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty store."""
    engine = open_engine(f"sqlite:///{tmp_path}/gateway.sqlite3")
    upgrade(engine, "otrta_wallet", "wallet_version")
    upgrade(engine, "otrta_litellm", VERSION_TABLE)
    yield engine
    engine.dispose()


@pytest.fixture
def purse(mint: Running) -> Iterator[Purse]:
    """Makes tokens at the real mint."""
    with Purse(mint.url) as purse:
        yield purse


@pytest.fixture
async def gateway(tmp_path: Path, mint: Running, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    """A gateway at work, before a LiteLLM whose logs are not waited for."""
    monkeypatch.setattr(till, "LOG_WAIT_S", 0.05)
    async with opened(tmp_path, mint.url) as gateway:
        yield gateway
