"""Price tables: numbered rows in the store, which all workers share.

A table is written when prices change, and holds until its ``prices_until``, which is put off while the prices
are still the ones that are asked. So whoever has seen a table can rely on it that long, at any worker.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from sqlalchemy import Connection, delete, func, insert, select, update

from otrta_core import ModelPrice
from otrta_litellm.schema import price_tables

HOLD_S = 300.0
"""How long a table holds after it was last in force."""

PUT_OFF_S = 60.0
"""By how much less than that it may hold before it is put off again."""

KEPT_S = 3600.0
"""How long a table that holds no longer is kept; every payment has its own copy of its price."""

Source = Literal["config", "usd"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Prices that are to be in force now.

    Attributes:
        source: the operator's table, or USD prices at a rate.
        prices: by model.
        msat_per_usd: the rate, with the margin in it, that they were made at.
        no_longer_than: unix time from when they must not be asked any more.
    """

    source: Source
    prices: Mapping[str, ModelPrice]
    msat_per_usd: Decimal | None = None
    no_longer_than: float = float("inf")

    def text(self) -> str:
        """The prices as they are stored, always the same for the same prices."""
        by_model = {name: price.to_dict() for name, price in self.prices.items()}
        return json.dumps(by_model, sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """What tells these prices from others."""
        whole = f"{self.source}\n{self.msat_per_usd}\n{self.text()}"
        return hashlib.sha256(whole.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class PriceRow:
    """A table in the store; ``hash`` is the digest of what it was made of."""

    number: int
    source: Source
    prices: Mapping[str, ModelPrice]
    msat_per_usd: Decimal | None
    hash: str
    made_at: float
    prices_until: float


def publish(
    conn: Connection, now: float, wanted: Sequence[Wanted], known: Mapping[int, PriceRow]
) -> list[PriceRow]:
    """Put prices in force and return all tables that hold, oldest first.

    Args:
        conn: to the store.
        now: unix time.
        wanted: the prices to be in force; an equal table that still holds is put off, else one is written.
        known: tables read before, by number: their prices are not read again.
    """
    holding = {row.hash: row for row in in_force(conn, now, known)}
    for table in wanted:
        until = min(now + HOLD_S, table.no_longer_than)
        row = holding.get(table.digest())
        if row is None and until > now:
            _write(conn, now, table, until)
        elif row is not None and row.prices_until < min(until, now + HOLD_S - PUT_OFF_S):
            shorter = (price_tables.c.number == row.number) & (price_tables.c.prices_until < until)
            conn.execute(update(price_tables).where(shorter).values(prices_until=until))
    return in_force(conn, now, known)


def in_force(conn: Connection, now: float, known: Mapping[int, PriceRow]) -> list[PriceRow]:
    """Return all tables that hold, oldest first; prices of tables in ``known`` are not read again."""
    query = select(price_tables.c.number, price_tables.c.prices_until)
    ends = {
        row.number: row.prices_until for row in conn.execute(query.where(price_tables.c.prices_until > now))
    }
    new = [number for number in ends if number not in known]
    found = {**known, **_read(conn, new)} if new else known
    return [replace(found[number], prices_until=ends[number]) for number in sorted(ends) if number in found]


def _read(conn: Connection, numbers: Collection[int]) -> dict[int, PriceRow]:
    rows = conn.execute(select(price_tables).where(price_tables.c.number.in_(numbers)))
    return {
        row.number: PriceRow(
            row.number,
            row.source,
            {name: ModelPrice.from_dict(price) for name, price in json.loads(row.prices).items()},
            None if row.msat_per_usd is None else Decimal(row.msat_per_usd),
            row.hash,
            row.made_at,
            row.prices_until,
        )
        for row in rows
    }


def _write(conn: Connection, now: float, table: Wanted, until: float) -> None:
    # two workers that write at once take the same number: one is rolled back and finds the other's table
    last = conn.execute(select(func.max(price_tables.c.number))).scalar_one()
    conn.execute(
        insert(price_tables).values(
            number=(last or 0) + 1,
            source=table.source,
            prices=table.text(),
            msat_per_usd=None if table.msat_per_usd is None else str(table.msat_per_usd),
            hash=table.digest(),
            made_at=now,
            prices_until=until,
        )
    )
    conn.execute(delete(price_tables).where(price_tables.c.prices_until < now - KEPT_S))
