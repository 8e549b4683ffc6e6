"""The wallet's seed as BIP-39 words."""

from mnemonic import Mnemonic
from sqlalchemy import Connection, func, select

from otrta_wallet import store
from otrta_wallet.errors import SeedInUse, WalletError
from otrta_wallet.schema import keysets, operations, proofs, quotes, settings

_ENGLISH = Mnemonic("english")
_WORDS, _FORMER = "seed_words", "former_seed_words"


def new_words() -> str:
    """Make twelve words from 128 bits of the system's entropy."""
    return str(_ENGLISH.generate(strength=128))


def normalize_words(words: str) -> str:
    """Return BIP-39 words in lower case with one space between them.

    Raises:
        WalletError: the words are not a BIP-39 phrase; its checksum finds most typing errors.
    """
    words = " ".join(words.lower().split())
    if not _ENGLISH.check(words):
        raise WalletError("these are not the words of a seed: check their spelling and order")
    return words


def seed_of(words: str) -> bytes:
    """Return the 64-byte seed of BIP-39 words (no passphrase).

    Raises:
        WalletError: as ``normalize_words``.
    """
    return bytes(Mnemonic.to_seed(normalize_words(words)))


def words_of(conn: Connection, _now: float) -> str:
    """Return the wallet's words, which are made where it has none."""
    words = store.get_setting(conn, _WORDS)
    if words is None:
        store.insert_new(conn, settings, name=_WORDS, value=new_words())
        words = store.get_setting(conn, _WORDS)  # another worker's, where that was faster
        assert words is not None  # noqa: S101 (either of them has been committed or is ours)
    return words


def use_words(conn: Connection, _now: float, words: str, *, shared: bool) -> None:
    """Give a wallet that was never used the words of another seed; its own are kept beside them.

    Args:
        conn: of the caller's transaction.
        _now: unix time.
        words: in their normal form.
        shared: whether others may have it open, who would go on with its own words.

    Raises:
        SeedInUse: it has words of its own, and has been used with them or is shared.
    """
    if store.insert_new(conn, settings, name=_WORDS, value=words):
        return
    own = store.get_setting(conn, _WORDS)
    if own == words:
        return
    if shared or _is_used(conn):
        raise SeedInUse("this wallet has another seed: restore into an empty one of its own")
    former = store.get_setting(conn, _FORMER)
    store.put_setting(conn, _FORMER, f"{own}" if former is None else f"{former}\n{own}")
    store.put_setting(conn, _WORDS, words)


def _is_used(conn: Connection) -> bool:
    traces = (
        select(func.count()).select_from(proofs),
        select(func.count()).select_from(operations),
        select(func.count()).select_from(quotes),
        select(func.count()).select_from(keysets).where(keysets.c.counter > 0),
    )
    return any(conn.execute(query).scalar_one() for query in traces)
