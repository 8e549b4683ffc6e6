"""Opus packets (RFC 6716): their first bytes say how long they play."""

from typing import Final

PER_SECOND: Final = 48_000
LONGEST: Final = 5760
"""The samples of the longest packet, at 48 kHz."""

_EACH: Final = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4
"""The samples of a frame, by its configuration: SILK, hybrid, CELT."""


def samples(packet: bytes) -> int:
    """Return the samples of a packet at 48 kHz, of which the first two bytes are enough.

    For an empty one, which a reader may take for a gap, those of the longest.
    """
    if not packet:
        return LONGEST
    config = packet[0] >> 3
    each = _EACH[config]
    match packet[0] & 3:
        case 0:
            return each
        case 3:
            return max(each, each * (packet[1] & 0x3F)) if len(packet) > 1 else LONGEST
        case _:
            return 2 * each
