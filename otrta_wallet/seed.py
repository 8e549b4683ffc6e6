"""The wallet's seed as BIP-39 words."""

from mnemonic import Mnemonic

from otrta_wallet.errors import WalletError

_ENGLISH = Mnemonic("english")


def new_words() -> str:
    """Make twelve words from 128 bits of the system's entropy."""
    return str(_ENGLISH.generate(strength=128))


def seed_of(words: str) -> bytes:
    """Return the 64-byte seed of BIP-39 words (no passphrase).

    Raises:
        WalletError: the words are not a BIP-39 phrase; its checksum finds most typing errors.
    """
    words = " ".join(words.lower().split())
    if not _ENGLISH.check(words):
        raise WalletError("these are not the words of a seed: check their spelling and order")
    return bytes(Mnemonic.to_seed(words))
