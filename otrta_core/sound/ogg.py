"""Ogg with one stream of Opus or Vorbis (RFC 3533, RFC 7845)."""

from collections.abc import Callable
from fractions import Fraction

from otrta_core.sound import opus
from otrta_core.sound.reading import Steps, Uncertain, cut_off, unpack

_NO_PACKET_ENDS = -1


def seconds(content: bytes) -> Fraction:
    """Return how long all packets together play, or until when the pages say, if that is longer."""
    steps, at, pages, latest = Steps(), 0, 0, 0
    stream: int | None = None
    codec: _Codec | None = None
    packet = b""
    size = 0
    while at < len(content):
        pages += 1
        head, _, _, until, serial, _, _, count = unpack("<4sBBqIIIB", content, at)
        if head != b"OggS" or stream not in (None, serial):
            raise Uncertain("of an Ogg file with more than one stream in it")
        stream, at = serial, at + 27
        lengths = content[at : at + count]
        at += count
        if len(lengths) < count or at + sum(lengths) > len(content):
            raise cut_off()
        latest = max(latest, until) if until != _NO_PACKET_ENDS else latest
        for length in lengths:
            steps.one()
            if len(packet) < _ENOUGH:
                packet += content[at : at + min(length, _ENOUGH)]
            size, at = size + length, at + length
            if length < 255:
                codec = _Codec.of(packet) if codec is None else codec.heard(packet)
                packet, size = b"", 0
    if codec is None or size or content.count(b"OggS") != pages:
        raise Uncertain("of an Ogg file that is damaged")
    return Fraction(max(codec.samples, latest), codec.rate)


_ENOUGH = 30
"""How much of a packet is looked at."""


class _Codec:
    """What a stream's first packet says, and the samples of all others."""

    def __init__(self, rate: int, of_packet: Callable[[bytes], int]) -> None:
        self.rate = rate
        self.samples = 0
        self._of_packet = of_packet

    @staticmethod
    def of(packet: bytes) -> "_Codec":
        if packet.startswith(b"OpusHead"):
            return _Codec(opus.PER_SECOND, _of_opus)
        if packet.startswith(b"\x01vorbis"):
            _, _, rate, _, _, _, blocks = unpack("<IBIIIIB", packet, 7)
            if rate:
                most = (1 << (blocks >> 4)) // 2
                return _Codec(int(rate), lambda _packet: most)
        raise Uncertain("of an Ogg file without Opus or Vorbis")

    def heard(self, packet: bytes) -> "_Codec":
        self.samples += self._of_packet(packet)
        return self


def _of_opus(packet: bytes) -> int:
    # what would be too long for a packet is none
    return min(opus.LONGEST, opus.samples(packet))
