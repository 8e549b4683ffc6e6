"""How long an audio file plays at most."""

import struct
from typing import Final

from otrta_core.requests.forms import FormFile

BYTES_PER_SECOND: Final = 750
"""Of the thinnest sound that is sold: 6 kbit/s."""

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_GUID_TAIL: Final = bytes.fromhex("000000001000800000aa00389b71")
_MAX_RATE, _MAX_CHANNELS = 384_000, 8


def most_seconds(file: FormFile) -> int:
    """Return an upper bound of a file's seconds, rounded up: by a WAV's header, else bytes / 750."""
    rate = _wav_bytes_per_second(file.head) if file.filename.lower().endswith(".wav") else None
    return -(-file.size // (rate or BYTES_PER_SECOND))


def _wav_bytes_per_second(head: bytes) -> int | None:
    """Return how many bytes of an uncompressed WAV play in a second, or None where that is not certain.

    Only what every reader takes alike counts: one format before the data, whose figures agree.
    """
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    at, found = 12, None
    while len(head) >= at + 8:
        name, (size,) = head[at : at + 4], struct.unpack_from("<I", head, at + 4)
        if name == b"data":
            return found
        if name == b"fmt ":
            found = None if found is not None else _format(head[at + 8 : at + 8 + size])
            if found is None:
                return None
        at += 8 + size + size % 2
    return None


def _format(chunk: bytes) -> int | None:
    if len(chunk) not in (16, 18, 40):
        return None
    code, channels, rate, byte_rate, frame, bits = struct.unpack_from("<HHIIHH", chunk)
    if code == _EXTENSIBLE and len(chunk) == 40 and chunk[26:] == _GUID_TAIL:
        code = struct.unpack_from("<H", chunk, 24)[0]
    if code not in (_PCM, _FLOAT) or bits not in (8, 16, 24, 32, 64):
        return None
    if not 1 <= channels <= _MAX_CHANNELS or not 1 <= rate <= _MAX_RATE:
        return None
    if frame != channels * bits // 8 or byte_rate != rate * frame:
        return None
    return int(byte_rate)
