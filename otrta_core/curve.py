"""Blind signatures on secp256k1 and their DLEQ proofs (NUT-00, NUT-12).

Points are coincurve public keys; scalars are 32 big-endian bytes, since that is what coincurve takes.
"""

import hashlib

from coincurve import PrivateKey, PublicKey

from otrta_core.errors import DleqInvalid

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""The order n of the group."""

_DOMAIN = b"Secp256k1_HashToCurve_Cashu_"


def point(encoded: str | bytes) -> PublicKey:
    """Read a compressed point (33 bytes, or 66 hex digits).

    Raises:
        ValueError: not compressed, or not on the curve.
    """
    raw = bytes.fromhex(encoded) if isinstance(encoded, str) else encoded
    if len(raw) != 33:
        raise ValueError("a point must be 33 bytes, compressed")
    return PublicKey(raw)


def hash_to_curve(message: bytes) -> PublicKey:
    """Map a message to its point Y (NUT-00)."""
    digest = hashlib.sha256(_DOMAIN + message).digest()
    for counter in range(2**16):
        candidate = hashlib.sha256(digest + counter.to_bytes(4, "little")).digest()
        try:
            return PublicKey(b"\x02" + candidate)
        except ValueError:
            continue
    raise ValueError("no point found")  # probability 2**-65536


def y_of(secret: str) -> str:
    """Return the hex Y that names a proof at the mint (NUT-07)."""
    return bytes(hash_to_curve(secret.encode()).format()).hex()


def blind(secret: bytes, r: bytes) -> PublicKey:
    """Return B_ = Y + rG for a secret message and a blinding factor (NUT-00).

    Raises:
        ValueError: r is not a scalar of 32 bytes, or zero, which would hide nothing.
    """
    return hash_to_curve(secret).add(scalar(r))


def sign_blinded(k: bytes, B_: PublicKey) -> PublicKey:  # noqa: N803 (the names of NUT-00)
    """Return the mint's C_ = kB_ (NUT-00); for mints and for tests."""
    return B_.multiply(scalar(k))


def unblind(C_: PublicKey, r: bytes, K: PublicKey) -> PublicKey:  # noqa: N803 (the names of NUT-00)
    """Return C = C_ - rK (NUT-00)."""
    return PublicKey.combine_keys([C_, K.multiply(negate(r))])


def hash_e(*points: PublicKey) -> bytes:
    """Hash points the way NUT-12 does: the text of their uncompressed hex."""
    text = "".join(p.format(compressed=False).hex() for p in points)
    return hashlib.sha256(text.encode()).digest()


def verify_dleq(B_: PublicKey, C_: PublicKey, e: bytes, s: bytes, A: PublicKey) -> bool:  # noqa: N803
    """Tell whether (e, s) proves that C_ was made from B_ with the key behind A (NUT-12)."""
    try:
        minus_e = negate(e)
        r1 = PublicKey.combine_keys([PrivateKey(scalar(s)).public_key, A.multiply(minus_e)])
        r2 = PublicKey.combine_keys([B_.multiply(s), C_.multiply(minus_e)])
    except ValueError:
        return False
    return hash_e(r1, r2, A, C_) == e


def verify_proof_dleq(secret: str, C: PublicKey, e: bytes, s: bytes, r: bytes, A: PublicKey) -> bool:  # noqa: N803
    """Tell whether a proof's DLEQ holds, from what a receiver knows (NUT-12, "Carol verifies")."""
    try:
        C_ = PublicKey.combine_keys([C, A.multiply(scalar(r))])  # noqa: N806
        B_ = blind(secret.encode(), r)  # noqa: N806
    except ValueError:
        return False
    return verify_dleq(B_, C_, e, s, A)


def scalar(value: bytes) -> bytes:
    """Return a scalar of 32 big-endian bytes unchanged.

    Raises:
        ValueError: another size, zero, or not below the group's order.
    """
    # coincurve looks at the number and not at the size, and libsecp256k1 can then abort the whole process
    if len(value) != 32 or not 0 < int.from_bytes(value, "big") < ORDER:
        raise ValueError("a scalar must be 32 bytes, between 1 and n - 1")
    return value


def negate(value: bytes) -> bytes:
    """Return -value modulo the group's order; errors as in ``scalar``."""
    return (ORDER - int.from_bytes(scalar(value), "big")).to_bytes(32, "big")


def require_dleq(valid: bool) -> None:
    """Raise DleqInvalid unless ``valid``."""
    if not valid:
        raise DleqInvalid("a DLEQ proof in the token does not hold: the token is not of this mint")
