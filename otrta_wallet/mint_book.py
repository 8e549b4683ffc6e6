"""The mints that a wallet uses, with their keysets kept at hand."""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace

import anyio
import httpx

from otrta_core import Keyset, KeysetError, Token
from otrta_core.keyset import is_keyset_id
from otrta_wallet import store
from otrta_wallet.errors import MintError, MintNotKnown, UnitMismatch, WalletError
from otrta_wallet.mint_client import TRIES, KeysetEntry, MintClient, MintInfo
from otrta_wallet.mint_url import normalize_mint_url
from otrta_wallet.transactions import Transactions

REFRESH_EVERY_S = 60.0
"""How often at most an unknown keyset in a stranger's token makes us ask its mint."""

OLD_AFTER_S = 5.0
"""From when on a list of keysets is too old to explain why the mint refused something."""


INFO_FRESH_S = 3600.0
"""How long what a mint says of itself is believed."""

ENDS_SOON_S = 30 * 86_400.0
"""How long before a keyset's end no money is put on it any more, and what is there is moved."""


def ends_soon(keyset: Keyset, now: float) -> bool:
    """Tell whether a keyset's ``final_expiry`` is near or over (NUT-02)."""
    return keyset.final_expiry is not None and keyset.final_expiry - now < ENDS_SOON_S


