"""Sound files as encoders write them, with nothing in them."""

import struct
from collections.abc import Sequence

OPUS_20_MS = b"\x08"
"""A packet of 20 ms of silence (SILK, narrow band), as DTX sends it."""


def wav(seconds: float = 1, *, rate: int = 8000, code: int = 1, stated: int | None = None) -> bytes:
    """A WAV of eight bits with one channel."""
    data = bytes(int(rate * seconds))
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, code, 1, rate, rate, 1, 8)
    head += b"data" + struct.pack("<I", len(data) if stated is None else stated)
    return b"RIFF" + struct.pack("<I", len(head) + len(data)) + head + data


def mp3(frames: int = 50, *, head: bytes = b"\xff\xe3\x18\xc4", size: int = 72, first: bytes = b"") -> bytes:
    """MPEG-2.5 layer III of 8 kbit/s at 8 kHz: 72 ms in 72 bytes; ``head`` and ``size`` make it another."""
    frame = head + bytes(size - len(head))
    return (head + first).ljust(size, b"\0") + frame * (frames - 1)


def flac(frames: int = 10, *, rate: int = 8000, stated: int = 0, size: int = 5) -> bytes:
    """A FLAC of frames of 4,096 samples, in ``size`` bytes beside their heads; silence takes about five."""
    info = (
        struct.pack(">HH", 4096, 4096)
        + bytes(6)
        + struct.pack(">Q", rate << 44 | 7 << 36 | stated)
        + bytes(16)
    )
    return b"fLaC" + b"\x80\0\0\x22" + info + b"".join(flac_frame(number, size) for number in range(frames))


def flac_frame(number: int, size: int = 5) -> bytes:
    coded = chr(number).encode()
    head = b"\xff\xf8" + bytes([12 << 4, 0]) + coded
    return head + bytes([_crc8(head)]) + bytes(size)


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (0x07 if crc & 0x80 else 0)) & 0xFF
    return crc


def ogg_page(packets: Sequence[bytes], granule: int, *, serial: int = 7, sequence: int = 0) -> bytes:
    lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, 0, granule, serial, sequence, 0, len(lacing))
    return head + lacing + b"".join(packets)


def ogg_opus(
    packets: int = 50, packet: bytes = OPUS_20_MS + bytes(40), *, granule: int | None = None
) -> bytes:
    """Ogg with packets of Opus, fifty to a page."""
    head = ogg_page([b"OpusHead" + bytes(11)], 0) + ogg_page([b"OpusTags" + bytes(8)], 0)
    last = packets * 960 if granule is None else granule
    pages = [
        ogg_page([packet] * min(50, packets - at), last if at + 50 >= packets else -1)
        for at in range(0, packets, 50)
    ]
    return head + b"".join(pages)


def ogg_vorbis(packets: int, rate: int = 8000) -> bytes:
    """Ogg with packets of Vorbis, of up to 512 samples."""
    first = b"\x01vorbis" + struct.pack("<IBIIIIB", 0, 1, rate, 0, 0, 0, 0xA8) + b"\x01"
    return ogg_page([first], 0) + ogg_page([b"\x04" + bytes(60)] * packets, packets * 512)


def element(name: int, data: bytes, *, is_open: bool = False) -> bytes:
    size = b"\x01\xff\xff\xff\xff\xff\xff\xff" if is_open else (1 << 56 | len(data)).to_bytes(8)
    return name.to_bytes((name.bit_length() + 7) // 8) + size + data


def webm(
    blocks: int = 50,
    packet: bytes = OPUS_20_MS + bytes(40),
    *,
    codec: bytes = b"A_OPUS",
    is_open: bool = True,
    info: bytes = b"",
    more: bytes = b"",
    flags: int = 0x80,
) -> bytes:
    """WebM as browsers record it: sizes of segment and clusters left open, and no duration."""
    track = element(0xAE, element(0xD7, b"\1") + element(0x86, codec) + more)
    head = element(0x1A45DFA3, element(0x4282, b"webm"))
    clusters = b"".join(
        element(
            0x1F43B675,
            element(0xE7, (at * 20).to_bytes(4))
            + b"".join(
                element(0xA3, b"\x81" + struct.pack(">hB", 20 * i, flags) + packet)
                for i in range(min(25, blocks - at))
            ),
            is_open=is_open,
        )
        for at in range(0, blocks, 25)
    )
    body = element(0x1549A966, element(0x2AD7B1, (10**6).to_bytes(3)) + info) + element(0x1654AE6B, track)
    return head + element(0x18538067, body + clusters, is_open=is_open)


def box(name: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I4s", len(data) + 8, name) + data


def _descriptor(tag: int, data: bytes) -> bytes:
    return bytes([tag, 0x80, 0x80, 0x80, len(data)]) + data


def mp4(
    pieces: int = 50,
    *,
    size: int = 100,
    rate_index: int = 11,
    kind: int = 2,
    delta: int = 1024,
    stated: int | None = None,
    edits: Sequence[tuple[int, int]] = (),
    fragments: int = 0,
    table: bytes | None = None,
    after: bytes = b"",
) -> bytes:
    """An m4a of AAC at 8 kHz: 128 ms in each piece; with ``fragments`` as many more pieces follow."""
    ticks = pieces * delta if stated is None else stated
    specific = (kind << 11 | rate_index << 7 | 1 << 3).to_bytes(2)
    config = _descriptor(4, b"\x40\x15" + bytes(11) + _descriptor(5, specific))
    esds = box(b"esds", bytes(4), _descriptor(3, b"\0\0\0" + config + _descriptor(6, b"\2")))
    entry = box(
        b"mp4a", bytes(6), b"\0\1", bytes(8), b"\0\1\0\x10", bytes(4), struct.pack(">I", 8000 << 16), esds
    )
    stbl = box(
        b"stbl",
        box(b"stsd", bytes(4), struct.pack(">I", 1), entry),
        table or box(b"stts", bytes(4), struct.pack(">III", 1, pieces, delta)),
        box(b"stsz", bytes(4), struct.pack(">II", size, pieces)),
    )
    elst = [struct.pack(">IiI", length, begins, 1 << 16) for length, begins in edits]
    edts = box(b"edts", box(b"elst", bytes(4), struct.pack(">I", len(elst)), *elst)) if edits else b""
    mdia = box(
        b"mdia",
        box(b"mdhd", bytes(12), struct.pack(">II", 8000, ticks), bytes(4)),
        box(b"hdlr", bytes(8), b"soun", bytes(12)),
        box(b"minf", stbl),
    )
    mvex = box(b"mvex", box(b"trex", bytes(4), struct.pack(">IIIII", 1, 1, 1024, 0, 0))) if fragments else b""
    moov = box(
        b"moov",
        box(b"mvhd", bytes(12), struct.pack(">II", 1000, ticks // 8), bytes(80)),
        box(b"trak", box(b"tkhd", bytes(84)), edts, mdia),
        mvex,
    )
    moof = box(
        b"moof",
        box(
            b"traf",
            box(b"tfhd", struct.pack(">II", 0x020000, 1)),
            box(b"trun", struct.pack(">II", 0, fragments)),
        ),
    )
    body = box(b"mdat", bytes((pieces + fragments) * size))
    return box(b"ftyp", b"M4A \0\0\0\0") + moov + (moof if fragments else b"") + body + after
