"""Reading an answer as it passes: however it is cut, the same bytes and the same reading."""

import itertools
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from otrta_core import Usage
from otrta_litellm.meter import KEPT_TEXT, Reading, StreamMeter, read_body

USAGE = {"prompt_tokens": 10, "completion_tokens": 20}
SEEN = Usage(prompt_tokens=10, completion_tokens=20)
DONE = b"data: [DONE]\n\n"


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields, ensure_ascii=False).encode() + b"\n\n"


def said(text: str, **fields: Any) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}}], **fields)


ONLY_USAGE = event(choices=[{"index": 0, "delta": {}}], usage=USAGE)


def run(
    stream: bytes, cuts: list[int] | None = None, *, show_usage: bool = False
) -> tuple[bytes, bytes, Reading]:
    meter = StreamMeter(show_usage=show_usage)
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts or []), len(stream)]
    passed = b"".join(meter.feed(stream[a:b]) for a, b in itertools.pairwise(edges)) + meter.finish()
    return passed, meter.tail, meter.reading()


STREAMS = [
    said("Hel") + said("lo") + ONLY_USAGE + DONE,
    said("café 日本") + DONE,
    said("data: [DONE]\n\ndata: x") + ONLY_USAGE + DONE,
    said("a").replace(b"\n\n", b"\r\n\r\n") + DONE.replace(b"\n", b"\r\n"),
    b": keep-alive\n\nevent: x\nid: 1\n" + said("a") + b"retry: 5\n\n" + DONE,
    said("a") + b'data: {"choices": [{"del',
    said("a") + event(error={"message": "cut", "code": "500"}),
    b"data: not json\n\n" + said("a"),
    b"\n\n\n" + said("a") + b"\r\r",
    b"",
]


@given(
    st.sampled_from(STREAMS),
    st.lists(st.integers(min_value=0, max_value=10_000), max_size=12),
    st.booleans(),
)
def test_however_a_stream_is_cut_it_reads_the_same(stream: bytes, cuts: list[int], show_usage: bool) -> None:
    assert run(stream, cuts, show_usage=show_usage) == run(stream, show_usage=show_usage)


@given(st.sampled_from(STREAMS), st.lists(st.integers(min_value=0, max_value=10_000), max_size=12))
def test_to_who_sees_usage_every_byte_goes_on(stream: bytes, cuts: list[int]) -> None:
    passed, tail, _ = run(stream, cuts, show_usage=True)
    assert passed + tail == stream


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_bytes_of_any_kind_go_through(parts: list[bytes]) -> None:
    meter = StreamMeter(show_usage=True)
    passed = b"".join(meter.feed(part) for part in parts) + meter.finish()
    assert passed + meter.tail == b"".join(parts)


def test_the_end_is_held_back_and_a_usage_of_its_own_is_hidden() -> None:
    passed, tail, reading = run(said("Hel") + said("lo") + ONLY_USAGE + DONE)
    assert passed == said("Hel") + said("lo")
    assert tail == DONE
    assert (reading.usage, reading.text, reading.error) == (SEEN, "Hello", None)


def test_openais_own_form_of_the_usage_chunk_is_hidden_too() -> None:
    passed, _, reading = run(said("a") + event(choices=[], usage=USAGE) + DONE)
    assert (passed, reading.usage) == (said("a"), SEEN)


def test_a_usage_beside_text_or_a_finish_goes_on() -> None:
    with_text = said("a", usage=USAGE)
    finish = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], usage=USAGE)
    passed, _, reading = run(with_text + finish)
    assert passed == with_text + finish
    assert reading.usage == SEEN


def test_a_usage_of_null_or_zero_later_takes_nothing_back() -> None:
    for later in (None, {"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": -1}, "x"):
        stream = said("a") + ONLY_USAGE + event(choices=[], usage=later) + DONE
        assert run(stream)[2].usage == SEEN


def test_of_several_usages_the_last_counts() -> None:
    stream = said("a", usage={"prompt_tokens": 10, "completion_tokens": 1}) + ONLY_USAGE
    assert run(stream)[2].usage == SEEN


def test_text_that_looks_like_a_stream_is_text() -> None:
    text = 'data: [DONE]\n\n: x-cashu cashuB\n\ndata: {"usage": null}\n\n'
    passed, tail, reading = run(said(text) + DONE)
    assert (passed, tail, reading.text) == (said(text), DONE, text)


def test_what_comes_behind_the_end_stays_behind_it() -> None:
    passed, tail, reading = run(said("a") + DONE + said("b"))
    assert (passed, tail) == (said("a"), DONE + said("b"))
    assert reading.text == "a"


def test_an_error_in_the_stream_is_seen() -> None:
    reading = run(event(error={"message": "x", "code": "500"}))[2]
    assert (reading.error, reading.delivered) == ({"message": "x", "code": "500"}, False)


def test_reasoning_and_tool_calls_are_text_that_was_delivered() -> None:
    calls = [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]
    stream = event(choices=[{"delta": {"reasoning_content": "hm"}}]) + event(
        choices=[{"delta": {"tool_calls": calls}}]
    )
    reading = run(stream)[2]
    assert (reading.text, reading.text_bytes, reading.delivered) == ("hmf{}", 5, True)


def test_of_a_very_long_text_the_beginning_is_kept_and_all_is_counted() -> None:
    part = "x" * 100_000
    reading = run(said(part) * 5)[2]
    assert reading.text_bytes == 500_000
    assert KEPT_TEXT <= len(reading.text) <= KEPT_TEXT + len(part)


def test_tokens_are_guessed_from_events_and_bytes() -> None:
    meter = StreamMeter(show_usage=False)
    meter.feed(said("a") * 7)
    assert meter.tokens == 7
    meter.feed(said("x" * 4000))
    assert meter.tokens > 1000


def test_a_line_without_end_does_not_stay_in_memory() -> None:
    meter = StreamMeter(show_usage=False)
    passed = b"".join(meter.feed(b"x" * 300_000) for _ in range(20))
    assert len(passed) >= 5 << 20


def test_a_whole_answer_is_read() -> None:
    choices = [{"message": {"content": "Hello", "refusal": None}}]
    assert read_body(json.dumps({"choices": choices, "usage": USAGE}).encode()) == Reading(SEEN, "Hello", 5)
    zeros = {"prompt_tokens": 0, "completion_tokens": 0}
    assert read_body(json.dumps({"choices": choices, "usage": zeros}).encode()).usage is None
    for nothing in (b"", b"<html>", b"[]", b"[1]", b"null", b'{"choices": 5, "usage": 5}', b"\xff"):
        assert read_body(nothing) == Reading(None, "", 0)


def test_a_readings_repr_shows_no_text() -> None:
    assert "secret" not in repr(Reading(None, "secret", 6))
