"""Locks to blinded keys: the mint sees a key that it has never seen and will never see again (NUT-28).

The sender adds to each key of a lock a scalar that follows from a secret shared with that key's owner, and
sends along the ephemeral public key E from which the owner derives the same.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from coincurve import PublicKey

from otrta_core import curve, schnorr
from otrta_core.errors import LockError
from otrta_core.p2pk import P2PK

_DOMAIN = b"Cashu_P2BK_v1"


def blind_lock(lock: P2PK, ephemeral_key: bytes) -> tuple[P2PK, str]:
    """Blind every key of a lock.

    Args:
        lock: with the receivers' own keys.
        ephemeral_key: a fresh random private key of 32 bytes, used for one proof only, except that all proofs
            of one ``SIG_ALL`` transaction need the same.

    Returns:
        The lock to write into secrets, and E in hex, the ``p2pk_e`` of each proof.

    Raises:
        ValueError: the ephemeral key is not a private key.
        LockError: a key cannot be blinded with it: take another ephemeral key.
    """
    ephemeral = schnorr.public_key(ephemeral_key)
    blinded = [_blind(key, ephemeral_key, slot) for slot, key in enumerate(lock.slots)]
    return _with_slots(lock, blinded), ephemeral


def slot_keys(lock: P2PK, ephemeral: str, private_key: bytes) -> dict[int, bytes]:
    """Return the private keys with which the owner of ``private_key`` signs for a blinded lock, by slot.

    Args:
        lock: as it stands in the secret.
        ephemeral: E of the proof, in hex.
        private_key: the receiver's own, 32 bytes.

    Raises:
        ValueError: ``private_key`` is not one.
        LockError: E is not a compressed public key.
    """
    own = PublicKey(bytes.fromhex(schnorr.public_key(private_key)))
    found: dict[int, bytes] = {}
    for slot, (key, scalar) in enumerate(
        zip(lock.slots, _scalars(lock, ephemeral, private_key), strict=True)
    ):
        original = _unblind(key, scalar)
        if original is not None and original.format()[1:] == own.format()[1:]:
            natural = private_key if original == own else curve.negate(private_key)
            total = (int.from_bytes(natural, "big") + int.from_bytes(scalar, "big")) % curve.ORDER
            found[slot] = total.to_bytes(32, "big")
    return found


def unblind_lock(lock: P2PK, ephemeral: str, private_keys: Iterable[bytes]) -> P2PK:
    """Return the lock with the keys of these owners as the sender knew them; errors as in ``slot_keys``."""
    slots = list(lock.slots)
    for private_key in private_keys:
        scalars = _scalars(lock, ephemeral, private_key)
        for slot in slot_keys(lock, ephemeral, private_key):
            original = _unblind(lock.slots[slot], scalars[slot])
            if original is not None:
                slots[slot] = bytes(original.format()).hex()
    return _with_slots(lock, slots)


def blinding_scalar(shared_x: bytes, slot: int) -> bytes:
    """Return the blinding scalar of a slot from the shared secret Zx.

    Raises:
        LockError: no scalar follows from this secret (probability 2**-256).
    """
    material = _DOMAIN + shared_x + bytes([slot])
    for suffix in (b"", b"\xff"):
        try:
            return curve.scalar(hashlib.sha256(material + suffix).digest())
        except ValueError:
            continue
    raise LockError("no blinding scalar follows from this key: take another ephemeral key")


def shared_x(point: str, private_key: bytes) -> bytes:
    """Return Zx, the x-coordinate that both sides can compute: x(eP) = x(pE).

    Raises:
        ValueError: ``private_key`` is not one, or ``point`` is not a compressed public key in hex.
    """
    return bytes(curve.point(point).multiply(curve.scalar(private_key)).format()[1:])


def _scalars(lock: P2PK, ephemeral: str, private_key: bytes) -> list[bytes]:
    curve.scalar(private_key)
    try:
        shared = shared_x(ephemeral, private_key)
    except ValueError:
        raise LockError("the ephemeral key of a blinded lock is not a compressed public key") from None
    return [blinding_scalar(shared, slot) for slot in range(len(lock.slots))]


def _blind(key: str, ephemeral_key: bytes, slot: int) -> str:
    scalar = blinding_scalar(shared_x(key, ephemeral_key), slot)
    try:
        return bytes(curve.point(key).add(scalar).format()).hex()
    except ValueError:
        raise LockError("a key cannot be blinded with this ephemeral key: take another") from None


def _unblind(key: str, scalar: bytes) -> PublicKey | None:
    try:
        return curve.point(key).add(curve.negate(scalar))
    except ValueError:
        return None  # the point at infinity, which is nobody's key


def _with_slots(lock: P2PK, slots: list[str]) -> P2PK:
    first_refund = len(lock.keys)
    return replace(
        lock, data=slots[0], pubkeys=tuple(slots[1:first_refund]), refund=tuple(slots[first_refund:])
    )
