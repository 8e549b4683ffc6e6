"""Keys for apps: each with budgets, models and an end of its own. They can make LLM calls and nothing else.

A key is 256 random bits behind a prefix. The store has its SHA-256 alone, so a key is shown once, when it is
made. What carries the prefix and is no key that holds is refused, even where apps need none: a key that was
taken away must not fall back to the budgets of everybody. Any other value is what apps make up for lack of
a key, and says nothing.
"""

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select, update

from otrta_wallet.transactions import Transactions
from proxy_trio.budget import Limits
from proxy_trio.errors import KeyExists, KeyNotKnown, KeyRefused
from proxy_trio.headers import Header, values
from proxy_trio.schema import app_keys

PREFIX: Final = "sk-otrta-app-"
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
MAX_KEYS: Final = 1000

_SHOWN = len(PREFIX) + 4
_HEADERS: Final = (b"x-api-key", b"api-key", b"x-goog-api-key")


@dataclass(frozen=True, slots=True)
class AppKey:
    """An app's key, without the key itself.

    Attributes:
        id: by which payments name it.
        name: by which people do.
        prefix: its beginning, to tell it by.
        limits: its own, beside those of all calls together.
        models: that it may pay for; None: any.
        created_at: unix seconds.
        expires_at: from when on it is refused; None: never.
        removed: whether it was taken away.
    """

    id: str
    name: str
    prefix: str
    limits: Limits
    models: tuple[str, ...] | None
    created_at: float
    expires_at: float | None
    removed: bool
    hash: str = field(repr=False)

    def check(self, now: float) -> None:
        """Raise ``KeyRefused`` where the key does not hold any more."""
        if self.removed:
            raise KeyRefused(f"The key {self.name} was removed. Make another: `otrta keys add NAME`.")
        if self.expires_at is not None and now >= self.expires_at:
            raise KeyRefused(
                f"The time of the key {self.name} is over. Extend it: "
                f"`otrta keys set {self.name} --expires 30d`."
            )


class KeyRing:
    """The keys, at hand for every request; the store is read once and after each change."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._by_hash: Mapping[str, AppKey] = {}

    async def load(self) -> None:
        """Read the keys anew."""
        found = await self._transactions.run(lambda conn, _now: every(conn, removed=True))
        self._by_hash = {key.hash: key for key in found}

    @property
    def known(self) -> list[AppKey]:
        """The keys that were not removed."""
        return [key for key in self._by_hash.values() if not key.removed]

    def identify(self, headers: Iterable[Header], *, required: bool) -> AppKey | None:
        """Return the key that an app gave; None for an app without one.

        Args:
            headers: of its request.
            required: whether an app without a key is refused.

        Raises:
            KeyRefused: what it gave is no key that holds, or it gave none where one is required.
        """
        given = {value for value in _given(headers) if value.startswith(PREFIX)}
        if not given:
            if required:
                raise KeyRefused(
                    "This proxy serves only apps that have a key. Make one, `otrta keys add NAME`, and give "
                    "it to the app as its API key."
                )
            return None
        # the hashes are compared by a dictionary: its time tells something of a hash, and nothing of a key
        found = self._by_hash.get(hash_of(given.pop())) if len(given) == 1 else None
        if found is None:
            raise KeyRefused("This is no key of this proxy: see `otrta keys`.")
        found.check(self._transactions.now())
        return found


def hash_of(key: str) -> str:
    """Return the hash by which the store knows a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def add(
    conn: Connection,
    now: float,
    *,
    name: str,
    limits: Limits,
    models: Sequence[str] | None,
    expires_at: float | None,
) -> tuple[AppKey, str]:
    """Make a key; returns it and its text, which is nowhere else.

    Raises:
        KeyExists: there is one of this name, or there are too many.
    """
    known = every(conn)
    if any(key.name == name for key in known):
        raise KeyExists(f"There is a key {name} already. `otrta keys rotate {name}` makes it another one.")
    if len(known) >= MAX_KEYS:
        raise KeyExists(f"There are {MAX_KEYS} keys already. Remove some: `otrta keys remove NAME`.")
    text, stored = _new_key()
    key_id = secrets.token_hex(8)
    values_ = {**_limit_columns(limits), "models": _as_json(models), "expires_at": expires_at}
    conn.execute(insert(app_keys).values(id=key_id, name=name, created_at=now, **stored, **values_))
    return load(conn, name), text


