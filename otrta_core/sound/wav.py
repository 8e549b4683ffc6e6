"""WAV: as many bytes a second as its header says, if they are not compressed."""

from fractions import Fraction
from typing import Final

from otrta_core.sound.reading import Steps, Uncertain, unpack

PCM, FLOAT, A_LAW, MU_LAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
GUID_TAIL: Final = bytes.fromhex("000000001000800000aa00389b71")
_BITS: Final = {PCM: (8, 16, 24, 32), FLOAT: (32, 64), A_LAW: (8,), MU_LAW: (8,)}


def seconds(content: bytes) -> Fraction:
    """Return how long all that follows the header plays."""
    if content[8:12] != b"WAVE":
        raise Uncertain("of a file of this kind")
    steps, at, rate = Steps(), 12, 0
    while True:
        steps.one()
        name, (size,) = content[at : at + 4], unpack("<I", content, at + 4)
        at += 8
        if name == b"data":
            if not rate or size > len(content) - at:
                raise Uncertain("of a WAV whose header states another size than it has")
            return Fraction(len(content) - at, rate)
        if name == b"fmt ":
            if rate:
                raise Uncertain("of a WAV with two formats")
            rate = _bytes_per_second(content[at : at + size])
        at += size + size % 2


def _bytes_per_second(chunk: bytes) -> int:
    code, channels, rate, byte_rate, frame, bits = unpack("<HHIIHH", chunk)
    if code == EXTENSIBLE and len(chunk) == 40 and chunk[26:] == GUID_TAIL:
        (code,) = unpack("<H", chunk, 24)
    if bits not in _BITS.get(code, ()):
        raise Uncertain("of a WAV that is compressed")
    if not channels or not rate or frame != channels * bits // 8 or byte_rate != rate * frame:
        raise Uncertain("of a WAV whose figures do not agree")
    return int(byte_rate)
