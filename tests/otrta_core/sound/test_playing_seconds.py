"""How long a sound plays is never less than what any reader hears of it, and honest files pass."""

import struct
from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otrta_core import RequestNotPriceable
from otrta_core.sound import opus, playing_seconds
from otrta_core.sound.reading import MAX_STEPS, Uncertain
from tests.otrta_core.sound import files

WHOLE = {
    "wav": (files.wav(3), 3),
    "wav: mu-law": (files.wav(3, code=7), 3),
    "mp3": (files.mp3(100), Fraction(72, 10)),
    "mp3: 128 kbit/s": (files.mp3(100, head=b"\xff\xfb\x90\x00", size=417), Fraction(115_200, 44_100)),
    "mp3: tags": (
        b"ID3\x04\0\0\0\0\x01\x00" + bytes(128) + files.mp3(100) + b"TAG" + bytes(125),
        Fraction(72, 10),
    ),
    "flac": (files.flac(10, size=600), Fraction(40_960, 8000)),
    "ogg: opus": (files.ogg_opus(101), Fraction(101 * 20 + 120, 1000)),
    "ogg: vorbis": (files.ogg_vorbis(50), Fraction(50 * 512, 8000)),
    "webm": (files.webm(100), 2),
    "webm: sizes known": (files.webm(100, is_open=False), 2),
    "m4a": (files.mp4(50), Fraction(50 * 1024, 8000)),
    "m4a: an edit": (files.mp4(50, edits=[(6000, 1024)]), Fraction(50 * 1024, 8000)),
    "mp4: fragments": (files.mp4(0, fragments=50), Fraction(50 * 1024, 8000)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_an_honest_file_plays_as_long_as_its_encoder_meant(name: str) -> None:
    content, seconds = WHOLE[name]
    assert playing_seconds(content) == seconds


@pytest.mark.parametrize("name", WHOLE)
def test_an_honest_file_is_no_longer_than_its_bytes_allow(name: str) -> None:
    content, _ = WHOLE[name]
    assert playing_seconds(content) <= -(-len(content) // 750)


THIN = {
    "opus with DTX": (files.ogg_opus(50_000, files.OPUS_20_MS), 1000),
    "opus: packets of 120 ms": (files.ogg_opus(1000, b"\x1b\x02"), 120),
    "opus: empty packets": (files.ogg_opus(1000, b""), 120),
    "vorbis of nothing": (files.ogg_vorbis(200, rate=100), 1024),
    "silent flac": (files.flac(1000), 512),
    "flac: a frame inside of another": (files.flac(1) + b"\0\0" + files.flac_frame(5) * 1000, 512),
    "webm with DTX": (files.webm(10_000, b"\x18"), 600),
    "webm: a late block": (files.webm(2, info=files.element(0x4489, struct.pack(">d", 5e6))), 5000),
    "m4a of nothing": (files.mp4(10_000, size=2), 1280),
    "m4a: pieces that share their bytes": (
        files.mp4(50).replace(struct.pack(">II", 100, 50), struct.pack(">II", 1, 1 << 30)),
        10**6,
    ),
}
STATED = {
    "mp3: Xing": (files.mp3(100, first=bytes(8) + b"Xing" + struct.pack(">II", 1, 1 << 20)), 10_000),
    "mp3: VBRI": (files.mp3(100, first=bytes(8) + b"VBRI" + bytes(10) + struct.pack(">I", 1 << 20)), 10_000),
    "flac": (files.flac(2, stated=1 << 30), 10_000),
    "ogg": (files.ogg_opus(100, granule=48_000 * 10_000), 10_000),
    "m4a: header": (files.mp4(50, stated=8000 * 10_000), 10_000),
    "m4a: table": (files.mp4(50, stated=1, delta=8000 * 10_000), 10_000),
    "m4a: an edit": (files.mp4(50, edits=[(10_000_000, 0)]), 10_000),
}  # fmt: skip


@pytest.mark.parametrize("name", [*THIN, *STATED])
def test_a_file_is_as_long_as_what_it_holds_or_says(name: str) -> None:
    content, seconds = (THIN | STATED)[name]
    assert playing_seconds(content) >= seconds > len(content) / 750


def with_marks(content: bytes, at: int, stride: int) -> bytes:
    """A file that is a transport stream, too."""
    marked = bytearray(content)
    marked[at::stride] = b"\x47" * len(marked[at::stride])
    return bytes(marked)


REFUSED = {
    "nothing": b"",
    "no sound": b"hello",
    "AMR": b"#!AMR\n" + b"\x7c" * 100,
    "AAC as it is": b"\xff\xf1\x6c\x40\x01\x3f\xfc" * 100,
    "RIFF": b"RIFF\0\0\0\0AVI LIST",
    "wav: compressed": files.wav(code=0x55),
    "wav: states more": files.wav(stated=10**6),
    "wav: states no end": files.wav(stated=0xFFFFFFFF),
    "wav: figures": files.wav().replace(struct.pack("<II", 8000, 8000), struct.pack("<II", 8000, 1)),
    "wav: two formats": files.wav().replace(b"data", b"fmt \x10\0\0\0" + files.wav()[20:36] + b"data"),
    "wav: no data": files.wav()[:36],
    "mp3: too short": files.mp3(7),
    "mp3: free format": files.mp3(50) + b"\xff\xe3\x08\xc4" + bytes(68),
    "mp3: something else in it": files.mp3(50) + b"OggS" + files.mp3(50),
    "mp3: a flac behind its tag": b"ID3\x04\0\0\0\0\0\0" + files.flac(50),
    "mp3: tag without end": b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + files.mp3(50),
    "mp3: a transport stream": with_marks(files.mp3(100), 7, 188),
    "mp3: a program stream": files.mp3(50, first=b"\0\0\1\xba" * 2),
    "flac: no header": b"fLaC\x04\0\0\x22" + files.flac()[8:],
    "ogg: two streams": files.ogg_opus() + files.ogg_page([b"\x01video"], 0, serial=8),
    "ogg: a page in a packet": files.ogg_opus(50, files.OPUS_20_MS + files.ogg_page([b"\x08"] * 20, 0)),
    "ogg: another codec": files.ogg_page([b"Speex   "], 0) + files.ogg_page([b"a"], 1),
    "ogg: cut off": files.ogg_opus()[:-1],
    "webm: vorbis": files.webm(codec=b"A_VORBIS"),
    "webm: packed": files.webm(more=files.element(0x6D80, b"zip")),
    "webm: laced": files.webm(flags=0x82),
    "webm: a cluster in a block": files.webm(50, files.OPUS_20_MS + files.element(0x1F43B675, b"a")),
    "webm: cut off": files.webm(is_open=False)[:-1],
    "webm: no track": files.element(0x1A45DFA3, b"") + files.element(0x18538067, b""),
    "mp4: another codec": files.mp4(kind=1),
    "mp4: no track": files.box(b"ftyp", b"M4A ") + files.box(b"moov", files.box(b"mvhd", bytes(96))),
    "mp4: played twice": files.mp4(edits=[(1000, 0), (1000, 0)]),
    "mp4: a second film": files.mp4(after=files.mp4()[16:]),
    "mp4: a hidden table": files.mp4(after=files.box(b"free", files.box(b"stsz", bytes(12)))),
    "mp4: cut off": files.mp4()[:-1],
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_where_it_is_not_certain_the_sound_is_refused(name: str) -> None:
    with pytest.raises(RequestNotPriceable, match="how long the sound plays cannot be told") as caught:
        playing_seconds(REFUSED[name])
    assert (caught.value.param, caught.value.code) == ("file", "request_not_priceable")


def test_a_file_of_very_many_parts_is_refused_before_it_takes_long() -> None:
    with pytest.raises(Uncertain, match="so many small parts"):
        playing_seconds(files.mp3(MAX_STEPS + 1, head=b"\xff\xf3\x14\xc4", size=24))


@settings(max_examples=50)
@given(
    st.sampled_from([content for content, _ in WHOLE.values()]),
    st.lists(st.tuples(st.integers(0, 10**4), st.binary(max_size=8)), max_size=5),
    st.integers(0, 10**4),
)
def test_no_bytes_make_it_fail_otherwise(content: bytes, changes: list[tuple[int, bytes]], cut: int) -> None:
    damaged = bytearray(content)
    for at, data in changes:
        damaged[at : at + len(data)] = data
    with suppress(Uncertain):
        assert playing_seconds(bytes(damaged[: len(damaged) - cut % 100])) >= 0


@pytest.mark.parametrize(
    ("packet", "samples"),
    [
        (b"\x00", 480), (b"\x18", 2880), (b"\x60", 480), (b"\x68", 960), (b"\x80", 120), (b"\xf8", 960),
        (b"\x01", 960), (b"\x02", 960), (b"\x03\x05", 2400), (b"\x03\xc2", 960), (b"\x03", 5760), (b"", 5760),
    ],
)  # fmt: skip
def test_an_opus_packet_says_how_long_it_is(packet: bytes, samples: int) -> None:
    assert opus.samples(packet) == samples
