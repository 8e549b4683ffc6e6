"""The rate in the store: one worker asks the feeds at a time, and all have what it found."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from decimal import Decimal

import anyio
import pytest
from sqlalchemy import Engine, update

from otrta_litellm.gateway import VERSION_TABLE
from otrta_litellm.rate_keeper import RateKeeper, load_rate
from otrta_litellm.rate_settings import BtcUsd
from otrta_litellm.schema import btc_rate
from otrta_wallet.database import open_engine, upgrade
from otrta_wallet.transactions import Transactions
from tests.otrta_litellm.feed_server import FORMATS, FeedServer, feed_server
from tests.postgres import Server

pytestmark = pytest.mark.anyio


class Clock:
    """Ours, and the feeds' too."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@pytest.fixture
def three() -> Iterator[dict[str, FeedServer]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(feed_server(name, "60000")) for name in FORMATS}


def setting(three: dict[str, FeedServer], **values: object) -> BtcUsd:
    feeds = [{"format": name, "url": server.url} for name, server in three.items()]
    return BtcUsd.model_validate({"feeds": feeds, **values})


@pytest.fixture
async def keeper(three: dict[str, FeedServer]) -> AsyncIterator[RateKeeper]:
    async with RateKeeper(setting(three)) as keeper:
        yield keeper


def say(three: dict[str, FeedServer], clock: Clock, *usd: str) -> None:
    for (name, server), value in zip(three.items(), usd, strict=True):
        server.says(name, value, age_s=-clock.ahead_s)


async def usd_of(transactions: Transactions) -> Decimal | None:
    rate = (await transactions.run(load_rate)).rate
    return None if rate is None else rate.usd


async def test_the_median_of_the_feeds_is_kept(
    engine: Engine, three: dict[str, FeedServer], keeper: RateKeeper
) -> None:
    clock = Clock()
    transactions = Transactions(engine, clock)
    say(three, clock, "60001.5", "60000", "1")
    await keeper.keep(transactions)
    assert await usd_of(transactions) == Decimal(60000)
    await keeper.keep(transactions)
    assert [server.asked for server in three.values()] == [1, 1, 1]
    clock.ahead_s += 61
    say(three, clock, "60100", "60200", "60300")
    await keeper.keep(transactions)
    assert await usd_of(transactions) == Decimal(60200)


async def test_a_jump_of_all_feeds_counts_once_it_was_seen_three_times(
    engine: Engine, three: dict[str, FeedServer], keeper: RateKeeper, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    transactions = Transactions(engine, clock)
    found = []
    for usd in ("60000", "120000", "60000", "30000", "30000", "30000"):
        say(three, clock, usd, usd, usd)
        await keeper.keep(transactions)
        found.append(await usd_of(transactions))
        clock.ahead_s += 61
    assert found == [Decimal(usd) for usd in (60000, 60000, 60000, 60000, 60000, 30000)]
    assert "rate_doubted" in str(capsys.readouterr())


async def test_without_feeds_the_rate_ages_and_comes_back(
    engine: Engine, three: dict[str, FeedServer], keeper: RateKeeper
) -> None:
    clock = Clock()
    transactions = Transactions(engine, clock)
    rules = setting(three).rules
    await keeper.keep(transactions)
    for server in three.values():
        server.sends(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
    clock.ahead_s = 601
    await keeper.keep(transactions)
    assert (await transactions.run(load_rate)).fresh(rules, clock()) is None
    say(three, clock, "60000", "60000", "60000")
    clock.ahead_s = 700
    async with RateKeeper(setting(three)) as other:  # one that does not leave them alone
        await other.keep(transactions)
    assert (await transactions.run(load_rate)).fresh(rules, clock()) is not None


async def test_a_wrong_clock_of_another_worker_stops_no_polls(
    engine: Engine, three: dict[str, FeedServer], keeper: RateKeeper
) -> None:
    transactions = Transactions(engine)
    await keeper.keep(transactions)
    await transactions.run(lambda conn, now: conn.execute(update(btc_rate).values(polled_at=now + 9999)))
    await keeper.keep(transactions)
    assert three["kraken"].asked == 2


async def test_a_fixed_rate_asks_nobody(engine: Engine) -> None:
    async with RateKeeper(BtcUsd(fixed="1")) as keeper:
        await keeper.keep(Transactions(engine))
    assert await usd_of(Transactions(engine)) is None


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_of_several_workers_one_asks(
    kind: str, engine: Engine, three: dict[str, FeedServer], request: pytest.FixtureRequest
) -> None:
    if kind == "postgresql":
        server: Server = request.getfixturevalue("postgres")
        engine = open_engine(server.url(server.create()))
        upgrade(engine, "otrta_litellm", VERSION_TABLE)
    async with AsyncExitStack() as stack:
        stack.callback(engine.dispose)
        keepers = [await stack.enter_async_context(RateKeeper(setting(three))) for _ in range(4)]
        async with anyio.create_task_group() as tasks:
            for keeper in keepers:
                tasks.start_soon(keeper.keep, Transactions(engine))
        assert [server.asked for server in three.values()] == [1, 1, 1]
        assert await usd_of(Transactions(engine)) == Decimal(60000)
