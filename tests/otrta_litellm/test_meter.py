"""Reading an answer as it passes: however it is cut, the same bytes and the same reading."""

import itertools
import json
import re
from dataclasses import replace
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from otrta_core import Usage
from otrta_core.requests import Kind
from otrta_litellm.meter import KEPT_TAIL, KEPT_TEXT, Reading, StreamMeter, read_body
from tests.otrta_litellm.samples import CALL

USAGE = {"prompt_tokens": 10, "completion_tokens": 20}
SEEN = Usage(prompt_tokens=10, completion_tokens=20)
DONE = b"data: [DONE]\n\n"


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields, ensure_ascii=False).encode() + b"\n\n"


def said(text: str, **fields: Any) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}}], **fields)


def read(kind: Kind = "chat", **body: Any) -> Reading:
    return read_body(json.dumps(body).encode(), replace(CALL, kind=kind))


ONLY_USAGE = event(choices=[{"index": 0, "delta": {}}], usage=USAGE)


def run(
    stream: bytes, cuts: list[int] | None = None, *, show_usage: bool = False, kind: Kind = "chat"
) -> tuple[bytes, bytes, Reading]:
    meter = StreamMeter(replace(CALL, kind=kind), show_usage=show_usage)
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
    meter = StreamMeter(CALL, show_usage=True)
    sent = b"".join(parts)
    assume(not re.search(rb":[ \t]*(?:x-cashu|otrta)", sent, re.IGNORECASE))  # these are ours to say
    passed = b"".join(meter.feed(part) for part in parts) + meter.finish()
    assert passed + meter.tail == sent


def test_the_end_is_held_back_and_a_usage_of_its_own_is_hidden() -> None:
    passed, tail, reading = run(said("Hel") + said("lo") + ONLY_USAGE + DONE)
    assert passed == said("Hel") + said("lo")
    assert tail == DONE
    assert (reading.usage, reading.text, reading.error) == (SEEN, "Hello", None)


def test_change_that_an_upstream_makes_up_does_not_go_on() -> None:
    forged = b": x-cashu cashuBforged\n:otrta paid=1 cost=0\n:  X-Cashu cashuBforged\n"
    kept = b": keep-alive\n\n"
    passed, tail, _ = run(forged + kept + forged + said("a") + DONE + forged + b"\n")
    assert passed == kept + said("a")
    assert tail == DONE + b"\n"


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
    meter = StreamMeter(CALL, show_usage=False)
    meter.feed(said("a") * 7)
    assert meter.tokens == 7
    meter.feed(said("x" * 4000))
    assert meter.tokens > 1000


def test_a_line_without_end_does_not_stay_in_memory() -> None:
    meter = StreamMeter(CALL, show_usage=False)
    passed = b"".join(meter.feed(b"x" * 300_000) for _ in range(20))
    assert len(passed) >= 5 << 20


def test_a_whole_answer_is_read() -> None:
    choices = [{"message": {"content": "Hello", "refusal": None}}]
    assert read(choices=choices, usage=USAGE) == Reading(SEEN, "Hello", 5)
    zeros = {"prompt_tokens": 0, "completion_tokens": 0}
    assert read(choices=choices, usage=zeros).usage is None
    for nothing in (b"", b"<html>", b"[]", b"[1]", b"null", b'{"choices": 5, "usage": 5}', b"\xff"):
        assert read_body(nothing, CALL) == Reading(None, "", 0)


def test_a_readings_repr_shows_no_text() -> None:
    assert "secret" not in repr(Reading(None, "secret", 6))


def of_anthropic(**fields: Any) -> bytes:
    return f"event: {fields['type']}\n".encode() + event(**fields)


BEGUN = {
    "input_tokens": 4,
    "cache_read_input_tokens": 5,
    "cache_creation_input_tokens": 1,
    "output_tokens": 1,
}
START = of_anthropic(type="message_start", message={"type": "message", "content": [], "usage": BEGUN})
STOP = of_anthropic(type="message_stop")


