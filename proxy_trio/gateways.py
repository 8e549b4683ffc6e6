"""The gateways that may be paid: a stored list, what each says of itself, and which of them is trusted."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import trio
from sqlalchemy import Connection, Row, delete, insert, select, update

from otrta_core import OtrtaError
from otrta_wallet.mint_url import normalize_mint_url
from otrta_wallet.transactions import Transactions
from proxy_trio.errors import GatewayFailure
from proxy_trio.gateway_info import GatewayInfo, GatewayKind
from proxy_trio.introductions import fetch_info
from proxy_trio.schema import CallState, calls, gateways

INFO_HOLDS_S = 60.0
STALE_AFTER_S = 900.0
"""Until when an info may stand in for one that cannot be had; a price that rose is told by the gateway."""
FAILURE_HOLDS_S = 5.0
LONGEST_FAILURE_HOLDS_S = 300.0
"""How long one that did not answer is not asked again, at first and at most: calls do not wait for it."""


class GatewayNotKnown(OtrtaError):
    """There is no such gateway in the list, or its URL cannot be one."""

    code = "gateway_unknown"


@dataclass(frozen=True, slots=True)
class GatewayEntry:
    """A gateway of the list.

    ``distrusted_for`` says why it is not paid any more; ``kind`` is None until it was reached; ``locks`` is
    whether the user wants it paid with locked tokens.
    """

    url: str
    name: str | None
    distrusted_for: str | None
    kind: GatewayKind | None = None
    locks: bool = False


class Gateways:
    """The list, and the infos kept at hand for ``INFO_HOLDS_S``."""

    def __init__(self, transactions: Transactions, transport: httpx.AsyncBaseTransport) -> None:
        self._db = transactions
        self._transport = transport
        self._infos: dict[str, tuple[float, GatewayInfo]] = {}
        self._failures: dict[str, tuple[float, float, GatewayFailure]] = {}
        self._locks: dict[str, trio.Lock] = defaultdict(trio.Lock)
        self._kinds: dict[str, GatewayKind] = {}
        self._locking: frozenset[str] = frozenset()
        self._looked = False

    async def entries(self) -> list[GatewayEntry]:
        """Return all gateways in the order they were added."""

        def read(conn: Connection, _now: float) -> list[GatewayEntry]:
            rows = conn.execute(select(gateways).order_by(gateways.c.added_at, gateways.c.url))
            return [_entry(row) for row in rows]

        found = await self._db.run(read)
        self._kinds = {entry.url: entry.kind for entry in found if entry.kind is not None}
        self._locking, self._looked = frozenset(entry.url for entry in found if entry.locks), True
        return found

    async def add(
        self, url: str, *, kind: GatewayKind | None = None, offline_ok: bool = False
    ) -> GatewayEntry:
        """Add a gateway after asking for its info; a known one is only looked at again.

        Args:
            url: its address, with or without ``/v1``.
            kind: what it is; None to find out.
            offline_ok: add it even where it does not answer.

        Raises:
            GatewayNotKnown: not a gateway's URL.
            GatewayFailure: it did not answer, and ``offline_ok`` is not set; nothing was added.
        """
        url = gateway_url(url)
        values: dict[str, str] = {} if kind is None else {"kind": kind}
        try:
            info = await self._fetch(url, kind)
            values = {"kind": info.kind} | ({"name": info.name} if info.name else {})
        except GatewayFailure:
            if not offline_ok:
                raise

        def write(conn: Connection, now: float) -> GatewayEntry:
            row = conn.execute(select(gateways).where(gateways.c.url == url)).first()
            if row is None:
                # taking it off the list and adding it again does not end a dispute
                disputed = calls.c.gateway == url, calls.c.state == CallState.DISPUTED
                why = conn.execute(select(calls.c.reason).where(*disputed).limit(1)).scalar()
                conn.execute(insert(gateways).values(url=url, added_at=now, distrusted_for=why, **values))
            elif values:
                conn.execute(update(gateways).where(gateways.c.url == url).values(**values))
            return _entry(conn.execute(select(gateways).where(gateways.c.url == url)).one())

        entry = await self._db.run(write)
        if entry.kind is not None:
            self._kinds[url] = entry.kind
        return entry

    async def remove(self, url: str) -> str:
        """Take a gateway off the list and return its URL in normal form; raises GatewayNotKnown."""
        known = gateway_url(url)
        removed = await self._db.run(
            lambda conn, _now: conn.execute(delete(gateways).where(gateways.c.url == known)).rowcount
        )
        if not removed:
            raise GatewayNotKnown(f"{known} is not in the list: see `otrta gateways`")
        return known

    async def trust(self, url: str) -> str:
        """Let a gateway be paid again that kept too much; returns and raises as ``remove``."""
        known = gateway_url(url)
        if not await self._db.run(_set_distrust, known, None):
            raise GatewayNotKnown(f"{known} is not in the list: see `otrta gateways`")
        return known

    async def look_at(self, url: str) -> tuple[str, GatewayInfo]:
        """Ask a gateway, of the list or not, for its info now; returns its URL in normal form too."""
        known = gateway_url(url)
        await self.entries()
        return known, await self.info(known, fresh=True)

    async def info(self, url: str, *, fresh: bool = False) -> GatewayInfo:
        """Return what a gateway says of itself, at most ``INFO_HOLDS_S`` old if it answers.

        Args:
            url: in normal form.
            fresh: ask it now, and take nothing older.

        Raises:
            GatewayFailure: it had to be asked and did not answer.
        """
        if fresh:
            return await self._fetch(url, self._kinds.get(url))
        async with self._locks[url]:
            info = self._at_hand(url, INFO_HOLDS_S)
            if info is not None:
                return info
            try:
                until, _, failure = self._failures.get(url, (float("-inf"), 0.0, None))
                if failure is not None and trio.current_time() < until:
                    raise failure
                return await self._fetch(url, self._kinds.get(url))
            except GatewayFailure:
                stale = self._at_hand(url, STALE_AFTER_S)
                if stale is None:
                    raise
                return stale

    def note_failure(self, url: str, failure: GatewayFailure) -> None:
        """Note that a gateway does not say what it is; it is asked again after ever longer pauses."""
        _, last_s, _ = self._failures.get(url, (0.0, 0.0, None))
        holds_s = min(LONGEST_FAILURE_HOLDS_S, last_s * 2 or FAILURE_HOLDS_S)
        self._failures[url] = (trio.current_time() + holds_s, holds_s, failure)

    async def set_lock(self, url: str, *, on: bool) -> str:
        """Say whether a gateway is paid with locked tokens; returns and raises as ``remove``."""
        known = gateway_url(url)

        def write(conn: Connection, _now: float) -> int:
            return conn.execute(update(gateways).where(gateways.c.url == known).values(locks=on)).rowcount

        if not await self._db.run(write):
            raise GatewayNotKnown(f"{known} is not in the list: see `otrta gateways`")
        await self.entries()
        return known

    async def locks(self, url: str) -> bool:
        """Tell whether a gateway is paid with locked tokens, where it takes them."""
        if not self._looked:
            await self.entries()
        return url in self._locking

    def info_at_hand(self, url: str) -> GatewayInfo | None:
        """Return what a gateway said of itself lately, without asking it."""
        return self._at_hand(url, STALE_AFTER_S)

    def forget_info(self, url: str) -> None:
        """Ask the gateway again before the next call."""
        self._infos.pop(url, None)

    def _at_hand(self, url: str, longest_s: float) -> GatewayInfo | None:
        asked_at, info = self._infos.get(url, (float("-inf"), None))
        return info if trio.current_time() - asked_at < longest_s else None

    async def _fetch(self, url: str, kind: GatewayKind | None) -> GatewayInfo:
        try:
            info = await fetch_info(self._transport, url, kind)
        except GatewayFailure as error:
            self.note_failure(url, type(error)(error.message))
            raise
        self._failures.pop(url, None)
        self._infos[url] = (trio.current_time(), info)
        if kind is None:
            self._kinds[url] = info.kind
            await self._db.run(_note_kind, url, info.kind)
        return info


def _entry(row: Row[Any]) -> GatewayEntry:
    return GatewayEntry(
        row.url, row.name, row.distrusted_for, None if row.kind is None else GatewayKind(row.kind), row.locks
    )


def _note_kind(conn: Connection, _now: float, url: str, kind: GatewayKind) -> None:
    conn.execute(update(gateways).where(gateways.c.url == url).values(kind=kind))


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
