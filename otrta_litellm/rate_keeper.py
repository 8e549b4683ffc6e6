"""The rate of bitcoin in the store, which of all workers one asks the feeds for at a time."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

import httpx
import structlog
from sqlalchemy import Connection, insert, select, update

from otrta_litellm.feeds import Feed, ask_all, http_client
from otrta_litellm.rate_settings import BtcUsd
from otrta_litellm.rates import Rate, RateState, Reading, after_poll
from otrta_litellm.schema import btc_rate
from otrta_wallet.transactions import Transactions

_log = structlog.get_logger(__name__)

_ONLY = 1


class RateKeeper:
    """Keeps the rate fresh. Use it as an async context manager; ``keep`` is called again and again."""

    def __init__(
        self, settings: BtcUsd | None, client: Callable[[], httpx.AsyncClient] = http_client
    ) -> None:
        self._settings = settings
        self._feeds = [Feed(f.format, f.address) for f in settings.feeds] if settings is not None else []
        self._client = client
        self._stack = AsyncExitStack()
        self._http: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        if self._settings is not None and self._settings.fixed is None:
            self._http = await self._stack.enter_async_context(self._client())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def keep(self, transactions: Transactions) -> None:
        """Ask the feeds, unless that has been done by any worker within ``every_s``.

        Cancelled, the rate is as it was, and the next poll is due ``every_s`` after this one.
        """
        settings, http = self._settings, self._http
        if settings is None or http is None or not await transactions.run(claim_poll, settings.every_s):
            return
        readings = await ask_all(self._feeds, http, settings.every_s, transactions.now)
        before, after = await transactions.run(note_poll, readings, settings)
        if after.doubted is not None:
            _log.warning("rate_doubted", usd=str(after.doubted.usd), seen=after.seen)
        if after.rate is None or after.rate == before.rate:
            _log.warning("rate_not_renewed", readings=len(readings))


def claim_poll(conn: Connection, now: float, every_s: float) -> bool:
    """Take it on this worker to ask the feeds; False where that is not due."""
    if conn.execute(select(btc_rate.c.id)).first() is None:
        conn.execute(insert(btc_rate).values(id=_ONLY, seen=0, polled_at=now))
        return True
    # a time that is ahead of ours was written by a clock that was wrong
    due = (btc_rate.c.polled_at <= now - every_s) | (btc_rate.c.polled_at > now + every_s)
    return conn.execute(update(btc_rate).where(due).values(polled_at=now)).rowcount == 1


def note_poll(
    conn: Connection, now: float, readings: list[Reading], settings: BtcUsd
) -> tuple[RateState, RateState]:
    """Write down what comes of a poll; return the state before and after it."""
    before = load_rate(conn, now, for_update=True)
    after = after_poll(before, readings, settings.rules, now)
    conn.execute(
        update(btc_rate).values(
            usd=None if after.rate is None else str(after.rate.usd),
            at=None if after.rate is None else after.rate.at,
            doubted_usd=None if after.doubted is None else str(after.doubted.usd),
            doubted_at=None if after.doubted is None else after.doubted.at,
            seen=after.seen,
        )
    )
    return before, after


def load_rate(conn: Connection, _now: float, *, for_update: bool = False) -> RateState:
    """Return what is known of the rate."""
    query = select(btc_rate)
    row = conn.execute(query.with_for_update() if for_update else query).first()
    if row is None:
        return RateState()
    return RateState(_rate(row.usd, row.at), _rate(row.doubted_usd, row.doubted_at), row.seen)


def _rate(usd: Any, at: Any) -> Rate | None:
    return None if usd is None else Rate(Decimal(usd), at)
