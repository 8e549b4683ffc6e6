"""MP4 with one track of AAC sound, whole or in fragments (ISO/IEC 14496-12, -14 and -3).

AAC makes 1024 samples of each piece, at the rate that its codec states, whatever the tables say of times. So
the number of pieces counts, and every duration that is stated.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from otrta_core.sound.reading import Steps, Uncertain, cut_off, unpack

_HOLDS: Final = {
    b"": (b"moov", b"moof"),
    b"moov": (b"trak", b"mvex"),
    b"trak": (b"mdia", b"edts"),
    b"mdia": (b"minf",),
    b"minf": (b"stbl",),
    b"moof": (b"traf",),
}
"""What is gone into, by what it stands in."""

_ONLY_THERE: Final = (
    b"moov",
    b"moof",
    b"trak",
    b"traf",
    b"trun",
    b"stsz",
    b"stz2",
    b"stts",
    b"elst",
    b"cmov",
)
"""What no reader may find elsewhere than where it was looked for."""

_SAMPLES: Final = 1024
_RATES: Final = (
    *(96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000),
    *(22_050, 16_000, 12_000, 11_025, 8_000, 7_350),
)
_AAC: Final = (0x40, 0x66, 0x67, 0x68)
_PLAIN: Final = (2, 5, 29)
"""AAC-LC, alone or with what makes more of it (SBR, PS)."""

_ES, _CONFIG, _SPECIFIC = 3, 4, 5


@dataclass(slots=True)
class Box:
    """A box, and the boxes in it where it was gone into."""

    name: bytes
    data: bytes = field(repr=False)
    boxes: Sequence["Box"] = ()

    def all(self, *path: bytes) -> "Iterator[Box]":
        """Return the boxes at a path below this one."""
        for box in self.boxes:
            if box.name == path[0]:
                yield from box.all(*path[1:]) if path[1:] else (box,)

    def one(self, *path: bytes) -> "Box":
        """Return the only box at a path.

        Raises:
            Uncertain: there is none, or more than one.
        """
        found = list(self.all(*path))
        if len(found) != 1:
            raise Uncertain("of an MP4 that does not say what it is")
        return found[0]


def seconds(content: bytes) -> Fraction:
    """Return how long all pieces together play, or as long as the file says, if that is longer."""
    steps = Steps()
    film = Box(b"", content, _boxes(content, b"", steps))
    _refuse_hidden(film)
    moov = film.one(b"moov")
    sounds = [trak for trak in moov.all(b"trak") if trak.one(b"mdia", b"hdlr").data[8:12] == b"soun"]
    if len(sounds) != 1:
        raise Uncertain("of an MP4 with anything but one track of sound")
    film_scale, film_ticks = _clock(moov.one(b"mvhd").data)
    scale, ticks = _clock(sounds[0].one(b"mdia", b"mdhd").data)
    pieces, piece_ticks = _table(sounds[0].one(b"mdia", b"minf", b"stbl"), steps)
    more_pieces, more_ticks = _fragments(film, moov, steps)
    film_ticks = max(
        film_ticks, _edited(sounds[0]), *(_extent(box.data) for box in moov.all(b"mvex", b"mehd")), 0
    )
    return max(
        Fraction((pieces + more_pieces) * _SAMPLES, _core_rate(sounds[0])),
        Fraction(max(ticks, piece_ticks, more_ticks), scale),
        Fraction(film_ticks, film_scale),
    )


def _boxes(data: bytes, parent: bytes, steps: Steps) -> list[Box]:
    at, found = 0, list[Box]()
    while at < len(data):
        steps.one()
        size, name = unpack(">I4s", data, at)
        start = at + 8
        if size == 1:
            (size,) = unpack(">Q", data, start)
            start += 8
        stop = at + size if size else len(data)
        if not start <= stop <= len(data):
            raise cut_off()
        body = b"" if name == b"mdat" and not parent else data[start:stop]
        gone_into = name in _HOLDS.get(parent, ())
        found.append(Box(name, body, _boxes(body, name, steps) if gone_into else ()))
        at = stop
    return found


def _refuse_hidden(film: Box) -> None:
    def count(boxes: Sequence[Box]) -> None:
        for box in boxes:
            found[box.name] = found.get(box.name, 0) + 1
            count(box.boxes)

    found: dict[bytes, int] = {}
    count(film.boxes)
    for name in _ONLY_THERE:
        there = sum(box.data.count(name) + (box.name == name) for box in film.boxes)
        if there != found.get(name, 0) or (name == b"cmov" and there):
            raise Uncertain("of an MP4 that hides a part")


def _clock(data: bytes) -> tuple[int, int]:
    """Return ticks per second and duration of a header; one that is not known counts as nothing."""
    long = unpack(">B", data)[0] == 1
    scale, ticks = unpack(">IQ" if long else ">II", data, 20 if long else 12)
    if not scale:
        raise Uncertain("of an MP4 that does not say what it is")
    return scale, 0 if ticks == (1 << (64 if long else 32)) - 1 else ticks


def _extent(data: bytes) -> int:
    return int(unpack(">Q" if unpack(">B", data)[0] == 1 else ">I", data, 4)[0])


def _table(stbl: Box, steps: Steps) -> tuple[int, int]:
    """Return how many pieces the sound's table has, and their time in ticks."""
    ticks = sum(count * each for count, each in _pairs(stbl.one(b"stts").data, steps))
    sizes = [*stbl.all(b"stsz"), *stbl.all(b"stz2")]
    if len(sizes) != 1:
        raise Uncertain("of an MP4 that does not say what it is")
    pieces = int(unpack(">I", sizes[0].data, 8)[0])
    return max(pieces, sum(count for count, _ in _pairs(stbl.one(b"stts").data, steps))), ticks