class MintBook:
    """Known mints. Only ``add``, ``refresh`` and ``info`` talk to a mint, and only to one that was added."""

    def __init__(self, transactions: Transactions, http: httpx.AsyncClient, *, shared: bool = False) -> None:
        """Make an empty book.

        Args:
            transactions: on the wallet's database.
            http: the client that talks to mints.
            shared: whether other processes use that database too.
        """
        self._db = transactions
        self._shared = shared
        self._http = http
        self._clients: dict[str, MintClient] = {}
        self._keysets: dict[str, dict[str, Keyset]] = {}
        self._refreshed_at: dict[str, float] = {}
        self._infos: dict[str, tuple[float, MintInfo]] = {}
        self._locks: dict[str, anyio.Lock] = defaultdict(anyio.Lock)

    async def load(self) -> None:
        """Read mints and keysets from the store; other workers on it may have added some."""
        urls, found = await self._db.run(lambda conn, _now: (store.mint_urls(conn), store.load_keysets(conn)))
        for url, keysets in found.items():  # what a refresh has just brought stays
            self._keysets[url] = {**self._keysets.get(url, {}), **keysets}
        for url in urls:
            if url not in self._clients:
                self._clients[url] = MintClient(url, self._http)

    def forget(self, url: str) -> None:
        """Know a mint no longer that has been taken out of the store; its keysets stay."""
        self._clients.pop(url, None)

    async def catch_up(self) -> None:
        """Do as ``load``, where there can be other workers."""
        if self._shared:
            await self.load()

    async def know(self, url: str, keyset_ids: Collection[str] = ()) -> None:
        """Make a mint and keysets of it known here that another worker may have added."""
        if url not in self._clients or not self._keysets.get(url, {}).keys() >= set(keyset_ids):
            await self.catch_up()

    @property
    def urls(self) -> list[str]:
        """The mints in the order they were added."""
        return list(self._clients)

    def client(self, url: str) -> MintClient:
        """Return the client of a known mint.

        Raises:
            MintNotKnown: it was never added.
        """
        client = self._clients.get(url)
        if client is None:
            raise MintNotKnown("this mint is not one of those in use here")
        return client

    def keysets(self, url: str) -> Mapping[str, Keyset]:
        """Return the keysets at hand of a known mint, by full id."""
        self.client(url)
        return self._keysets.get(url, {})

    async def add(self, url: str, *, offline_ok: bool = False) -> str:
        """Add a mint and fetch its keysets; returns its URL in normal form.

        Args:
            url: of the mint.
            offline_ok: keep it although it cannot be reached now.

        Raises:
            MintNotKnown: not a mint's URL.
            MintError: it could not be reached, and ``offline_ok`` is not set; nothing was added.
            KeysetError: its keysets do not hold.
        """
        url = normalize_mint_url(url)
        client = self._clients.get(url) or MintClient(url, self._http)
        name = None
        fresh = url not in self._clients
        self._clients[url] = client
        try:
            try:
                name = (await self.info(url, max_age_s=0.0)).name
                await self.refresh(url)
            except MintError:
                if not offline_ok:
                    raise
            await self._db.run(lambda conn, now: store.add_mint(conn, url, name, now))
        except BaseException:
            if fresh:
                del self._clients[url]
            raise
        return url

    async def info(self, url: str, *, max_age_s: float = INFO_FRESH_S, tries: int = TRIES) -> MintInfo:
        """Return what a known mint says of itself (NUT-06), asked for again where that is older.

        Args:
            url: of the mint.
            max_age_s: how old what is at hand may be.
            tries: how often the mint is asked where it does not answer.

        Raises:
            MintError: the mint had to be asked and could not.
        """
        asked_at, info = self._infos.get(url, (float("-inf"), None))
        now = time.monotonic()
        if info is None or now - asked_at >= max_age_s:
            info = await self.client(url).info(tries=tries)
            self._infos[url] = now, info
        return info

    async def refresh(self, url: str) -> None:
        """Fetch the list of keysets, and the keys of new ones; what is no longer listed is inactive.

        Raises:
            MintError: the mint could not be asked.
            KeysetError: a keyset does not hold; what was known stays.
        """
        async with self._locks[url]:
            await self._refresh(url)

    async def refresh_if_old(self, url: str, old_after_s: float = OLD_AFTER_S) -> None:
        """Do as ``refresh``, unless that was done less than so many seconds ago."""
        async with self._locks[url]:
            if time.monotonic() - self._refreshed_at.get(url, float("-inf")) > old_after_s:
                await self._refresh(url)

    async def _refresh(self, url: str) -> None:
        client = self.client(url)
        known = self._keysets.get(url, {})
        found = {keyset.id: replace(keyset, active=False) for keyset in known.values()}
        for entry in await client.keysets():
            if entry.id in known:
                found[entry.id] = _updated(known[entry.id], entry)
            elif is_keyset_id(entry.id):  # others are of a version that is not used here
                found[entry.id] = await client.keyset(entry)
        await self._db.run(lambda conn, _now: store.save_keysets(conn, url, found.values()))
        self._keysets[url] = found
        self._refreshed_at[url] = time.monotonic()

    async def active_keyset(self, url: str, unit: str) -> Keyset:
        """Return the active keyset of a unit with the lowest fee; one that ends soon only if it is the last.

        Raises:
            MintError: none is at hand and the mint could not be asked.
            WalletError: the mint has no active keyset of this unit, or none that has not ended (NUT-02).
        """
        await self.know(url)
        for attempt in range(2):
            now = self._db.now()
            fitting = [
                k
                for k in self.keysets(url).values()
                if k.active and k.unit == unit and (k.final_expiry is None or k.final_expiry > now)
            ]
            if fitting:
                return min(fitting, key=lambda k: (ends_soon(k, now), k.input_fee_ppk, k.id))
            if attempt == 0:
                await self.refresh(url)
        raise WalletError(f"the mint {url} makes no new e-cash in {unit}")

    def fee_ppk(self, url: str) -> dict[str, int]:
        """Return the input fee by keyset id."""
        return {keyset.id: keyset.input_fee_ppk for keyset in self.keysets(url).values()}

    def units(self, url: str) -> dict[str, int]:
        """Return the units with an active keyset, each with its input fee in ppk."""
        active = [k for k in self.keysets(url).values() if k.active]
        return {k.unit: min(o.input_fee_ppk for o in active if o.unit == k.unit) for k in active}

    async def resolve(self, token: Token, *, clock: Callable[[], float] = time.monotonic) -> Token:
        """Return the token with its mint's URL in normal form and full keyset ids, all of its own unit.

        A keyset that is not at hand is asked for at its mint, at most every ``REFRESH_EVERY_S``.

        Raises:
            MintNotKnown: of another mint; nothing was asked anywhere.
            KeysetError: a keyset is not this mint's.
            UnitMismatch: the keysets' unit is not the token's word.
            MintError: the mint had to be asked and could not.
        """
        url = normalize_mint_url(token.mint)
        await self.know(url)
        self.client(url)
        try:
            full = token.resolve(self.keysets(url))
        except KeysetError:
            await self.catch_up()
            with suppress(KeysetError):
                return self._checked(token.resolve(self.keysets(url)), url)
            if clock() - self._refreshed_at.get(url, float("-inf")) < REFRESH_EVERY_S:
                raise
            await self.refresh(url)
            full = token.resolve(self.keysets(url))
        return self._checked(full, url)

    def _checked(self, full: Token, url: str) -> Token:
        if {self.keysets(url)[proof.id].unit for proof in full.proofs} != {full.unit}:
            raise UnitMismatch("the token's unit is not that of its proofs")
        return Token(url, full.unit, full.proofs, full.memo)


def _updated(old: Keyset, entry: KeysetEntry) -> Keyset:
    fee_ppk, expiry = entry.input_fee_ppk or 0, entry.final_expiry or None
    if (fee_ppk, expiry) != (old.input_fee_ppk, old.final_expiry):
        replace(old, input_fee_ppk=fee_ppk, final_expiry=entry.final_expiry).verify_id()
    return replace(old, input_fee_ppk=fee_ppk, final_expiry=expiry, active=entry.active)
