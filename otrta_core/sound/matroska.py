"""WebM with one track of Opus (RFC 9559), as browsers record it."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from otrta_core.sound import opus
from otrta_core.sound.reading import Steps, Uncertain, cut_off, unpack

_FILE, _SEGMENT, _INFO, _TRACKS, _TRACK = 0, 0x18538067, 0x1549A966, 0x1654AE6B, 0xAE
_CLUSTER, _GROUP = 0x1F43B675, 0xA0
_SCALE, _DURATION, _CODEC, _ENCODINGS = 0x2AD7B1, 0x4489, 0x86, 0x6D80
_TIME, _SIMPLE_BLOCK, _BLOCK, _BLOCK_DURATION = 0xE7, 0xA3, 0xA1, 0x9B

_PARENTS: Final = {
    _SEGMENT: _FILE,
    _INFO: _SEGMENT,
    _TRACKS: _SEGMENT,
    _TRACK: _TRACKS,
    _CLUSTER: _SEGMENT,
    _GROUP: _CLUSTER,
}
"""What is gone into, and where it stands."""

_MAY_BE_OPEN: Final = (_SEGMENT, _CLUSTER)
"""What may leave its size open: it goes on to the end of what it is in, or to the next of its kind."""

_LACED: Final = 0x06
_LONGEST: Final = Fraction(10**12)


@dataclass(slots=True)
class _Heard:
    """What was found so far; times in ticks of ``scale`` nanoseconds."""

    tracks: int = 0
    clusters: int = 0
    samples: int = 0
    scale: int = 1_000_000
    stated: Fraction = Fraction(0)
    cluster_at: int = 0
    latest: int = 0
    longest_block: int = 0

    def seconds(self) -> Fraction:
        ticks = max(self.stated, Fraction(self.latest + self.longest_block))
        return max(Fraction(self.samples, opus.PER_SECOND), ticks * self.scale / 10**9)


def seconds(content: bytes) -> Fraction:
    """Return how long all packets together play, or until when the file says, if that is longer."""
    steps, heard, at = Steps(), _Heard(), 0
    inside = [(_FILE, len(content), True)]
    while at < len(content):
        steps.one()
        name, at = _name(content, at)
        size, at = _number(content, at)
        if name == _CLUSTER and inside[-1][0] == _CLUSTER and inside[-1][2]:
            inside.pop()
        parent, end, _ = inside[-1]
        goes_in = _PARENTS.get(name) == parent
        if size is None and name not in _MAY_BE_OPEN:
            raise Uncertain("of a WebM file that is damaged")
        upto = end if size is None else at + size
        if upto > end:
            raise cut_off()
        if goes_in:
            heard.tracks += name == _TRACK
            heard.clusters += name == _CLUSTER
            inside.append((name, upto, size is None))
        else:
            _note(heard, parent, name, content, at, upto)
            at = upto
        while len(inside) > 1 and at == inside[-1][1]:
            inside.pop()
    if heard.tracks != 1 or content.count(_CLUSTER.to_bytes(4)) != heard.clusters:
        raise Uncertain("of a WebM file with anything but one track of sound")
    return heard.seconds()


def _note(heard: _Heard, parent: int, name: int, content: bytes, at: int, upto: int) -> None:
    if parent == _INFO and name == _SCALE:
        heard.scale = _whole(content, at, upto)
    elif parent == _INFO and name == _DURATION:
        heard.stated = _real(content, at, upto)
    elif parent == _TRACK and name == _ENCODINGS:
        raise Uncertain("of a WebM file that is packed")
    elif parent == _TRACK and name == _CODEC and content[at:upto] != b"A_OPUS":
        raise Uncertain("of a WebM file without Opus")
    elif parent == _CLUSTER and name == _TIME:
        heard.cluster_at = _whole(content, at, upto)
    elif parent == _GROUP and name == _BLOCK_DURATION:
        heard.longest_block = max(heard.longest_block, _whole(content, at, upto))
    elif (parent, name) in ((_CLUSTER, _SIMPLE_BLOCK), (_GROUP, _BLOCK)):
        _, at = _number(content, at)
        offset, flags = unpack(">hB", content, at)
        if flags & _LACED or at + 3 > upto:
            raise Uncertain("of a WebM file that is packed")
        heard.samples += opus.samples(content[at + 3 : min(upto, at + 5)])
        heard.latest = max(heard.latest, heard.cluster_at + offset)


def _name(content: bytes, at: int) -> tuple[int, int]:
    """Read an element's name, whose mark belongs to it, and where it ends."""
    end = at + _width(content, at)
    return int.from_bytes(content[at:end]), end


def _number(content: bytes, at: int) -> tuple[int | None, int]:
    """Read a number of variable length, None for an open size, and where it ends."""
    width = _width(content, at)
    most = (1 << 7 * width) - 1
    number = int.from_bytes(content[at : at + width]) & most
    return None if number == most else number, at + width


def _width(content: bytes, at: int) -> int:
    if at >= len(content) or not content[at]:
        raise Uncertain("of a WebM file that is damaged")
    width = 9 - content[at].bit_length()
    if at + width > len(content):
        raise cut_off()
    return width


def _whole(content: bytes, at: int, upto: int) -> int:
    return int.from_bytes(content[at:upto]) if upto - at <= 8 else 10**12


def _real(content: bytes, at: int, upto: int) -> Fraction:
    form = {4: ">f", 8: ">d"}.get(upto - at)
    value = unpack(form, content, at)[0] if form else math.inf
    return Fraction(value) if math.isfinite(value) else _LONGEST
