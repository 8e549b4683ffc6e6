"""A local service that answers as the public ones document it, or as badly as a test wants."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime


def kraken(usd: str, at: float) -> bytes:
    """The reply of Kraken's GET /0/public/Ticker?pair=XBTUSD, which has no time."""
    ticker = {
        "a": ["64015.10000", "1", "1.000"],
        "b": ["64015.00000", "14", "14.000"],
        "c": [usd, "0.00010000"],
        "v": ["1028.96384915", "2045.45372211"],
        "p": ["64281.20961", "64415.90113"],
        "t": [26514, 52471],
        "l": ["63585.50000", "63585.50000"],
        "h": ["64877.80000", "65136.10000"],
        "o": "64475.10000",
    }
    return json.dumps({"error": [], "result": {"XXBTZUSD": ticker}}).encode()


def coinbase(usd: str, at: float) -> bytes:
    """The reply of Coinbase Exchange's GET /products/BTC-USD/ticker."""
    when = datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
    return json.dumps(
        {
            "ask": "64015.5",
            "bid": "64015.49",
            "volume": "5213.10449213",
            "trade_id": 663028910,
            "price": usd,
            "size": "0.00012",
            "time": when,
            "rfq_volume": "12.3",
        }
    ).encode()


def bitstamp(usd: str, at: float) -> bytes:
    """The reply of Bitstamp's GET /api/v2/ticker/btcusd/."""
    return json.dumps(
        {
            "timestamp": str(int(at)),
            "open": "64444",
            "high": "65100",
            "low": "63588",
            "last": usd,
            "volume": "1221.61409271",
            "vwap": "64305",
            "bid": "64010",
            "ask": "64011",
            "side": "0",
            "open_24": "64920",
            "percent_change_24": "-1.40",
        }
    ).encode()


FORMATS: dict[str, Callable[[str, float], bytes]] = {
    "kraken": kraken,
    "coinbase": coinbase,
    "bitstamp": bitstamp,
}


@dataclass
class FeedServer:
    """What it answers can be changed while it runs; `asked` counts the requests."""

    port: int
    answer: Callable[[], bytes]
    asked: int = 0
    heads: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/ticker"

    def says(self, feed_format: str, usd: str, *, age_s: float = 0.0) -> None:
        """Answer in a format from now on."""
        self.answer = lambda: ok(FORMATS[feed_format](usd, time.time() - age_s))

    def sends(self, raw: bytes) -> None:
        """Answer with these bytes from now on."""
        self.answer = lambda: raw


def ok(body: bytes, headers: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@contextmanager
def feed_server(feed_format: str = "kraken", usd: str = "64015.1") -> Iterator[FeedServer]:
    """A service on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = FeedServer(listener.getsockname()[1], lambda: b"")
        server.says(feed_format, usd)
        thread = threading.Thread(target=_serve, args=(listener, server))
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listener: socket.socket, server: FeedServer) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, suppress(OSError):
            connection.settimeout(10)
            head = b""
            while not head.endswith(b"\r\n\r\n") and (part := connection.recv(4096)):
                head += part
            server.asked += 1
            server.heads.append(head)
            raw = server.answer()
            if raw:
                connection.sendall(raw)
                connection.shutdown(socket.SHUT_WR)
            connection.recv(1)  # a silent one waits until the caller hangs up