def change(
    conn: Connection,
    name: str,
    *,
    limits: Limits,
    models: Sequence[str] | None,
    expires_at: float | None,
) -> AppKey:
    """Give a key other budgets, models and an other end.

    Raises:
        KeyNotKnown: there is none of this name.
    """
    values_ = {**_limit_columns(limits), "models": _as_json(models), "expires_at": expires_at}
    conn.execute(update(app_keys).where(app_keys.c.id == load(conn, name).id).values(**values_))
    return load(conn, name)


def rotate(conn: Connection, name: str) -> tuple[AppKey, str]:
    """Put another key in the place of one, which is refused from now on; what it has spent goes on to count.

    Raises:
        KeyNotKnown: there is none of this name.
    """
    text, stored = _new_key()
    conn.execute(update(app_keys).where(app_keys.c.id == load(conn, name).id).values(**stored))
    return load(conn, name), text


def remove(conn: Connection, now: float, name: str) -> AppKey:
    """Take a key away; its name can be used again.

    Raises:
        KeyNotKnown: there is none of this name.
    """
    key = load(conn, name)
    conn.execute(update(app_keys).where(app_keys.c.id == key.id).values(removed_at=now))
    return key


def load(conn: Connection, name: str) -> AppKey:
    """Return the key of this name.

    Raises:
        KeyNotKnown: there is none.
    """
    query = select(app_keys).where(app_keys.c.name == name, app_keys.c.removed_at.is_(None))
    row = conn.execute(query).first()
    if row is None:
        raise KeyNotKnown(f"There is no key {name}: see `otrta keys`.")
    return _key(row)


def by_id(conn: Connection, key_id: str) -> AppKey | None:
    """Return the key of this id, removed or not."""
    row = conn.execute(select(app_keys).where(app_keys.c.id == key_id)).first()
    return None if row is None else _key(row)


def every(conn: Connection, *, removed: bool = False) -> list[AppKey]:
    """Return the keys by name, with ``removed`` those that were taken away too."""
    query = select(app_keys).order_by(app_keys.c.name, app_keys.c.created_at)
    if not removed:
        query = query.where(app_keys.c.removed_at.is_(None))
    return [_key(row) for row in conn.execute(query)]


def names(conn: Connection) -> dict[str, str]:
    """Return the names of all keys that there ever were, by id."""
    return {row.id: row.name for row in conn.execute(select(app_keys.c.id, app_keys.c.name))}


def _given(headers: Iterable[Header]) -> Iterable[str]:
    known = list(headers)
    for value in values(known, b"authorization"):
        yield value.partition(" ")[2].strip() if value[:7].lower() == "bearer " else value.strip()
    for name in _HEADERS:
        yield from (value.strip() for value in values(known, name))


def _new_key() -> tuple[str, dict[str, str]]:
    text = PREFIX + secrets.token_urlsafe(32)
    return text, {"prefix": text[:_SHOWN], "hash": hash_of(text)}


def _limit_columns(limits: Limits) -> dict[str, int | None]:
    return {
        "per_request_msat": limits.per_request_msat,
        "per_hour_msat": limits.per_hour_msat,
        "per_day_msat": limits.per_day_msat,
        "per_month_msat": limits.per_month_msat,
        "total_msat": limits.total_msat,
    }


def _as_json(models: Sequence[str] | None) -> str | None:
    return None if models is None else json.dumps(list(models))


def _key(row: Row[Any]) -> AppKey:
    return AppKey(
        row.id,
        row.name,
        row.prefix,
        Limits(
            per_request_msat=row.per_request_msat,
            per_hour_msat=row.per_hour_msat,
            per_day_msat=row.per_day_msat,
            per_month_msat=row.per_month_msat,
            total_msat=row.total_msat,
        ),
        None if row.models is None else tuple(json.loads(row.models)),
        row.created_at,
        row.expires_at,
        row.removed_at is not None,
        row.hash,
    )
