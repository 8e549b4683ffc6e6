"""Price tables: what was published holds for everybody, and the lowest of what holds is charged."""

import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from otrta_core import ModelPrice
from otrta_litellm import prices as module
from otrta_litellm.answers import GateError
from otrta_litellm.price_tables import HOLD_S, KEPT_S
from otrta_litellm.prices import Prices
from otrta_litellm.schema import btc_rate, price_tables
from otrta_wallet.database import open_engine
from otrta_wallet.transactions import Transactions
from tests.otrta_litellm.samples import View, deployment, settings
from tests.stores import Template

pytestmark = pytest.mark.anyio

FIXED = {"btc_usd": {"fixed": "100000"}}  # 1 USD is 1,000,000 msat
FEEDS = {"btc_usd": {"feeds": "public"}}


class Clock:
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


class Shop:
    """Workers on one store whose clock a test moves on."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.clock = clock
        self.db = Transactions(engine, clock)

    async def worker(self, view: View, *, shared: bool = False, **values: Any) -> Prices:
        worker = Prices(settings(**values), view, shared=shared)  # type: ignore[arg-type]
        await worker.refresh(self.db)
        return worker

    async def rate(self, usd: str, age_s: float = 0.0) -> None:
        """Write down a rate as a poll would."""
        values = {"usd": usd, "at": self.clock() - age_s, "seen": 0, "polled_at": 0.0}

        def write(conn: Any, _now: float) -> None:
            conn.execute(btc_rate.delete())
            conn.execute(btc_rate.insert().values(id=1, **values))

        await self.db.run(write)

    async def rows(self) -> list[Any]:
        query = select(price_tables).order_by(price_tables.c.number)
        return list(await self.db.run(lambda conn, _now: conn.execute(query).all()))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()

    class Time:
        time = staticmethod(clock)

    monkeypatch.setattr(module, "time", Time)
    return clock


@pytest.fixture
def shop(engine: Engine, clock: Clock) -> Shop:
    return Shop(engine, clock)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_shop(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    empty_stores: Callable[[str], Template],
    clock: Clock,
) -> Iterator[Shop]:
    with empty_stores(request.param).used() as template:
        engine = open_engine(template.url_in(tmp_path, "gateway"))
        yield Shop(engine, clock)
        engine.dispose()


def usd_model(name: str = "m", usd: str = "0.000001") -> View:
    return View(**{name: [deployment(name, input_per_token=usd, output_per_token=usd)]})


def per_mtok(msat: int) -> ModelPrice:
    return ModelPrice(input_msat_per_mtok=msat, output_msat_per_mtok=msat)


async def test_equal_prices_are_one_row_however_many_workers_and_starts(any_shop: Shop) -> None:
    for _ in range(3):
        worker = await any_shop.worker(usd_model(), **FIXED)
        await worker.refresh(any_shop.db)
    assert [row.number for row in await any_shop.rows()] == [1]
    assert worker.price("m", "chat") == per_mtok(1_000_000)


async def test_a_dearer_table_counts_only_when_the_one_before_it_holds_no_longer(
    shop: Shop, clock: Clock
) -> None:
    await shop.rate("100000")
    worker = await shop.worker(usd_model(), **FEEDS)
    _, until = await worker.shown(shop.db)
    assert HOLD_S - 5 < until - clock() <= HOLD_S
    await shop.rate("50000")
    await worker.refresh(shop.db)
    assert worker.price("m") == per_mtok(1_000_000)
    shown, later = await worker.shown(shop.db)
    assert (shown, later >= until) == ({"m": per_mtok(2_000_000)}, True)
    clock.ahead_s = until - time.time() - 1
    await shop.rate("50000")
    await worker.refresh(shop.db)
    assert worker.price("m") == per_mtok(1_000_000)
    assert worker.price("m", for_s=60) == per_mtok(2_000_000)
    clock.ahead_s += 2
    assert worker.price("m") == per_mtok(2_000_000)
    assert [row.number for row in await shop.rows()] == [1, 2]


async def test_a_cheaper_table_counts_at_once(shop: Shop) -> None:
    await shop.rate("50000")
    worker = await shop.worker(usd_model(), **FEEDS)
    await shop.rate("100000")
    await worker.refresh(shop.db)
    assert worker.price("m") == per_mtok(1_000_000)


async def test_a_table_that_stays_in_force_is_put_off_once_a_minute(shop: Shop, clock: Clock) -> None:
    worker = await shop.worker(usd_model(), **FIXED)
    ends = set()
    for _ in range(100):
        clock.ahead_s += 3
        await worker.refresh(shop.db)
        (row,) = await shop.rows()
        ends.add(row.prices_until)
        assert HOLD_S - 70 < row.prices_until - clock() <= HOLD_S
    assert 3 <= len(ends) <= 7


async def test_no_table_holds_longer_than_its_rate(shop: Shop, clock: Clock) -> None:
    await shop.rate("100000", age_s=500)
    worker = await shop.worker(usd_model(), **FEEDS)
    _, until = await worker.shown(shop.db)
    assert 90 < until - clock() <= 100
    assert worker.price("m", for_s=60) is not None
    clock.ahead_s = 60
    assert worker.price("m") is not None
    with pytest.raises(GateError) as caught:  # what it says now could not be relied on for a minute
        worker.price("m", for_s=60)
    assert (caught.value.gate_code, caught.value.status) == ("price_unavailable", 503)
    clock.ahead_s = 101
    with pytest.raises(GateError):
        worker.price("m")
    await worker.refresh(shop.db)
    assert await worker.shown(shop.db) == ({}, pytest.approx(clock() + HOLD_S, abs=5))


async def test_without_a_rate_the_operators_table_goes_on(shop: Shop) -> None:
    view = View(
        own=[deployment("own")],
        usd=[deployment("usd", input_per_token="1", output_per_token="1")],
        unpriced=[deployment("unpriced")],
    )
    worker = await shop.worker(view, prices={"own": {"request_msat": 7}}, **FEEDS)
    assert worker.price("own") == ModelPrice(request_msat=7)
    assert worker.price("unpriced") is None
    with pytest.raises(GateError) as caught:
        worker.price("usd")
    assert caught.value.status == 503
    assert (await worker.shown(shop.db))[0] == {"own": ModelPrice(request_msat=7)}


async def test_a_chat_is_not_sold_where_only_the_prompt_has_a_price(shop: Shop) -> None:
    worker = await shop.worker(View(m=[deployment()]), prices={"m": {"input_msat_per_mtok": 5}})
    assert worker.price("m", "chat") is None
    assert worker.price("m", "embeddings") == worker.price("m") == ModelPrice(input_msat_per_mtok=5)


async def test_what_litellm_no_longer_serves_is_not_sold(shop: Shop) -> None:
    view = View(m=[deployment()])
    worker = await shop.worker(view, prices={"m": {"request_msat": 1}})
    assert worker.price("m") == ModelPrice(request_msat=1)
    view.models, view.at = {}, object()
    assert worker.price("m") is None
    assert (await worker.shown(shop.db))[0] == {}


async def test_a_router_that_litellm_loads_anew_makes_a_new_table(shop: Shop) -> None:
    view = usd_model(usd="0.000001")
    worker = await shop.worker(view, **FIXED)
    view.models, view.at = usd_model(usd="0.000003").models, object()
    assert (await worker.shown(shop.db))[0] == {"m": per_mtok(3_000_000)}
    assert worker.price("m") == per_mtok(1_000_000)
    assert [row.number for row in await shop.rows()] == [1, 2]


async def test_names_that_nobody_can_list_are_priced_at_the_rates_that_hold(shop: Shop) -> None:
    view = usd_model("any/thing")
    view.model_names = lambda: []  # type: ignore[method-assign]
    await shop.rate("100000")
    worker = await shop.worker(view, **FEEDS)
    assert worker.price("any/thing", for_s=60) == per_mtok(1_000_000)
    await shop.rate("50000")
    await worker.refresh(shop.db)
    assert worker.price("any/thing") == per_mtok(1_000_000)
    assert (await worker.shown(shop.db))[0] == {}


async def test_two_workers_agree_and_nobody_is_told_what_the_other_has_not_read(
    any_shop: Shop, clock: Clock
) -> None:
    await any_shop.rate("50000")
    one = await any_shop.worker(usd_model(), shared=True, **FEEDS)
    two = await any_shop.worker(usd_model(), shared=True, **FEEDS)
    assert (await one.shown(any_shop.db))[0] == {"m": per_mtok(2_000_000)}
    clock.ahead_s += 30
    await any_shop.rate("100000")
    await one.refresh(any_shop.db)
    assert one.price("m") == per_mtok(1_000_000)
    assert one.price("m", for_s=60) == per_mtok(2_000_000)
    assert (await one.shown(any_shop.db))[0] == {"m": per_mtok(2_000_000)}
    assert two.price("m") == per_mtok(2_000_000)
    await two.refresh(any_shop.db)
    assert two.price("m") == per_mtok(1_000_000)
    clock.ahead_s += 11
    for worker in (one, two):
        assert (await worker.shown(any_shop.db))[0] == {"m": per_mtok(1_000_000)}
        assert worker.price("m", for_s=60) == per_mtok(1_000_000)
    assert [row.number for row in await any_shop.rows()] == [1, 2]


async def test_workers_that_are_configured_otherwise_charge_the_lower_and_write_no_rows_in_turn(
    shop: Shop,
) -> None:
    cheap = await shop.worker(View(m=[deployment()]), prices={"m": {"request_msat": 1}})
    dear = await shop.worker(View(m=[deployment()]), prices={"m": {"request_msat": 5}})
    for _ in range(5):
        await cheap.refresh(shop.db)
        await dear.refresh(shop.db)
    assert cheap.price("m") == dear.price("m") == ModelPrice(request_msat=1)
    assert (await dear.shown(shop.db))[0] == {"m": ModelPrice(request_msat=5)}
    assert [row.number for row in await shop.rows()] == [1, 2]


async def test_tables_that_hold_no_longer_are_forgotten_and_numbers_not_used_again(
    any_shop: Shop, clock: Clock
) -> None:
    for n in range(3):
        await any_shop.rate(str(50000 + n))
        await any_shop.worker(usd_model(), **FEEDS)
    clock.ahead_s = HOLD_S + KEPT_S + 1
    await any_shop.rate("60000")
    await any_shop.worker(usd_model(), **FEEDS)
    assert [row.number for row in await any_shop.rows()] == [4]


async def test_prices_are_not_read_from_the_store_twice(shop: Shop) -> None:
    worker = await shop.worker(usd_model(), **FIXED)
    await shop.db.run(lambda conn, _now: conn.execute(update(price_tables).values(prices="broken")))
    await worker.refresh(shop.db)
    assert worker.price("m") == per_mtok(1_000_000)


async def test_the_margin_is_on_every_price(shop: Shop) -> None:
    await shop.rate("60000.5")
    worker = await shop.worker(usd_model(), margin="0.05", **FEEDS)
    found = worker.price("m")
    exact = Decimal(100_000_000_000) / Decimal("60000.5") * Decimal("1.05")
    assert found is not None
    assert found.input_msat_per_mtok - 1 < exact <= found.input_msat_per_mtok
