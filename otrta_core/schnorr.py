"""Schnorr signatures on the SHA-256 of a text, as NUT-11 and NUT-20 use them (BIP-340)."""

import hashlib
import re

from coincurve import PrivateKey, PublicKey, PublicKeyXOnly

from otrta_core.curve import scalar

_SIGNATURE = re.compile(r"[0-9a-f]{128}", re.ASCII | re.IGNORECASE)


def private_key(secret: bytes) -> PrivateKey:
    """Return the private key of 32 bytes.

    Raises:
        ValueError: not 32 bytes, zero, or not below the group's order.
    """
    return PrivateKey(scalar(secret))


def public_key(secret: bytes) -> str:
    """Return the compressed public key, in hex, of a private key; errors as in ``private_key``."""
    return bytes(private_key(secret).public_key.format()).hex()


def x_only(key: str) -> str:
    """Return the lowercase x-coordinate of a compressed key in hex: what NUT-11 compares keys by."""
    return key[2:].lower()


def sign(message: str, secret: bytes, aux: bytes | None = None) -> str:
    """Sign the SHA-256 of a text and return the signature, 64 bytes in hex.

    Args:
        message: what is signed, as UTF-8.
        secret: the private key.
        aux: 32 random bytes that harden the signing against side channels; without them the same message and
            key always give the same signature, which is as secure on a machine that nobody measures.

    Raises:
        ValueError: the private key or ``aux`` has the wrong size or range.
    """
    if aux is not None and len(aux) != 32:
        raise ValueError("auxiliary randomness must be 32 bytes")
    return bytes(private_key(secret).sign_schnorr(_digest(message), aux)).hex()


def verifies(message: str, signature: str, key: str) -> bool:
    """Tell whether a signature in hex on a text is that of a compressed public key in hex.

    The parity of the key does not matter (BIP-340). Anything malformed verifies nothing: False.
    """
    if _SIGNATURE.fullmatch(signature) is None:
        return False
    try:
        xonly = PublicKeyXOnly(PublicKey(bytes.fromhex(key)).format()[1:])
    except ValueError:
        return False
    return bool(xonly.verify(bytes.fromhex(signature), _digest(message)))


def _digest(message: str) -> bytes:
    return hashlib.sha256(message.encode()).digest()
