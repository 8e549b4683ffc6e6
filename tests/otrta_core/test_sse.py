from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otrta_core.sse import MAX_LINE, EventReader, data_of, is_done

streams = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"data: x", b": c", "ä😀".encode(), b"\xff", b""]),
    max_size=30,
).map(b"".join)


def read(chunks: list[bytes]) -> tuple[list[bytes], bytes]:
    reader = EventReader()
    lines = [line for chunk in chunks for line in reader.feed(chunk)]
    return lines, reader.finish()


@given(streams, st.data())
@example(b"a\r\nb\r\n", None)
def test_however_a_stream_is_cut_its_lines_are_the_same(stream: bytes, data: st.DataObject | None) -> None:
    whole = read([stream])
    cuts = [] if data is None else data.draw(st.lists(st.integers(0, len(stream)), max_size=6).map(sorted))
    edges = [0, *cuts, len(stream)]
    assert read([stream[a:b] for a, b in pairwise(edges)]) == whole
    assert read([bytes([byte]) for byte in stream]) == whole


@given(streams)
def test_no_byte_is_lost_added_or_moved(stream: bytes) -> None:
    lines, rest = read([stream])
    assert b"".join(lines) + rest == stream


@given(streams)
def test_every_line_ends_once_at_its_end(stream: bytes) -> None:
    lines, rest = read([stream])
    for line in lines:
        body = line.removesuffix(b"\r\n") if line.endswith(b"\r\n") else line[:-1]
        assert line[-1:] in (b"\r", b"\n")
        assert b"\r" not in body
        assert b"\n" not in body
    assert b"\n" not in rest
    assert b"\r" not in rest[:-1]


def test_a_carriage_return_waits_for_its_line_feed() -> None:
    reader = EventReader()
    assert reader.feed(b"a\r") == []
    assert reader.feed(b"\nb\r") == [b"a\r\n"]
    assert reader.feed(b"c") == [b"b\r"]
    assert reader.finish() == b"c"


def test_a_finished_reader_starts_afresh() -> None:
    reader = EventReader()
    reader.feed(b"unfinished")
    assert reader.finish() == b"unfinished"
    assert reader.finish() == b""
    assert reader.feed(b"a\n") == [b"a\n"]


def test_an_endless_line_is_handed_on_in_pieces() -> None:
    reader = EventReader()
    assert reader.feed(b"a" * MAX_LINE) == []
    assert reader.feed(b"b") == [b"a" * MAX_LINE + b"b"]
    assert reader.feed(b"c\n") == [b"c\n"]


@pytest.mark.parametrize(
    ("line", "data"),
    [
        (b"data: {}\n", b"{}"),
        (b"data:{}\r\n", b"{}"),
        (b"data:  two\r", b" two"),
        (b"data:\n", b""),
        (b"data: a data: b\n", b"a data: b"),
        (b": data: x\n", None),
        (b" data: x\n", None),
        (b"event: data:\n", None),
        (b"datax: y\n", None),
        (b"\n", None),
    ],
)
def test_only_a_data_line_has_data(line: bytes, data: bytes | None) -> None:
    assert data_of(line) == data


@pytest.mark.parametrize(
    ("line", "done"),
    [
        (b"data: [DONE]\n", True),
        (b"data:[DONE]\r\n", True),
        (b"data: [DONE]", True),
        (b'data: "[DONE]"\n', False),
        (b": [DONE]\n", False),
        (b"[DONE]\n", False),
    ],
)
def test_the_end_of_a_stream_is_its_done_line(line: bytes, done: bool) -> None:
    assert is_done(line) is done
