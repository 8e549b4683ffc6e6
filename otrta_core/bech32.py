"""Bech32 (BIP-173) and Bech32m (BIP-350) of whole bytes, without BIP-173's limit of 90 characters.

Both directions are linear in their input; the caller bounds it. Reading raises ``ValueError`` only.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

_ALPHABET: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES: Final = {character: value for value, character in enumerate(_ALPHABET)}
_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM: Final = 6


def _feedback(top: int) -> int:
    value = 0
    for bit, term in enumerate(_GENERATOR):
        value ^= term if top >> bit & 1 else 0
    return value


_FEEDBACK: Final = tuple(_feedback(top) for top in range(32))


class Checksum(IntEnum):
    """The constant that tells the two checksums apart."""

    BECH32 = 1
    BECH32M = 0x2BC830A3


def encode(prefix: str, data: bytes, checksum: Checksum) -> str:
    """Write ``data`` in lower case behind the human-readable ``prefix``, also given in lower case."""
    values = _five_bits(data)
    sum_ = _polymod([*_expanded(prefix), *values, *[0] * _CHECKSUM]) ^ checksum
    values += [sum_ >> 5 * (_CHECKSUM - 1 - at) & 31 for at in range(_CHECKSUM)]
    return prefix + "1" + "".join(_ALPHABET[value] for value in values)


def decode(text: str, checksum: Checksum) -> tuple[str, bytes]:
    """Return the prefix, in lower case, and the data of a text in upper or in lower case.

    Raises:
        ValueError: mixed case, a foreign character, a checksum that does not hold, or bits left over.
    """
    if not text.isascii() or text not in (text.lower(), text.upper()):
        raise ValueError("bech32 in mixed case, or not ASCII")
    prefix, one, tail = text.lower().rpartition("1")
    if not one or not prefix or not all("!" <= character <= "~" for character in prefix):
        raise ValueError("bech32 without its prefix")
    if len(tail) < _CHECKSUM:
        raise ValueError("truncated bech32")
    try:
        values = [_VALUES[character] for character in tail]
    except KeyError:
        raise ValueError("not bech32") from None
    if _polymod([*_expanded(prefix), *values]) != checksum:
        raise ValueError("the checksum does not hold")
    return prefix, _eight_bits(values[:-_CHECKSUM])


def _expanded(prefix: str) -> list[int]:
    return [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]


def _polymod(values: Iterable[int]) -> int:
    state = 1
    for value in values:
        state = (state & 0x1FFFFFF) << 5 ^ value ^ _FEEDBACK[state >> 25]
    return state


def _five_bits(data: bytes) -> list[int]:
    values = []
    held = bits = 0
    for byte in data:
        held = (held << 8 | byte) & 0xFFF
        bits += 8
        while bits >= 5:
            bits -= 5
            values.append(held >> bits & 31)
    if bits:
        values.append(held << (5 - bits) & 31)
    return values


def _eight_bits(values: Iterable[int]) -> bytes:
    data = bytearray()
    held = bits = 0
    for value in values:
        held = (held << 5 | value) & 0xFFF
        bits += 5
        if bits >= 8:
            bits -= 8
            data.append(held >> bits & 0xFF)
    if bits >= 5 or held & ((1 << bits) - 1):
        raise ValueError("bech32 with bits left over")
    return bytes(data)
