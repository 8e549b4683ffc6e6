from typing import Any, get_args

import pytest
from hypothesis import given

from otrta_core import CallRequest, Usage
from otrta_core.requests import Kind
from otrta_core.usage import UsageReader, usage_from_body, with_pieces
from tests.otrta_core.strategies import json_values

PLAIN = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}


def call(kind: Kind, **figures: int) -> CallRequest:
    return CallRequest(kind=kind, model="m", prompt_tokens=50, **figures)


def test_plain_counts_are_read() -> None:
    assert usage_from_body({"usage": PLAIN}) == Usage(prompt_tokens=10, completion_tokens=20)


def test_details_are_read_as_parts_of_their_wholes() -> None:
    body = {
        "usage": {
            **PLAIN,
            "prompt_tokens_details": {"cached_tokens": 4, "cache_creation_tokens": 3, "audio_tokens": None},
            "completion_tokens_details": {"reasoning_tokens": 5},
        }
    }
    assert usage_from_body(body) == Usage(
        prompt_tokens=10, completion_tokens=20, cached_tokens=4, cache_write_tokens=3, reasoning_tokens=5
    )


@pytest.mark.parametrize("details", [None, [], 5, {}, {"cached_tokens": None}])
def test_absent_details_count_as_none(details: Any) -> None:
    body = {"usage": {**PLAIN, "prompt_tokens_details": details, "completion_tokens_details": details}}
    assert usage_from_body(body) == Usage(prompt_tokens=10, completion_tokens=20)


def test_embeddings_state_a_prompt_only() -> None:
    assert usage_from_body({"usage": {"prompt_tokens": 7, "total_tokens": 7}}) == Usage(prompt_tokens=7)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "usage",
        {},
        {"usage": None},
        {"usage": []},
        {"usage": {}},
        {"usage": {"prompt_tokens": 0, "completion_tokens": 0}},
        {"usage": {**PLAIN, "prompt_tokens": -1}},
        {"usage": {**PLAIN, "completion_tokens": 1.5}},
        {"usage": {**PLAIN, "completion_tokens": "20"}},
        {"usage": {**PLAIN, "completion_tokens": True}},
        {"usage": {**PLAIN, "prompt_tokens": 2**64}},
        {"usage": {**PLAIN, "completion_tokens_details": {"reasoning_tokens": -5}}},
    ],
    ids=str,
)
def test_a_usage_that_says_nothing_credible_is_not_stated(body: Any) -> None:
    assert usage_from_body(body) is None


RESPONSES = {
    "input_tokens": 30,
    "input_tokens_details": {"cached_tokens": 12, "cache_write_tokens": 3},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 4},
}


class TestResponses:
    READ = Usage(
        prompt_tokens=30, cached_tokens=12, cache_write_tokens=3, completion_tokens=9, reasoning_tokens=4
    )

    def test_an_answer_states_inclusive_counts(self) -> None:
        assert usage_from_body({"object": "response", "usage": RESPONSES}, "responses") == self.READ

    def test_a_stream_states_them_at_its_end(self) -> None:
        end = {"type": "response.completed", "response": {"usage": RESPONSES}}
        assert usage_from_body(end, "responses") == self.READ
        assert usage_from_body({"type": "response.created", "response": {"usage": None}}, "responses") is None


MESSAGES = {
    "input_tokens": 10,
    "cache_read_input_tokens": 200,
    "cache_creation_input_tokens": 30,
    "output_tokens": 7,
}


