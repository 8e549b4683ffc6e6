"""What calls cost at this gateway now: the lowest of all price tables that hold.

The request path reads nothing from the store. ``refresh`` does, every few seconds, and puts the prices of
this worker's LiteLLM in force there.
"""

import time
from collections.abc import Mapping, Sequence
from decimal import Decimal

import anyio

from otrta_core import ModelPrice
from otrta_core.pricing import cheapest
from otrta_core.requests import Kind
from otrta_litellm.answers import GateError
from otrta_litellm.price_book import PriceBook, Priced
from otrta_litellm.price_tables import HOLD_S, PriceRow, Source, Wanted, publish
from otrta_litellm.rate_keeper import load_rate
from otrta_litellm.rates import RateState
from otrta_litellm.router_view import RouterView
from otrta_litellm.settings import GatewaySettings
from otrta_wallet.transactions import Transactions

REFRESH_EVERY_S = 3.0

QUOTE_HOLDS_S = 60.0
"""How long what a 402 asks for is accepted."""

KNOWN_EVERYWHERE_S = 10.0
"""After how long every worker has read a new table. Before, it is accepted, but nobody is told of it."""


class Prices:
    """The prices of one worker. ``shared`` tells that other workers use the same store."""

    def __init__(self, settings: GatewaySettings, view: RouterView, *, shared: bool = False) -> None:
        self._book = PriceBook(settings, view)
        self._btc_usd = settings.btc_usd
        self._limits = settings.paths
        self._shared = shared
        self._rate = RateState()
        self._rows: tuple[PriceRow, ...] = ()
        self._current: frozenset[str] = frozenset()
        self._sold: frozenset[str] = frozenset()
        self._lock = anyio.Lock()

    def price(
        self, model: str, kind: Kind | None = None, *, in_path: bool = False, for_s: float = 0.0
    ) -> ModelPrice | None:
        """Return the lowest price of a model among the tables that hold, or None where it is not sold.

        Args:
            model: the name that the caller asks for.
            kind: of the call; see ``Priced.sells``. None for whichever the model is for.
            in_path: whether the path names the model, not the body.
            for_s: for how long from now the price has to be accepted everywhere.

        Raises:
            GateError: it is priced in USD, and there is no fresh rate.
        """
        now = time.time()
        model = self._book.routed(model, kind, in_path=in_path)
        current = self._book.priced(model, self._msat_per_usd(now + for_s))
        if current is None or (kind is not None and not current.sells(kind)):
            return None
        rows = [row for row in self._rows if row.prices_until >= now + for_s]
        if for_s:
            rows = self._told(rows, now)
        offers = {row.prices[model] for row in rows if model in row.prices}
        if not offers:  # a name that nobody can list, or one that is new
            offers = self._unlisted(model, current, rows)
        if not offers:
            raise GateError(
                "there is no fresh BTC/USD rate for this model's price: nothing was taken; try again later",
                code="price_unavailable",
                status=503,
            )
        limits = self._limits.get(kind) if kind is not None else None
        price = cheapest(offers)
        return price if limits is None else limits.on(price)

    def takes_token_numbers(self, model: str, kind: Kind) -> bool:
        """See ``PriceBook.takes_token_numbers``."""
        return self._book.takes_token_numbers(self._book.routed(model, kind))

    def raises_small_limits(self, model: str, kind: Kind) -> bool:
        """See ``PriceBook.raises_small_limits``."""
        return self._book.raises_small_limits(self._book.routed(model, kind))

    async def shown(self, transactions: Transactions) -> tuple[dict[str, ModelPrice], float]:
        """Return the prices to show, by model, and the unix time until which they hold everywhere."""
        if not self._book.is_listed:
            await self.refresh(transactions)
        now = time.time()
        told = self._told([row for row in self._rows if row.prices_until > now], now)
        shown = {row.source: row for row in sorted(told, key=lambda r: (r.hash in self._current, r.number))}
        until = min((row.prices_until for row in shown.values()), default=now + HOLD_S)
        prices = {name: price for row in shown.values() for name, price in row.prices.items()}
        asked = ((name, self._book.routed(name)) for name in sorted(self._sold))
        return {name: prices[routed] for name, routed in asked if routed in prices}, until

    async def refresh(self, transactions: Transactions) -> None:
        """Put this worker's prices in force in the store, and read all tables that hold.

        Cancelled, they are in force or not; the next call does the rest.
        """
        async with self._lock:
            await self._book.list_models()
            if self._btc_usd is not None and self._btc_usd.fixed is None:
                self._rate = await transactions.run(load_rate)
            wanted = self._wanted(time.time())
            known = {row.number: row for row in self._rows}
            self._rows = tuple(await transactions.run(publish, wanted, known))
            self._current = frozenset(table.digest() for table in wanted)
            self._sold = frozenset(name for table in wanted for name in table.prices)

    def _wanted(self, now: float) -> list[Wanted]:
        msat_per_usd = self._msat_per_usd(now)
        found = self._book.all_priced(msat_per_usd)
        tables: list[Wanted] = []
        if listed := _of_source(found, "config"):
            tables.append(Wanted("config", listed))
        if msat_per_usd is not None:
            tables.append(Wanted("usd", _of_source(found, "usd"), msat_per_usd, self._rate_ends()))
        return tables

    def _msat_per_usd(self, at: float) -> Decimal | None:
        """Return what one USD is charged, or None where no rate is fresh at that time."""
        if self._btc_usd is None:
            return None
        if self._btc_usd.fixed is not None:
            return self._book.msat_per_usd(Decimal(self._btc_usd.fixed))
        rate = self._rate.fresh(self._btc_usd.rules, at)
        return None if rate is None else self._book.msat_per_usd(rate.usd)

    def _rate_ends(self) -> float:
        if self._btc_usd is None or self._btc_usd.fixed is not None or self._rate.rate is None:
            return float("inf")
        return self._rate.rate.at + self._btc_usd.max_age_s

    def _told(self, rows: Sequence[PriceRow], now: float) -> list[PriceRow]:
        """Return the tables that every worker knows, of each source the oldest at least."""
        if not self._shared:
            return list(rows)
        first = {row.source: row.number for row in sorted(rows, key=lambda r: -r.number)}
        return [r for r in rows if r.made_at <= now - KNOWN_EVERYWHERE_S or r.number == first[r.source]]

    def _unlisted(self, model: str, current: Priced, rows: Sequence[PriceRow]) -> set[ModelPrice]:
        rates = {row.msat_per_usd for row in rows if row.msat_per_usd is not None}
        if current.source == "config" or not rates:
            return set() if current.price is None else {current.price}
        found = (self._book.priced(model, rate) for rate in rates)
        return {priced.price for priced in found if priced is not None and priced.price is not None}


def _of_source(found: Mapping[str, Priced], source: Source) -> dict[str, ModelPrice]:
    return {name: p.price for name, p in found.items() if p.source == source and p.price is not None}
