"""The change is taken out of a stream, and not one other byte."""

import re
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_trio.change_filter import MAX_COMMENT_BYTES, ChangeFilter, Comment


def run(*pieces):
    events = ChangeFilter()
    passed, comments = b"", []
    for piece in pieces:
        more, found = events.feed(piece)
        passed += more
        comments += found
    more, found = events.finish()
    return passed + more, comments + found


def test_both_lines_and_the_blank_line_that_ends_them_are_taken_out():
    stream = (
        b'data: {"a": 1}\n\n'
        b": otrta paid=10000 cost=110 fee=0 change=9890\n: x-cashu cashuBabc\n\n"
        b"data: [DONE]\n\n"
    )
    assert run(stream) == (
        b'data: {"a": 1}\n\ndata: [DONE]\n\n',
        [Comment("otrta", "paid=10000 cost=110 fee=0 change=9890"), Comment("x-cashu", "cashuBabc")],
    )


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_of_the_standard_is_known(end):
    stream = end.join([b"data: a", b"", b": otrta x", b"", b": x-cashu y", b"", b"data: b", b"", b""])
    assert run(stream) == (
        end.join([b"data: a", b"", b"data: b", b"", b""]),
        [Comment("otrta", "x"), Comment("x-cashu", "y")],
    )


@pytest.mark.parametrize(
    "stream",
    [
        b": ping\n\ndata: a\n\n",
        b"data: : x-cashu cashuBno\n\n",
        b'data: {"text": "\\n: x-cashu cashuBno"}\n\n',
        b"event: x\r\ndata: a\r\n\r\n",
        b": x-cashuB\n\n",
        b":x-cashu y\n\n",
        b" : otrta y\n\n",
        b": X-Cashu y\n\n",
        b": x-cas\n\n",
        b"\n\n\n",
        b": x-cas",
        b":",
        b"",
    ],
)
def test_everything_else_passes(stream):
    assert run(stream) == (stream, [])


def test_a_comment_inside_an_event_leaves_the_event_whole():
    assert run(b"data: a\n: x-cashu y\ndata: b\n\ndata: c\n\n") == (
        b"data: a\ndata: b\n\ndata: c\n\n",
        [Comment("x-cashu", "y")],
    )
    assert run(b": otrta y\ndata: a\n\n") == (b"data: a\n\n", [Comment("otrta", "y")])


def test_bytes_go_on_as_they_come():
    events = ChangeFilter()
    assert events.feed(b"da") == (b"da", [])
    assert events.feed("ta: é".encode()[:-1]) == (b"ta: \xc3", [])
    assert events.feed(b"\xa9\n") == (b"\xa9\n", [])
    assert events.feed(b": ") == (b"", [])
    assert events.feed(b"ping") == (b": ping", [])


def test_a_comment_is_given_out_with_its_line_end_before_the_rest_of_the_stream_is_there():
    events = ChangeFilter()
    assert events.feed(b": x-cashu cashuB") == (b"", [])
    assert events.feed(b"x\r") == (b"", [Comment("x-cashu", "cashuBx")])
    assert events.feed(b"\n\r\ndata") == (b"data", [])


def test_a_mark_without_a_value_does_not_pass_either():
    assert run(b": x-cashu\n\n: otrta\r\n\r\n") == (b"", [Comment("x-cashu", ""), Comment("otrta", "")])


@pytest.mark.parametrize(("tail", "value"), [(b"", ""), (b" cashuBha", "cashuBha")])
def test_a_comment_that_the_end_cuts_is_marked_as_such(tail, value):
    assert run(b"data: a\n\n: x-cashu" + tail) == (
        b"data: a\n\n",
        [Comment("x-cashu", value, complete=False)],
    )


def test_a_comment_of_any_length_takes_bounded_memory():
    events = ChangeFilter()
    events.feed(b": x-cashu ")
    tracemalloc.start()
    for _ in range(100):
        assert events.feed(b"a" * MAX_COMMENT_BYTES) == (b"", [])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * MAX_COMMENT_BYTES


def test_a_comment_over_the_bound_is_cut_and_marked_and_the_next_one_is_whole():
    stream = b": x-cashu " + b"a" * (MAX_COMMENT_BYTES + 1) + b"\n\ndata: b\n\n: otrta z\n\n"
    passed, [long, short] = run(stream)
    assert passed == b"data: b\n\n"
    assert (len(long.value), long.complete) == (MAX_COMMENT_BYTES, False)
    assert short == Comment("otrta", "z")


def test_change_does_not_show_in_a_repr():
    assert "cashuB" not in repr(Comment("x-cashu", "cashuBsecret"))


marks = [b": x-cashu ", b": otrta ", b": x-cashu", b": otrt", b": x", b":"]
others = [b"data: a", "é😀".encode(), b"cashuBx", b" ", b"a"]
ends = [b"\r", b"\n", b"\r\n", b"\n\n"]
fragments = st.lists(st.sampled_from([*marks, *others, *ends]), max_size=30).map(b"".join)


def by_lines(stream):
    """The same rule over the whole stream at once."""
    rows = re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z", stream)
    passed, comments, kept, cut = b"", [], False, False
    for row in rows:
        line = row.rstrip(b"\r\n")
        mark = re.fullmatch(rb": (x-cashu|otrta)(?: (.*))?", line, re.DOTALL)
        if mark:
            value = (mark[2] or b"").decode("ascii", "replace")
            comments.append(Comment(mark[1].decode(), value, complete=row != line))
            cut = True
        elif line:
            passed += row
            kept = True
        else:
            passed += row if kept or not cut else b""
            kept = cut = False
    return passed, comments


@given(fragments)
def test_the_rule_is_the_same_as_over_whole_lines(stream):
    assert run(stream) == by_lines(stream)


@given(fragments, st.data())
def test_how_the_stream_is_cut_into_pieces_makes_no_difference(stream, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    edges = [0, *cuts, len(stream)]
    assert run(*(stream[start:end] for start, end in pairwise(edges))) == run(stream)


@given(fragments)
def test_byte_by_byte_gives_the_same(stream):
    assert run(*(bytes([byte]) for byte in stream)) == run(stream)