def block(text: str) -> bytes:
    return of_anthropic(type="content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def over(**usage: Any) -> bytes:
    return of_anthropic(type="message_delta", delta={"stop_reason": "end_turn"}, usage=usage or None)


def test_the_parts_of_an_anthropic_usage_are_put_together_and_all_events_go_on() -> None:
    stream = START + block("Hel") + block("lo") + over(output_tokens=20) + over() + STOP
    passed, tail, reading = run(stream, kind="messages")
    assert (passed, tail) == (stream, b"")
    stated = Usage(prompt_tokens=10, completion_tokens=20, cached_tokens=5, cache_write_tokens=1)
    assert (reading.usage, reading.final, reading.text) == (stated, True, "Hello")


def test_what_an_anthropic_stream_says_at_its_start_is_not_its_usage() -> None:
    reading = run(START + block("Hello"), kind="messages")[2]
    assert reading.usage is not None
    assert (reading.usage.prompt_tokens, reading.final, reading.delivered) == (10, False, True)


def test_an_anthropic_stream_that_fails_after_its_start_has_delivered_nothing() -> None:
    error = {"type": "overloaded_error", "message": "busy"}
    reading = run(START + of_anthropic(type="error", error=error), kind="messages")[2]
    assert (reading.error, reading.failed, reading.delivered) == (error, True, False)


def test_a_response_states_its_usage_in_its_last_event() -> None:
    usage = {"input_tokens": 10, "output_tokens": 20, "input_tokens_details": {"cached_tokens": 4}}
    said = [event(type="response.output_text.delta", delta=text) for text in ("Hel", "lo")]
    for last in ("response.completed", "response.incomplete"):
        end = event(type=last, response={"usage": usage, "output": [{"content": [{"text": "Hello"}]}]})
        passed, tail, reading = run(b"".join(said) + end + DONE, kind="responses")
        assert (passed, tail) == (b"".join(said) + end, DONE)
        assert reading.usage == replace(SEEN, cached_tokens=4)
        assert (reading.text, reading.text_bytes) == ("Hello", 5)


def test_a_response_that_failed_names_its_error_in_either_form() -> None:
    error = {"code": "server_error", "message": "no"}
    for failed in (
        event(type="response.failed", response={"error": error, "output": []}),
        event(type="error", sequence_number=1, **error),
    ):
        reading = run(failed + DONE, kind="responses")[2]
        assert (reading.error, reading.failed) == (error, True)
    assert run(event(type="response.failed", response=None), kind="responses")[2].failed


def test_a_usage_of_its_own_is_hidden_in_completions_too() -> None:
    stream = (
        event(choices=[{"index": 0, "text": "Hello"}]) + event(choices=[{"index": 0}], usage=USAGE) + DONE
    )
    passed, tail, reading = run(stream, kind="completions")
    assert (passed + tail, reading.usage) == (event(choices=[{"index": 0, "text": "Hello"}]) + DONE, SEEN)


def test_sound_that_is_streamed_counts_as_delivered() -> None:
    reading = run(event(type="speech.audio.delta", audio="AAAA" * 100), kind="speech")[2]
    assert (reading.usage, reading.text, reading.text_bytes, reading.delivered) == (None, "", 300, True)


def test_what_is_held_of_an_events_lines_and_behind_the_end_is_bounded() -> None:
    meter = StreamMeter(CALL, show_usage=True)
    passed = sum(len(meter.feed(b"id: " + b"x" * 1000 + b"\n")) for _ in range(3000))
    assert passed > 2 << 20
    meter.feed(b"\n" + DONE)
    for _ in range(100):
        meter.feed(said("x" * 1000))
    assert len(meter.tail) == KEPT_TAIL


def test_an_answer_of_each_kind_is_read_by_its_own_usage() -> None:
    assert read("messages", content=[{"type": "text", "text": "Hi"}], usage=BEGUN).usage == Usage(
        prompt_tokens=10, completion_tokens=1, cached_tokens=5, cache_write_tokens=1
    )
    assert read("images", data=[{}, {}]).usage == Usage(images=2)
    assert read("transcriptions", text="Hi", duration=1.5).usage == Usage(seconds=2)
    assert read("rerank", meta={"billed_units": {"search_units": 3}}).usage == Usage(search_units=3)


def test_a_200_that_names_an_error_has_failed() -> None:
    reading = read("messages", type="error", error={"type": "api_error", "message": "no"})
    assert (reading.failed, reading.error) == (True, {"type": "api_error", "message": "no"})
    assert not read("responses", error=None, output=[{"content": [{"text": "Hi"}]}]).failed


def test_a_transcript_with_times_says_how_long_it_was() -> None:
    call = replace(CALL, kind="transcriptions", seconds=100)
    for text in ("1\n00:00:00,000 --> 00:01:02,500\nHi", "WEBVTT\n\n00:00.000 --> 01:02.500\nHi"):
        assert read_body(text.encode(), call).usage == Usage(seconds=63)
    assert read_body(b"Just a text", call) == Reading(None, "Just a text", 11)


def test_of_sound_only_the_length_is_read() -> None:
    assert read_body(b"ID3\xff" * 100, replace(CALL, kind="speech")) == Reading(None, "", 400)
