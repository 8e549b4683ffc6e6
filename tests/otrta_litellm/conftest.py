"""A store without a gateway, and a gateway at work before a made-up LiteLLM."""

import os
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import structlog
from sqlalchemy import Engine

from otrta_cli.processes import Running
from otrta_litellm import till
from otrta_litellm.gateway import VERSION_TABLE, Gateway
from otrta_wallet.database import open_engine, upgrade
from tests.integration.purse import Purse
from tests.otrta_litellm.made_up import opened
from tests.stores import KINDS, PostgresTemplate, SqliteTemplate, Template


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """LiteLLM's own types warn when they are first used."""
    for item in items:
        if "otrta_litellm" in item.path.parts:
            item.add_marker(pytest.mark.filterwarnings("ignore:Items? .* using the `ReadOnly` qualifier"))


@pytest.fixture(autouse=True)
def logs_as_they_come() -> None:
    """Log as if no test before had said how."""
    structlog.reset_defaults()


@pytest.fixture
def anyio_backend() -> str:
    """LiteLLM runs under asyncio."""
    return "asyncio"


if os.environ.get("OTRTA_LONG") == "1":

    @pytest.fixture(params=KINDS)
    def store_kind(request: pytest.FixtureRequest) -> str:
        """The kind of database that the test's gateways have: each in turn."""
        return str(request.param)

else:

    @pytest.fixture
    def store_kind(request: pytest.FixtureRequest) -> str:
        """The kind of database that the test's gateways have: half of the tests have one, half the other."""
        return KINDS[zlib.crc32(request.node.name.encode()) % 2]


def migrated(url: str) -> None:
    """Bring a store to a gateway's newest tables."""
    engine = open_engine(url)
    upgrade(engine, "otrta_wallet", "wallet_version")
    upgrade(engine, "otrta_litellm", VERSION_TABLE)
    engine.dispose()


@pytest.fixture(scope="session")
def empty_stores(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Template]:
    """A gateway's tables with nothing in them, by kind of database; made when first used."""
    made: dict[str, Template] = {}

    def get(kind: str) -> Template:
        if kind not in made and kind == "sqlite":
            path = tmp_path_factory.mktemp("template") / "gateway.sqlite3"
            migrated(f"sqlite:///{path}")
            made[kind] = SqliteTemplate(path)
        elif kind not in made:
            server = request.getfixturevalue("postgres")
            database = server.create()
            migrated(server.url(database))
            made[kind] = PostgresTemplate.of(server, database)
        return made[kind]

    return get


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a gateway keeps on its machine goes with the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def place(tmp_path: Path, store_kind: str, empty_stores: Callable[[str], Template]) -> Iterator[str]:
    """The URL of an empty store."""
    with empty_stores(store_kind).used() as template:
        yield template.url_in(tmp_path, "gateway")


@pytest.fixture
def shared_place(tmp_path: Path, empty_stores: Callable[[str], Template]) -> Iterator[str]:
    """The URL of an empty store that several workers can have."""
    with empty_stores("postgresql").used() as template:
        yield template.url_in(tmp_path, "gateway")


@pytest.fixture
def engine(place: str) -> Iterator[Engine]:
    """An empty store."""
    engine = open_engine(place)
    yield engine
    engine.dispose()


@pytest.fixture
def purse(mint: Running) -> Iterator[Purse]:
    """Makes tokens at the real mint."""
    with Purse(mint.url) as purse:
        yield purse


@pytest.fixture
async def gateway(place: str, mint: Running, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    """A gateway at work, before a LiteLLM whose logs are not waited for."""
    monkeypatch.setattr(till, "LOG_WAIT_S", 0.05)
    async with opened(place, mint.url) as gateway:
        yield gateway
