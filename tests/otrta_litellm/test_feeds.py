"""Feeds over real sockets: three formats, and everything that a service may answer instead."""

import time
from collections.abc import AsyncIterator
from decimal import Decimal

import httpx
import pytest

from otrta_litellm import feeds
from otrta_litellm.feeds import MAX_REPLY_BYTES, Feed, FeedFailed, ask_all, http_client, read_price
from tests.otrta_litellm.feed_server import FORMATS, FeedServer, feed_server, kraken, ok

pytestmark = pytest.mark.anyio
EVERY_S = 60.0


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with http_client() as client:
        yield client


def feed_of(server: FeedServer, feed_format: feeds.FeedFormat = "kraken") -> Feed:
    return Feed(feed_format, server.url)


@pytest.mark.parametrize("feed_format", FORMATS)
async def test_the_services_answers_are_understood(
    http: httpx.AsyncClient, feed_format: feeds.FeedFormat
) -> None:
    with feed_server(feed_format, "64015.10000000") as server:
        now = time.time()
        reading = await feed_of(server, feed_format).ask(http, EVERY_S, now)
        assert reading is not None
        assert (reading.feed, reading.usd) == (feed_format, Decimal("64015.1"))
        assert abs(reading.at - now) < 2
        assert b"\r\nuser-agent: otrta\r\n" in server.heads[0].lower()


@pytest.mark.parametrize("feed_format", ["coinbase", "bitstamp"])
async def test_a_stale_answer_says_how_old_it_is(
    http: httpx.AsyncClient, feed_format: feeds.FeedFormat
) -> None:
    with feed_server() as server:
        server.says(feed_format, "64000", age_s=7200)
        reading = await feed_of(server, feed_format).ask(http, EVERY_S, time.time())
        assert reading is not None
        assert 7190 < time.time() - reading.at < 7210


WRONG = {
    "garbage": b"\x00\xff not JSON",
    "empty": b"",
    "list": b"[]",
    "deep": b"[" * 5000,
    "error": b'{"error": ["EGeneral:Too many requests"], "result": {}}',
    "two pairs": b'{"error": [], "result": {"A": {"c": ["1"]}, "B": {"c": ["2"]}}}',
    "a number": b'{"error": [], "result": {"A": {"c": [1.5]}}}',
    "negative": kraken("-5", 0),
    "zero": kraken("0.0", 0),
    "exponent": kraken("1e5", 0),
    "not a number": kraken("NaN", 0),
    "infinite": kraken("Infinity", 0),
    "long": kraken("1" * 10, 0),
    "not ASCII digits": kraken("\u0661\u0662", 0),
    "line after": kraken("5\n", 0),
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG.keys())
async def test_what_is_no_price_is_no_reading(http: httpx.AsyncClient, body: bytes) -> None:
    with pytest.raises(FeedFailed):
        read_price("kraken", body, 0.0)
    with feed_server() as server:
        server.sends(ok(body))
        assert await feed_of(server).ask(http, EVERY_S, time.time()) is None
        assert server.asked == 1


@pytest.mark.parametrize(
    ("feed_format", "body"),
    [
        ("coinbase", b'{"price": "5", "time": "yesterday"}'),
        ("coinbase", b'{"price": "5", "time": "2026-01-01T00:00:00"}'),
        ("coinbase", b'{"price": "5"}'),
        ("bitstamp", b'{"last": "5", "timestamp": "-1"}'),
        ("bitstamp", b'{"last": "5", "timestamp": "nan"}'),
        ("bitstamp", b'{"timestamp": "1"}'),
    ],
)
def test_a_time_that_cannot_be_read_is_no_reading(feed_format: feeds.FeedFormat, body: bytes) -> None:
    with pytest.raises(FeedFailed):
        read_price(feed_format, body, 0.0)


BAD = {
    "status": b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
    "busy": b"HTTP/1.1 429 Slow down\r\nContent-Length: 0\r\n\r\n",
    "no HTTP": b"220 smtp.example ESMTP\r\n",
    "cut": ok(kraken("5", 0))[:-10],
    "hangs up": b"HTTP/1.1 200 OK\r\n",
    "huge": ok(b" " * (MAX_REPLY_BYTES * 4) + kraken("5", 0)),
    "compressed": ok(b"\x1f\x8b" + bytes(100), "Content-Encoding: gzip\r\n"),
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
async def test_a_service_that_fails_is_no_reading(http: httpx.AsyncClient, raw: bytes) -> None:
    with feed_server() as server:
        server.sends(raw)
        assert await feed_of(server).ask(http, EVERY_S, time.time()) is None
        server.says("kraken", "5")
        assert await feed_of(server).ask(http, EVERY_S, time.time()) is not None


async def test_redirects_are_not_followed(http: httpx.AsyncClient) -> None:
    with feed_server() as target, feed_server() as server:
        server.sends(f"HTTP/1.1 302 Found\r\nLocation: {target.url}\r\nContent-Length: 0\r\n\r\n".encode())
        assert await feed_of(server).ask(http, EVERY_S, time.time()) is None
        assert (server.asked, target.asked) == (1, 0)


async def test_a_silent_service_holds_up_nobody(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "ASK_WITHIN_S", 0.3)
    with feed_server() as silent, feed_server("bitstamp", "6") as good:
        silent.sends(b"")
        both = [feed_of(silent), feed_of(good, "bitstamp")]
        began = time.monotonic()
        readings = await ask_all(both, http, EVERY_S)
        assert time.monotonic() - began < 3
        assert [(r.feed, r.usd) for r in readings] == [("bitstamp", Decimal(6))]


async def test_a_failing_service_is_left_alone_for_longer_and_longer(http: httpx.AsyncClient) -> None:
    clock = [0.0]
    with feed_server() as server:
        server.sends(BAD["status"])
        feed, asked_at = Feed("kraken", server.url, lambda: clock[0]), []
        for second in range(0, 1200, 60):
            clock[0] = float(second)
            before = server.asked
            await feed.ask(http, EVERY_S, time.time())
            if server.asked > before:
                asked_at.append(second)
        assert asked_at == [0, 60, 180, 420, 720, 1020]
        server.says("kraken", "5")
        clock[0] = 5000.0
        assert await feed.ask(http, EVERY_S, time.time()) is not None
        clock[0] += 1
        assert await feed.ask(http, EVERY_S, time.time()) is not None


async def test_nothing_of_an_answer_is_logged(
    http: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    with feed_server() as server:
        server.sends(ok(b'{"error": ["cashuBsecret"], "result": {}}'))
        await feed_of(server).ask(http, EVERY_S, time.time())
    logged = str(capsys.readouterr())
    assert "feed_failed" in logged
    assert "cashuB" not in logged