def _pairs(data: bytes, steps: Steps) -> Iterator[tuple[int, int]]:
    for at in range(int(unpack(">I", data, 4)[0])):
        steps.one()
        count, each = unpack(">II", data, 8 + 8 * at)
        yield count, each


def _fragments(film: Box, moov: Box, steps: Steps) -> tuple[int, int]:
    """Return how many pieces all fragments have, and when the last of them ends, in ticks."""
    defaults = [unpack(">I", box.data, 12)[0] for box in moov.all(b"mvex", b"trex")]
    pieces, latest, length = 0, 0, 0
    for traf in film.all(b"moof", b"traf"):
        begins = max((_extent(box.data) for box in traf.all(b"tfdt")), default=0)
        flags = int(unpack(">I", traf.one(b"tfhd").data)[0])
        at = 8 + 8 * bool(flags & 1) + 4 * bool(flags & 2)
        each = unpack(">I", traf.one(b"tfhd").data, at)[0] if flags & 8 else max(defaults, default=0)
        for trun in traf.all(b"trun"):
            count, ticks = _run(trun.data, each, steps)
            pieces, length = pieces + count, length + ticks
            begins += ticks
        latest = max(latest, begins)
    return pieces, max(latest, length)


def _run(data: bytes, each: int, steps: Steps) -> tuple[int, int]:
    flags, count = unpack(">II", data)
    at = 8 + 4 * bool(flags & 1) + 4 * bool(flags & 4)
    width = 4 * (flags >> 8 & 0xF).bit_count()
    if not flags & 0x100:
        return count, count * each
    ticks = 0
    for _ in range(count):
        steps.one()
        ticks += unpack(">I", data, at)[0]
        at += width
    return count, ticks


def _edited(trak: Box) -> int:
    """Return how long the track's edit list plays, in the film's ticks; more than one part is refused."""
    lists = [box.data for box in trak.all(b"edts", b"elst")]
    longest = 0
    for data in lists:
        long = unpack(">B", data)[0] == 1
        form = ">QqI" if long else ">IiI"
        (parts,) = unpack(">I", data, 4)
        played = [unpack(form, data, 8 + at * (20 if long else 12)) for at in range(min(parts, 3))]
        if (
            parts > 2
            or sum(begins != -1 for _, begins, _ in played) > 1
            or any(r != 1 << 16 for *_, r in played)
        ):
            raise Uncertain("of an MP4 that plays its parts in another order")
        longest = max(longest, sum(length for length, _, _ in played))
    return longest


def _core_rate(trak: Box) -> int:
    """Return the samples per second that its codec makes of a piece."""
    data = trak.one(b"mdia", b"minf", b"stbl", b"stsd").data
    at = data.find(b"esds")
    if unpack(">I", data, 4)[0] != 1 or data[12:16] != b"mp4a" or data.count(b"esds") != 1:
        raise Uncertain("of an MP4 without AAC")
    (tag, es) = _descriptor(data, at + 8)
    skip = 3 + 2 * bool(es[2] & 0x80) + 2 * bool(es[2] & 0x20) if len(es) > 2 else 0
    (config_tag, config) = _descriptor(es, skip)
    (specific_tag, specific) = _descriptor(config, 13)
    bits = int.from_bytes(specific[:5].ljust(5, b"\0"))
    kind, index = bits >> 35, bits >> 31 & 15
    rate = bits >> 7 & 0xFFFFFF if index == 15 else _RATES[index] if index < len(_RATES) else 0
    tags = (tag, config_tag, specific_tag)
    if tags != (_ES, _CONFIG, _SPECIFIC) or config[0] not in _AAC or kind not in _PLAIN or not rate:
        raise Uncertain("of an MP4 without AAC")
    return rate


def _descriptor(data: bytes, at: int) -> tuple[int, bytes]:
    (tag,) = unpack(">B", data, at)
    size = 0
    for _ in range(4):
        at += 1
        (byte,) = unpack(">B", data, at)
        size = size << 7 | byte & 0x7F
        if not byte & 0x80:
            break
    if at + 1 + size > len(data):
        raise cut_off()
    return tag, data[at + 1 : at + 1 + size]