class TestMessages:
    READ = Usage(prompt_tokens=240, cached_tokens=200, cache_write_tokens=30, completion_tokens=7)

    def test_cached_tokens_are_added_to_the_input(self) -> None:
        assert usage_from_body({"type": "message", "usage": MESSAGES}, "messages") == self.READ

    def test_thinking_is_a_part_of_the_output(self) -> None:
        usage = {"input_tokens": 1, "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 5}}
        assert usage_from_body({"usage": usage}, "messages") == Usage(
            prompt_tokens=1, completion_tokens=9, reasoning_tokens=5
        )

    def test_a_stream_states_input_at_its_start_and_output_as_it_goes(self) -> None:
        reader = UsageReader("messages")
        assert reader.usage is None
        reader.feed({"type": "message_start", "message": {"usage": {**MESSAGES, "output_tokens": 1}}})
        reader.feed({"type": "content_block_delta", "delta": {"text": "hi"}})
        assert not reader.final
        reader.feed({"type": "message_delta", "usage": {"output_tokens": 3}})
        assert reader.final
        reader.feed({"type": "message_delta", "usage": {"output_tokens": 7, "input_tokens": None}})
        reader.feed({"type": "message_stop"})
        assert reader.usage == self.READ

    def test_a_wrong_count_does_not_erase_the_last_right_one(self) -> None:
        reader = UsageReader("messages")
        reader.feed({"usage": MESSAGES})
        reader.feed({"type": "message_delta", "usage": {"output_tokens": -1}})
        assert reader.usage == self.READ

    @pytest.mark.parametrize("name", list(MESSAGES))
    @pytest.mark.parametrize("value", [-1, 1.5, "5", True, 2**64])
    def test_counts_that_are_none_are_not_stated(self, name: str, value: Any) -> None:
        assert usage_from_body({"usage": {**MESSAGES, name: value}}, "messages") is None


class TestOtherKinds:
    @pytest.mark.parametrize(
        ("kind", "body", "usage"),
        [
            ("completions", {"usage": PLAIN}, Usage(prompt_tokens=10, completion_tokens=20)),
            ("images", {"data": [{}, {}]}, Usage(images=2)),
            (
                "image_edits",
                {"data": [{}], "usage": {"input_tokens": 5, "output_tokens": 6}},
                Usage(images=1, prompt_tokens=5, completion_tokens=6),
            ),
            ("images", {"data": []}, None),
            ("images", {"data": 5}, None),
            ("transcriptions", {"usage": {"type": "duration", "seconds": 3.2}}, Usage(seconds=4)),
            ("transcriptions", {"usage": {"type": "duration", "seconds": 3}}, Usage(seconds=3)),
            ("transcriptions", {"duration": "8.01", "text": "a"}, Usage(seconds=9)),
            ("transcriptions", {"duration": 2.0}, Usage(seconds=2)),
            (
                "transcriptions",
                {"type": "transcript.text.done", "usage": {"input_tokens": 5, "output_tokens": 6}},
                Usage(prompt_tokens=5, completion_tokens=6),
            ),
            ("transcriptions", {"duration": "long"}, None),
            ("transcriptions", {"duration": "inf"}, None),
            ("transcriptions", {"duration": True}, None),
            ("transcriptions", {"duration": -5}, None),
            ("transcriptions", {"text": "a"}, None),
            ("rerank", {"meta": {"billed_units": {"search_units": 2}}}, Usage(search_units=2)),
            (
                "rerank",
                {"meta": {"billed_units": {"search_units": 1}, "tokens": {"input_tokens": 40}}},
                Usage(search_units=1, prompt_tokens=40),
            ),
            ("rerank", {"meta": {"billed_units": {"total_tokens": 9}}}, Usage(prompt_tokens=9)),
            ("rerank", {"usage": {"total_tokens": 9}}, Usage(prompt_tokens=9)),
            ("rerank", {"meta": None, "results": []}, None),
            ("moderations", {"results": []}, None),
            ("moderations", {"usage": {"prompt_tokens": 4}}, Usage(prompt_tokens=4)),
        ],
        ids=str,
    )
    def test_each_states_what_it_is_billed_by(self, kind: Kind, body: Any, usage: Usage | None) -> None:
        assert usage_from_body(body, kind) == usage

    @pytest.mark.parametrize(
        ("stated", "asked", "usage"),
        [
            (
                Usage(prompt_tokens=5, completion_tokens=90),
                {"kind": "speech", "characters": 11},
                Usage(prompt_tokens=5, completion_tokens=90, characters=11),
            ),
            (Usage(images=1), {"kind": "images", "images_made": 2}, Usage(images=1)),
            (Usage(prompt_tokens=3), {"kind": "images", "images_made": 2}, Usage(prompt_tokens=3, images=2)),
            (Usage(seconds=3), {"kind": "transcriptions", "seconds": 40}, Usage(seconds=3)),
            (Usage(), {"kind": "transcriptions", "seconds": 40}, Usage(seconds=40)),
            (
                Usage(prompt_tokens=9),
                {"kind": "rerank", "search_units": 2},
                Usage(prompt_tokens=9, search_units=2),
            ),
        ],
        ids=str,
    )
    def test_what_the_answer_leaves_out_the_request_says(
        self, stated: Usage, asked: dict[str, Any], usage: Usage
    ) -> None:
        assert with_pieces(stated, call(**asked)) == usage

    def test_a_later_event_without_a_usage_does_not_erase_an_earlier_one(self) -> None:
        reader = UsageReader("chat")
        for event in ({"usage": PLAIN}, {"usage": None}, {"choices": []}, "text"):
            reader.feed(event)
        assert reader.usage == Usage(prompt_tokens=10, completion_tokens=20)


@pytest.mark.parametrize("kind", get_args(Kind))
@given(
    json_values(
        [
            *(
                "usage",
                "prompt_tokens",
                "input_tokens",
                "output_tokens",
                "message",
                "response",
                "meta",
                "tokens",
            ),
            *("billed_units", "search_units", "seconds", "duration", "data", "cache_read_input_tokens"),
        ]
    )
)
def test_arbitrary_answers_state_a_usage_or_none(kind: Kind, body: Any) -> None:
    reader = UsageReader(kind)
    reader.feed(body)
    assert reader.usage is None or isinstance(reader.usage, Usage)
    assert usage_from_body(body, kind) == reader.usage
