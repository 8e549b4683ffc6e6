from typing import Any

import pytest
from hypothesis import given

from otrta_core import Usage
from otrta_core.output_text import output_text
from otrta_core.usage import usage_from_body
from tests.otrta_core.strategies import json_values

PLAIN = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}


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


def test_all_text_that_an_answer_hands_over_counts() -> None:
    call = {"id": "c1", "function": {"name": "look", "arguments": '{"a":1}'}}
    message = {"reasoning_content": "hm ", "content": "yes", "refusal": "no", "tool_calls": [call]}
    body = {"choices": [{"message": message}, {"message": {"content": "second"}}]}
    assert output_text(body) == 'hm yesnolook{"a":1}second'


def test_a_stream_chunk_hands_over_its_delta() -> None:
    assert output_text({"choices": [{"delta": {"content": "Hel"}}]}) == "Hel"
    assert output_text({"choices": [{"delta": {"function_call": {"name": "f", "arguments": "x"}}}]}) == "fx"
    assert output_text({"choices": [], "usage": PLAIN}) == ""


@given(
    json_values(
        ["usage", "choices", "prompt_tokens", "delta", "message", "content", "tool_calls", "function"]
    )
)
def test_arbitrary_answers_never_raise(body: Any) -> None:
    assert usage_from_body(body) is None or isinstance(usage_from_body(body), Usage)
    assert isinstance(output_text(body), str)
