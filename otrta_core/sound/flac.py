"""FLAC: every place at which a frame could begin counts as one, since frames do not state their length."""

import re
from fractions import Fraction
from typing import Final

from otrta_core.sound.reading import Steps, Uncertain, unpack

_SYNC: Final = re.compile(rb"\xff[\xf8\xf9]", re.DOTALL)
_RATES: Final = (0, 88_200, 176_400, 192_000, 8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)
_STREAMINFO: Final = 34


def seconds(content: bytes) -> Fraction:
    """Return how long all frames together play, or as long as the file says, if that is longer."""
    if content[4] & 0x7F or unpack(">I", b"\0" + content[5:8])[0] != _STREAMINFO:
        raise Uncertain("of a FLAC that does not say what it is")
    (packed,) = unpack(">Q", content, 18)
    stream_rate, stated = packed >> 44, packed & (1 << 36) - 1
    if not stream_rate:
        raise Uncertain("of a FLAC that does not say what it is")
    steps, totals = Steps(), dict[int, int]()
    for found in _SYNC.finditer(content, 42):
        steps.one()
        samples, rate = _frame(content[found.start() : found.start() + 17])
        if samples:
            rate = min(rate or stream_rate, stream_rate)
            totals[rate] = totals.get(rate, 0) + samples
    played = sum(Fraction(samples, rate) for rate, samples in totals.items())
    return max(Fraction(played), Fraction(stated, stream_rate))


def _frame(head: bytes) -> tuple[int, int]:
    """Return the samples of a frame that begins here, and the rate that it states; 0 for none."""
    if len(head) < 6 or head[3] & 1:
        return 0, 0
    size_at, rate_at = head[2] >> 4, head[2] & 15
    at = 5 + _more_bytes(head[4])
    tail = head + bytes(8)
    if size_at in (6, 7):
        at += size_at - 5
        samples = int.from_bytes(tail[at - size_at + 5 : at]) + 1
    elif size_at >= 8:
        samples = 256 << (size_at - 8)
    else:
        samples = {0: 0, 1: 192}.get(size_at, 576 << max(0, size_at - 2))
    if rate_at in (12, 13, 14):
        width = 1 if rate_at == 12 else 2
        rate = int.from_bytes(tail[at : at + width]) * {12: 1000, 13: 1, 14: 10}[rate_at]
        at += width
    else:
        rate = _RATES[rate_at] if rate_at < 12 else 0
    if at >= len(head) or _crc8(head[:at]) != head[at]:
        return 0, 0
    return samples, rate


def _more_bytes(first: int) -> int:
    """Return how many bytes follow the first of a number that is coded like UTF-8."""
    ones = 0
    while ones < 8 and first & (0x80 >> ones):
        ones += 1
    return max(0, ones - 1)


def _crc8_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte << 1 ^ (0x07 if byte & 0x80 else 0)) & 0xFF
        table.append(byte)
    return tuple(table)


_TABLE: Final = _crc8_table()


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc = _TABLE[crc ^ byte]
    return crc
