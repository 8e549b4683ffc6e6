"""Asking public services what a bitcoin costs in USD.

What they answer is not trusted: it is read to a bound, within a time, without redirects, and parsed. A feed
that fails is left alone for longer and longer.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

import anyio
import httpx
import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from otrta_litellm.rates import Reading

FeedFormat = Literal["kraken", "coinbase", "bitstamp"]

PUBLIC_FEEDS: Final[Mapping[FeedFormat, str]] = {
    "kraken": "https://api.kraken.com/0/public/Ticker?pair=XBTUSD",
    "coinbase": "https://api.exchange.coinbase.com/products/BTC-USD/ticker",
    "bitstamp": "https://www.bitstamp.net/api/v2/ticker/btcusd/",
}

ASK_WITHIN_S = 5.0
MAX_REPLY_BYTES = 64 << 10
LONGEST_PAUSE_S = 300.0

_log = structlog.get_logger(__name__)

_AMOUNT = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,12})?")
_Price = Annotated[str, StringConstraints(pattern=rf"^{_AMOUNT.pattern}$")]


class FeedFailed(Exception):
    """A feed gave no price; the message is ours and holds nothing of its answer."""


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _KrakenPair(_Reply):
    c: Annotated[list[_Price], Field(min_length=1, max_length=10)]  # last trade: price, volume


class _Kraken(_Reply):
    error: Annotated[list[Any], Field(max_length=0)]
    result: Annotated[dict[str, _KrakenPair], Field(min_length=1, max_length=1)]


class _Coinbase(_Reply):
    price: _Price
    time: AwareDatetime


class _Bitstamp(_Reply):
    last: _Price
    timestamp: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,12}$")]


def _kraken(body: bytes) -> tuple[str, datetime | None]:
    pair = next(iter(_Kraken.model_validate_json(body).result.values()))
    return pair.c[0], None


def _coinbase(body: bytes) -> tuple[str, datetime | None]:
    reply = _Coinbase.model_validate_json(body)
    return reply.price, reply.time


def _bitstamp(body: bytes) -> tuple[str, float]:
    reply = _Bitstamp.model_validate_json(body)
    return reply.last, float(reply.timestamp)


_READERS: Final[Mapping[FeedFormat, Callable[[bytes], tuple[str, datetime | float | None]]]] = {
    "kraken": _kraken,
    "coinbase": _coinbase,
    "bitstamp": _bitstamp,
}


def read_price(feed_format: FeedFormat, body: bytes, now: float) -> tuple[Decimal, float]:
    """Return the price in USD that a feed's answer states, and the unix time that it states for it.

    ``now`` is returned where the format has no time.

    Raises:
        FeedFailed: the answer is of another shape, or names no price above zero.
    """
    try:
        text, at = _READERS[feed_format](body)
    except ValidationError:
        raise FeedFailed(f"it does not answer in the format {feed_format}") from None
    usd = Decimal(text)
    if usd <= 0:
        raise FeedFailed("its price is zero")
    if at is None:
        return usd, now
    return usd, at.timestamp() if isinstance(at, datetime) else at


class Feed:
    """One service. It is asked by one task at a time."""

    def __init__(
        self, feed_format: FeedFormat, url: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.url = url
        self._clock = clock
        self._format = feed_format
        self._failed = 0
        self._not_before = float("-inf")

    async def ask(self, http: httpx.AsyncClient, every_s: float, now: float) -> Reading | None:
        """Return what it says, or None where it failed or is left alone; never raises for what it does."""
        if self._clock() < self._not_before:
            return None
        try:
            with anyio.fail_after(ASK_WITHIN_S):
                usd, at = read_price(self._format, await self._get(http), now)
        except (FeedFailed, httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            self._failed += 1
            pause_s = min(every_s * 2 ** min(self._failed - 1, 20), max(every_s, LONGEST_PAUSE_S))
            # a little less than the pause, so that the poll at its end is not just too early
            self._not_before = self._clock() + 0.9 * pause_s
            reason = str(error) if isinstance(error, FeedFailed) else type(error).__name__
            _log.warning("feed_failed", feed=self._format, reason=reason, failures=self._failed)
            return None
        self._failed = 0
        return Reading(self._format, usd, at)

    async def _get(self, http: httpx.AsyncClient) -> bytes:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "otrta"}
        data = bytearray()
        async with http.stream("GET", self.url, headers=headers) as response:
            if response.status_code != 200:
                raise FeedFailed(f"it answered {response.status_code}")
            async for chunk in response.aiter_raw():
                data += chunk
                if len(data) > MAX_REPLY_BYTES:
                    await response.aclose()  # reading on fails, which ends httpx's generators in order
        return bytes(data)


def http_client() -> httpx.AsyncClient:
    """Make the client that asks feeds; it follows no redirects and heeds no proxy variables."""
    return httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=ASK_WITHIN_S)


async def ask_all(
    feeds: Sequence[Feed], http: httpx.AsyncClient, every_s: float, clock: Callable[[], float] = time.time
) -> list[Reading]:
    """Ask all feeds side by side; takes ``ASK_WITHIN_S`` at most."""
    found: list[Reading] = []

    async def ask(feed: Feed) -> None:
        reading = await feed.ask(http, every_s, clock())
        if reading is not None:
            found.append(reading)

    async with anyio.create_task_group() as tasks:
        for feed in feeds:
            tasks.start_soon(ask, feed)
    return found
