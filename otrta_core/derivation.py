"""What follows from the wallet's seed: secrets and blinding factors (NUT-13), the backup key (NUT-27).

Keyset ids that begin with 01 use HMAC-SHA256; ids that begin with 00 the older BIP-32 path
``m/129372'/0'/{keyset}'/{counter}'/{0|1}``.
"""

import hashlib
import hmac
from collections.abc import Iterable

from coincurve import PrivateKey

from otrta_core.curve import ORDER, scalar
from otrta_core.errors import KeysetError
from otrta_core.keyset import is_keyset_id

_SECRET, _BLINDING = 0, 1
_HARDENED = 0x80000000
_SEED_BYTES = 64


def derive_secret(seed: bytes, keyset_id: str, counter: int) -> str:
    """Return the secret of a counter as 64 hex digits.

    Args:
        seed: the wallet's BIP-39 seed, 64 bytes: who knows it can restore and spend all the money.
        keyset_id: the full keyset id in hex, v1 or v2.
        counter: below 2**64 (v2) or 2**31 (v1); never used twice.

    Raises:
        KeysetError: the id's version is not known, or the counter is out of range.
        ValueError: the seed is not 64 bytes; the words themselves are no seed.
    """
    return _derive(seed, keyset_id, counter, _SECRET).hex()


def derive_blinding_factor(seed: bytes, keyset_id: str, counter: int) -> bytes:
    """Return the blinding factor r of a counter, a scalar of 32 bytes; arguments as in derive_secret."""
    scalar = int.from_bytes(_derive(seed, keyset_id, counter, _BLINDING), "big") % ORDER
    if scalar == 0:
        raise KeysetError("this counter has no blinding factor: use the next one")
    return scalar.to_bytes(32, "big")


def derive_lock_key(seed: bytes) -> bytes:
    """Return the private key that tokens for this wallet are locked to (NUT-11).

    No spec says which to take. This is Nutshell's, ``m/129372'/0'/0'/0'``: the same words open the same locks
    there.

    Args:
        seed: the wallet's BIP-39 seed, 64 bytes.
    """
    return _bip32(seed, [index | _HARDENED for index in (129372, 0, 0, 0)])


def derive_backup_key(seed: bytes) -> bytes:
    """Return the private key under which a wallet backs up its list of mints (NUT-27).

    Args:
        seed: the wallet's BIP-39 seed, 64 bytes.

    Raises:
        KeysetError: no key follows from this seed (probability 2**-128).
        ValueError: the seed is not 64 bytes.
    """
    _check_seed(seed)
    try:
        return scalar(hashlib.sha256(seed + b"cashu-mint-backup").digest())
    except ValueError:
        raise KeysetError("this seed has no backup key: make another seed") from None


def backup_public_key(key: bytes) -> str:
    """Return the x-only public key, 64 hex digits, that a backup is published under (NUT-27).

    Raises:
        ValueError: the key is not a scalar of 32 bytes.
    """
    return bytes(PrivateKey(scalar(key)).public_key.format()[1:]).hex()


def _check_seed(seed: bytes) -> None:
    if len(seed) != _SEED_BYTES:
        raise ValueError("a seed must be the 64 bytes that BIP-39 makes of the words")


def _derive(seed: bytes, keyset_id: str, counter: int, kind: int) -> bytes:
    _check_seed(seed)
    if not is_keyset_id(keyset_id):
        raise KeysetError("secrets can be derived only for full keyset ids of version 00 and 01")
    raw_id, v2 = bytes.fromhex(keyset_id), keyset_id.startswith("01")
    # a hardened BIP-32 index has 31 bits: a larger counter would come back to secrets already used
    if not 0 <= counter < (2**64 if v2 else 2**31):
        raise KeysetError("the keyset's counter is out of range: no more secrets can be derived for it")
    if v2:
        message = b"Cashu_KDF_HMAC_SHA256" + raw_id + counter.to_bytes(8, "big") + bytes([kind])
        return hmac.digest(seed, message, hashlib.sha256)
    keyset_number = int.from_bytes(raw_id, "big") % (2**31 - 1)
    return _bip32(seed, [*(index | _HARDENED for index in (129372, 0, keyset_number, counter)), kind])


def _bip32(seed: bytes, path: Iterable[int]) -> bytes:
    digest = hmac.digest(b"Bitcoin seed", seed, hashlib.sha512)
    key, chain = digest[:32], digest[32:]
    for index in path:
        data = b"\x00" + key if index & _HARDENED else PrivateKey(key).public_key.format()
        digest = hmac.digest(chain, data + index.to_bytes(4, "big"), hashlib.sha512)
        key = ((int.from_bytes(digest[:32], "big") + int.from_bytes(key, "big")) % ORDER).to_bytes(32, "big")
        chain = digest[32:]
    return key
