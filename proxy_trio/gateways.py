"""The gateways that may be paid: a stored list, what each says of itself, and which of them is trusted."""

from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import trio
from sqlalchemy import Connection, delete, insert, select, update

from otrta_core import OtrtaError
from otrta_wallet.mint_url import normalize_mint_url
from otrta_wallet.transactions import Transactions
from proxy_trio.errors import GatewayFailure
from proxy_trio.gateway_info import GatewayInfo, fetch_info
from proxy_trio.schema import gateways

INFO_HOLDS_S = 60.0


class GatewayNotKnown(OtrtaError):
    """There is no such gateway in the list, or its URL cannot be one."""

    code = "gateway_unknown"


@dataclass(frozen=True, slots=True)
class GatewayEntry:
    """A gateway of the list; ``distrusted_for`` says why it is not paid any more."""

    url: str
    name: str | None
    distrusted_for: str | None


class Gateways:
    """The list, and the infos kept at hand for ``INFO_HOLDS_S``."""

    def __init__(self, transactions: Transactions, transport: httpx.AsyncBaseTransport) -> None:
        self._db = transactions
        self._transport = transport
        self._infos: dict[str, tuple[float, GatewayInfo]] = {}

    async def entries(self) -> list[GatewayEntry]:
        """Return all gateways in the order they were added."""

        def read(conn: Connection, _now: float) -> list[GatewayEntry]:
            rows = conn.execute(select(gateways).order_by(gateways.c.added_at, gateways.c.url))
            return [GatewayEntry(row.url, row.name, row.distrusted_for) for row in rows]

        return await self._db.run(read)

    async def add(self, url: str, *, offline_ok: bool = False) -> GatewayEntry:
        """Add a gateway after asking for its info; a known one is only looked at again.

        Raises:
            GatewayNotKnown: not a gateway's URL.
            GatewayFailure: it did not answer, and ``offline_ok`` is not set; nothing was added.
        """
        url = gateway_url(url)
        name = None
        try:
            name = (await self.info(url, fresh=True)).name
        except GatewayFailure:
            if not offline_ok:
                raise

        def write(conn: Connection, now: float) -> None:
            if conn.execute(select(gateways.c.url).where(gateways.c.url == url)).first() is None:
                conn.execute(insert(gateways).values(url=url, name=name, added_at=now))

        await self._db.run(write)
        return GatewayEntry(url, name, None)

    async def remove(self, url: str) -> None:
        """Take a gateway off the list; raises GatewayNotKnown."""
        known = gateway_url(url)
        removed = await self._db.run(
            lambda conn, _now: conn.execute(delete(gateways).where(gateways.c.url == known)).rowcount
        )
        if not removed:
            raise GatewayNotKnown(f"{known} is not in the list: see `otrta gateways`")

    async def trust(self, url: str) -> None:
        """Let a gateway be paid again that kept too much; raises GatewayNotKnown."""
        if not await self._db.run(_set_distrust, gateway_url(url), None):
            raise GatewayNotKnown(f"{url} is not in the list: see `otrta gateways`")

    async def info(self, url: str, *, fresh: bool = False) -> GatewayInfo:
        """Return what a gateway says of itself, at most ``INFO_HOLDS_S`` old.

        Raises:
            GatewayFailure: it had to be asked and did not answer.
        """
        at_hand = self._infos.get(url)
        if not fresh and at_hand is not None and trio.current_time() - at_hand[0] < INFO_HOLDS_S:
            return at_hand[1]
        info = await fetch_info(self._transport, url)
        self._infos[url] = (trio.current_time(), info)
        return info

    def forget_info(self, url: str) -> None:
        """Ask the gateway again before the next call."""
        self._infos.pop(url, None)


def distrust(conn: Connection, _now: float, url: str, reason: str) -> None:
    """Note, inside the caller's transaction, that a gateway is not paid any more."""
    _set_distrust(conn, _now, url, reason)


def _set_distrust(conn: Connection, _now: float, url: str, reason: str | None) -> bool:
    query = update(gateways).where(gateways.c.url == url).values(distrusted_for=reason)
    return conn.execute(query).rowcount == 1


def gateway_url(url: str) -> str:
    """Return a gateway's URL in normal form, without ``/v1``.

    Raises:
        GatewayNotKnown: not an http or https URL.
    """
    try:
        normal = normalize_mint_url(url)
    except OtrtaError:
        raise GatewayNotKnown("a gateway's URL begins with https:// or http:// and has no query") from None
    return normal.removesuffix("/v1") if urlsplit(normal).path.endswith("/v1") else normal
