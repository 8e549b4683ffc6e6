"""By which way each gateway and mint is reached: straight, or through a SOCKS proxy of the user's.

Ways are by origin: what is on one host and port goes one way. Nothing falls back: a proxy that does not
answer means that its gateways and mints cannot be reached.
"""

from collections.abc import Callable, Mapping
from typing import Final

import httpx
from sqlalchemy import Connection, delete, insert, select

from otrta_wallet.transactions import Transactions
from proxy_trio.errors import ProxyInvalid
from proxy_trio.schema import ways
from proxy_trio.socks import Credentials, SocksProxy, ThroughSocks, made_up, sent_through

DIRECT: Final = "direct"
Way = SocksProxy | None
_HIDDEN: Final = ".onion"


def read_way(text: str) -> Way:
    """Read a proxy's URL, or the word ``direct``.

    Raises:
        ProxyInvalid: it is neither.
    """
    return None if text.strip().lower() == DIRECT else SocksProxy.parse(text)


class Ways:
    """The ways that hold: those set by command, then those of the settings, then the default."""

    def __init__(
        self,
        default: str | None = None,
        by_url: Mapping[str, str] | None = None,
        *,
        apart: bool = False,
    ) -> None:
        """Make a book of ways.

        Args:
            default: of whatever has none of its own; None for direct.
            by_url: by the URL of a gateway or mint.
            apart: whether each connection to a gateway gets credentials of its own, rather than each
                gateway, so that Tor carries each call by another circuit.

        Raises:
            ProxyInvalid: one cannot be read.
        """
        self.apart = apart
        self._default = read_way(default or DIRECT)
        self._settings = {origin(url): read_way(text) for url, text in (by_url or {}).items()}
        self._set: dict[str, Way] = {}
        self._made_up: dict[str, Credentials] = {}

    def of(self, url: str) -> Way:
        """Return the way to a URL."""
        place = origin(url)
        return self._set.get(place, self._settings.get(place, self._default))

    def made_up_for(self, place: str) -> Credentials:
        """Return the credentials of an origin, the same until this process ends."""
        return self._made_up.setdefault(place, made_up())

    def describe(self, url: str) -> str | None:
        """Return the proxy of a URL without its credentials, or None where it is reached directly."""
        way = self.of(url)
        return None if way is None else str(way)

    def set_for(self, url: str) -> str | None:
        """Return what commands have set for a URL, as it can be set again; None where nothing is."""
        place = origin(url)
        if place not in self._set:
            return None
        way = self._set[place]
        return DIRECT if way is None else way.text

    async def load(self, transactions: Transactions) -> None:
        """Read the ways that commands have set."""
        rows = await transactions.run(lambda conn, _now: conn.execute(select(ways)).all())
        self._set = {row.url: read_way(row.proxy) for row in rows}

    async def put(self, transactions: Transactions, url: str, proxy: str | None) -> None:
        """Set the way to a URL, or forget it, so that the settings hold again.

        Raises:
            ProxyInvalid: the proxy cannot be read.
        """
        place = origin(url)
        way = None if proxy is None else read_way(proxy)

        def write(conn: Connection, _now: float) -> None:
            conn.execute(delete(ways).where(ways.c.url == place))
            if proxy is not None:
                conn.execute(insert(ways).values(url=place, proxy=proxy.strip()))

        await transactions.run(write)
        if proxy is None:
            self._set.pop(place, None)
        else:
            self._set[place] = way


class WayFinder(httpx.AsyncBaseTransport):
    """Carries each request by its way, over transports that are made when first needed."""

    def __init__(
        self, ways_: Ways, make: Callable[[], httpx.AsyncHTTPTransport], *, apart: bool = False
    ) -> None:
        """Make a transport.

        Args:
            ways_: that hold, also when they change later.
            make: makes the transport for one way.
            apart: whether each connection gets credentials of its own.
        """
        self._ways = ways_
        self._make = make
        self._apart = apart
        self._made: dict[tuple[str, Way], httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request its way.

        Raises:
            httpx.ConnectError: its proxy opens no way, or it goes to a hidden service and has no proxy.
        """
        url = str(request.url)
        way = self._ways.of(url)
        if way is None and request.url.host.endswith(_HIDDEN):
            raise httpx.ConnectError("a hidden service is reached through a proxy only", request=request)
        return await self._transport(origin(url), way).handle_async_request(request)

    def _transport(self, place: str, way: Way) -> httpx.AsyncHTTPTransport:
        key = ("" if way is None else place, way)
        if key not in self._made:
            transport = self._make()
            if way is not None:
                fixed = way.credentials or self._ways.made_up_for(place)
                pick = made_up if self._apart and way.credentials is None else lambda: fixed
                transport = sent_through(transport, ThroughSocks(way, pick))
            self._made[key] = transport
        return self._made[key]

    async def aclose(self) -> None:
        """Close what was opened."""
        for transport in self._made.values():
            await transport.aclose()


def origin(url: str) -> str:
    """Return scheme, host and port of a URL.

    Raises:
        ProxyInvalid: it has none.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise ProxyInvalid("a proxy is set for the URL of a gateway or a mint") from None
    port = parsed.port or {"https": 443, "http": 80}.get(parsed.scheme)
    if not parsed.host or port is None:
        raise ProxyInvalid("a proxy is set for the URL of a gateway or a mint")
    return f"{parsed.scheme}://{parsed.host}:{port}"
