"""Keysets: the public keys of a mint by amount, and the ids derived from them (NUT-01, NUT-02)."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from otrta_core import curve
from otrta_core.errors import KeysetError

_HEX_ID = re.compile(r"00[0-9a-f]{14}|01[0-9a-f]{64}", re.ASCII)
_MAX_KEYS = 256
SHORT_ID_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Keyset:
    """A mint's keys for one unit.

    Attributes:
        id: the full id, 16 hex digits (v1) or 66 (v2).
        unit: the unit word, such as "msat".
        keys: compressed public key in hex by amount.
        input_fee_ppk: fee per thousand inputs, in the keyset's unit.
        final_expiry: unix time after which the mint owes nothing for it, or None.
        active: whether the mint signs new outputs with it.
    """

    id: str
    unit: str
    keys: Mapping[int, str] = field(repr=False)
    input_fee_ppk: int = 0
    final_expiry: int | None = None
    active: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.input_fee_ppk, int) or self.input_fee_ppk < 0:
            raise KeysetError("input_fee_ppk must be a whole number, zero or more")
        check_keys(self.keys)

    def verify_id(self) -> None:
        """Recompute the id from the keys (NUT-02).

        Raises:
            KeysetError: the id is not that of these keys, or of an unknown version.
        """
        if self.id.startswith("01"):
            derived = {derive_keyset_id_v2(self.keys, self.unit, self.input_fee_ppk, self.final_expiry)}
            if (
                self.final_expiry == 0
            ):  # Nutshell 0.20 writes the 0 of a rotated keyset out, NUT-02 leaves it out
                derived.add(_id_v2(self.keys, self.unit, self.input_fee_ppk, "|final_expiry:0"))
        elif self.id.startswith("00"):
            derived = {derive_keyset_id_v1(self.keys)}
        else:
            raise KeysetError("the keyset id has an unknown version: only 00 and 01 are known")
        if self.id not in derived:
            raise KeysetError("the keyset id does not belong to the keys that the mint sent")


def check_keys(keys: Mapping[int, str]) -> None:
    """Check amounts and points of a keyset's keys (NUT-01).

    Raises:
        KeysetError: no key, too many, an amount below 1, or a key that is not a compressed point.
    """
    if not 0 < len(keys) <= _MAX_KEYS:
        raise KeysetError("a keyset must have between 1 and 256 keys")
    for amount, key in keys.items():
        if not isinstance(amount, int) or not 0 < amount < 2**64:
            raise KeysetError("a keyset's amounts must be whole numbers from 1 to 2**64 - 1")
        try:
            curve.point(key)
        except (ValueError, TypeError):
            raise KeysetError(f"the key for amount {amount} is not a compressed public key") from None


def derive_keyset_id_v1(keys: Mapping[int, str]) -> str:
    """Derive the deprecated 8-byte id: "00" and 14 hex digits (NUT-02)."""
    joined = b"".join(bytes.fromhex(key) for _, key in sorted(keys.items()))
    return "00" + hashlib.sha256(joined).hexdigest()[:14]


def derive_keyset_id_v2(
    keys: Mapping[int, str], unit: str, input_fee_ppk: int | None = None, final_expiry: int | None = None
) -> str:
    """Derive the 33-byte id: "01" and 64 hex digits (NUT-02). No or zero fee and expiry are left out."""
    return _id_v2(keys, unit, input_fee_ppk, f"|final_expiry:{final_expiry}" if final_expiry else "")


def _id_v2(keys: Mapping[int, str], unit: str, input_fee_ppk: int | None, expiry: str) -> str:
    text = ",".join(f"{amount}:{key.lower()}" for amount, key in sorted(keys.items()))
    fee = f"|input_fee_ppk:{input_fee_ppk}" if input_fee_ppk else ""
    return "01" + hashlib.sha256(f"{text}|unit:{unit.lower()}{fee}{expiry}".encode()).hexdigest()


def resolve_keyset_id(keyset_id: str, known: Iterable[str]) -> str:
    """Return the full id that a token's keyset id stands for (NUT-00, short keyset ids).

    Args:
        keyset_id: as it stands in the token: full, or the first 8 bytes of a v2 id.
        known: the full ids of the token's mint.

    Raises:
        KeysetError: no such keyset at this mint, or more than one.
    """
    ids = set(known)
    if keyset_id in ids:
        return keyset_id
    if len(keyset_id) != SHORT_ID_DIGITS or not keyset_id.startswith("01"):
        raise KeysetError("the token's keyset is not one of this mint's")
    matches = [full for full in ids if full.startswith(keyset_id)]
    if len(matches) > 1:
        raise KeysetError("the token's short keyset id fits more than one keyset: send the full id")
    if not matches:
        raise KeysetError("the token's keyset is not one of this mint's")
    return matches[0]


def is_keyset_id(text: str) -> bool:
    """Tell whether ``text`` is a full keyset id of a known version."""
    return _HEX_ID.fullmatch(text) is not None
