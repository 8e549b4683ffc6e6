from typing import Any

import pytest
from hypothesis import given

from otrta_core.output_text import output_text
from tests.otrta_core.strategies import json_values


def test_all_text_that_an_answer_hands_over_counts() -> None:
    call = {"id": "c1", "function": {"name": "look", "arguments": '{"a":1}'}}
    message = {"reasoning_content": "hm ", "content": "yes", "refusal": "no", "tool_calls": [call]}
    body = {"choices": [{"message": message}, {"message": {"content": "second"}}]}
    assert output_text(body) == 'hm yesnolook{"a":1}second'


def test_a_stream_chunk_hands_over_its_delta() -> None:
    assert output_text({"choices": [{"delta": {"content": "Hel"}}]}) == "Hel"
    assert output_text({"choices": [{"delta": {"function_call": {"name": "f", "arguments": "x"}}}]}) == "fx"
    assert output_text({"choices": []}) == ""


class TestShapes:
    def test_a_text_completion_hands_over_its_texts(self) -> None:
        assert output_text({"choices": [{"text": "a"}, {"text": "b"}]}) == "ab"

    def test_responses_hand_over_messages_reasoning_and_calls(self) -> None:
        items = [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm "}]},
            {"type": "message", "content": [{"type": "output_text", "text": "yes"}, {"refusal": "no"}]},
            {"type": "function_call", "name": "f", "arguments": "{}"},
        ]
        assert output_text({"object": "response", "output": items}) == "hm yesnof{}"

    def test_a_message_hands_over_text_thinking_and_tool_input(self) -> None:
        blocks = [
            {"type": "thinking", "thinking": "hm ", "signature": "xxx"},
            {"type": "text", "text": "yes"},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
        ]
        assert output_text({"type": "message", "content": blocks}) == 'hm yesf{"a":1}'

    def test_a_transcript_hands_over_its_text(self) -> None:
        assert output_text({"text": "hello", "duration": 3}) == "hello"


@pytest.mark.parametrize(
    ("events", "text"),
    [
        (
            [
                {"type": "response.created", "response": {"output": []}},
                {"type": "response.output_item.added", "item": {"type": "function_call", "name": "f"}},
                {"type": "response.function_call_arguments.delta", "delta": "{}"},
                {"type": "response.function_call_arguments.done", "arguments": "{}"},
                {"type": "response.reasoning_summary_text.delta", "delta": "hm"},
                {"type": "response.output_text.delta", "delta": "ye"},
                {"type": "response.output_text.delta", "delta": "s"},
                {"type": "response.output_text.done", "text": "yes"},
                {"type": "response.output_item.done", "item": {"content": [{"text": "yes"}]}},
                {"type": "response.completed", "response": {"output": [{"content": [{"text": "yes"}]}]}},
            ],
            "f{}hmyes",
        ),
        (
            [
                {"type": "message_start", "message": {"content": []}},
                {
                    "type": "content_block_start",
                    "content_block": {"type": "tool_use", "name": "f", "input": {}},
                },
                {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{}"}},
                {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm"}},
                {"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "x"}},
                {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "yes"}},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
            ],
            "f{}hmyes",
        ),
        (
            [
                {"type": "transcript.text.delta", "delta": "hel"},
                {"type": "transcript.text.delta", "delta": "lo"},
                {"type": "transcript.text.done", "text": "hello"},
            ],
            "hello",
        ),
    ],
    ids=["responses", "messages", "transcript"],
)
def test_what_a_stream_repeats_counts_once(events: list[dict[str, Any]], text: str) -> None:
    assert "".join(map(output_text, events)) == text


@given(
    json_values(
        [
            *(
                "choices",
                "delta",
                "message",
                "content",
                "tool_calls",
                "function",
                "output",
                "type",
                "text",
                "item",
            ),
            *("content_block", "input", "summary", "name", "arguments"),
        ]
    )
)
def test_arbitrary_answers_never_raise(body: Any) -> None:
    assert isinstance(output_text(body), str)
