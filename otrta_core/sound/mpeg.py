"""MPEG audio, as MP3: a chain of frames from the first byte to the last, each with its length."""

from fractions import Fraction
from functools import lru_cache
from typing import Final

from otrta_core.sound.reading import Steps, Uncertain, cut_off, unpack

_KBITS: Final = {
    # by MPEG-1 or not, and layer
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES: Final = (44_100, 48_000, 32_000)
_LEAST_FRAMES: Final = 8
"""From so many on at its beginning every reader takes a file for MPEG audio."""

_STRIDES: Final = (188, 192, 204)
"""How far apart a transport stream has its marks."""


def seconds(content: bytes) -> Fraction:
    """Return how long the frames play, or as long as a header before them says, if that is longer."""
    _refuse_disguised(content)
    at, end = _after_tags(content), _before_tags(content)
    steps, totals, frames, stated = Steps(), dict[int, int](), 0, 0
    while at + 3 < end:
        steps.one()
        length, samples, rate = _frame(content[at : at + 3])
        if not frames:
            stated = _stated(content[at : at + length]) * samples
            first_rate = rate
        at += length
        frames += 1
        totals[rate] = totals.get(rate, 0) + samples
    if frames < _LEAST_FRAMES:
        raise Uncertain("of a file with so little MPEG audio")
    played = sum(Fraction(samples, rate) for rate, samples in totals.items())
    return max(Fraction(played), Fraction(stated, first_rate))


@lru_cache(maxsize=1024)
def _frame(head: bytes) -> tuple[int, int, int]:
    """Return a frame's bytes, samples and samples per second."""
    _, second, third = head
    version, layer, kbits_at, rate_at = second >> 3 & 3, 4 - (second >> 1 & 3), third >> 4, third >> 2 & 3
    known = head[0] == 0xFF and second & 0xE0 == 0xE0 and version != 1 and layer != 4
    if not known or not 0 < kbits_at < 15 or rate_at == 3:
        raise Uncertain("of a file with anything but MPEG audio in it")
    is_first = version == 3
    rate = _RATES[rate_at] >> {3: 0, 2: 1, 0: 2}[version]
    bits, padding = _KBITS[is_first, layer][kbits_at] * 1000, third >> 1 & 1
    if layer == 1:
        return (12 * bits // rate + padding) * 4, 384, rate
    samples = 576 if layer == 3 and not is_first else 1152
    return samples // 8 * bits // rate + padding, samples, rate


def _stated(frame: bytes) -> int:
    """Return how many frames a Xing or VBRI header in the first one says that there are."""
    for name in (b"Xing", b"Info"):
        at = frame.find(name)
        if at >= 0 and unpack(">I", frame, at + 4)[0] & 1:
            return int(unpack(">I", frame, at + 8)[0])
    at = frame.find(b"VBRI")
    return int(unpack(">I", frame, at + 14)[0]) if at >= 0 else 0


def _after_tags(content: bytes) -> int:
    at = 0
    while content.startswith(b"ID3", at):
        size = unpack("4B", content, at + 6)
        if max(size) > 127:
            raise Uncertain("of a file with a damaged tag")
        has_footer = content[at + 5] & 0x10
        at += 10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3]) + (10 if has_footer else 0)
    if at > len(content):
        raise cut_off()
    return at


def _before_tags(content: bytes) -> int:
    end = len(content)
    if content[-128:-125] == b"TAG":
        end -= 128
    if content[max(0, end - 32) : end].startswith(b"APETAGEX"):
        size, _, flags = unpack("<III", content, end - 20)
        end -= size + (32 if flags >> 31 else 0)
    return max(0, end)


def _refuse_disguised(content: bytes) -> None:
    """Refuse frames whose contents are another film's: its marks would go before them for some readers."""
    marks = b"\x47" * 10
    if content.count(b"\0\0\1\xba") > 1 or any(
        marks in content[at::stride] for stride in _STRIDES for at in range(stride)
    ):
        raise Uncertain("of a file that is two kinds at once")
