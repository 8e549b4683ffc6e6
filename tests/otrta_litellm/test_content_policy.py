"""What the content of each kind of call may be made of."""

from collections.abc import Callable
from typing import Any

import pytest

from otrta_litellm import content_policy as content

PIXEL = "data:image/png;base64,iVBORw0KGgo="
FAR = "https://a.example/x.png"
FETCHED = [
    FAR,
    "http://169.254.169.254/latest",
    "gs://bucket/x",
    "s3://bucket/x",
    "file:///etc/passwd",
    "//a.example/x.png",
    "file-abc123",
    "data:text/html;base64,AAAA",
    "data:image/svg+xml;base64,AAAA",
    "data:image/png;charset=x;base64,AAAA",
    "DATA:image/png;base64,AAAA",
    "data:image/png,AAAA",
    PIXEL + "\n",
    PIXEL + " https://a.example/",
    "",
]


def message(*parts: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts), **fields}]


def picture(address: object) -> dict[str, Any]:
    return {"type": "input_image", "image_url": address}


def image_source(**source: Any) -> list[dict[str, Any]]:
    return message({"type": "image", "source": source})


INLINE = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
IMAGE = {"type": "image", "source": INLINE}
TAKEN: list[tuple[Callable[[Any], bool], Any]] = [
    (content.is_responses_input, "hi"),
    (content.is_responses_input, [{"role": "user", "content": "hi"}]),
    (content.is_responses_input, message({"type": "input_text", "text": "hi"}, type="message", id="m")),
    (content.is_responses_input, message(picture(PIXEL), phase="final_answer")),
    (content.is_responses_input, message({**picture(PIXEL), "detail": "low"})),
    (
        content.is_responses_input,
        message({"type": "output_text", "text": "hi", "annotations": [], "logprobs": []}),
    ),
    (content.is_responses_input, message({"type": "refusal", "refusal": "no"})),
    (content.is_responses_input, [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]),
    (content.is_responses_input, [{"type": "function_call_output", "call_id": "c", "output": "4"}]),
    (
        content.is_responses_input,
        [{"type": "function_call_output", "call_id": "c", "output": [picture(PIXEL)]}],
    ),
    (
        content.is_responses_input,
        [
            {
                "type": "reasoning",
                "id": "r",
                "summary": [{"type": "summary_text", "text": "s"}],
                "content": [{"type": "reasoning_text", "text": "t"}],
                "encrypted_content": "AAAA",
            }
        ],
    ),
    (content.are_anthropic_messages, [{"role": "user", "content": "hi"}]),
    (content.are_anthropic_messages, message({"type": "text", "text": "hi", "citations": None})),
    (content.are_anthropic_messages, message({**IMAGE, "cache_control": {"type": "ephemeral"}})),
    (
        content.are_anthropic_messages,
        message({"type": "tool_use", "id": "t", "name": "f", "input": {"url": FAR}}),
    ),
    (
        content.are_anthropic_messages,
        message({"type": "tool_use", "id": "t", "name": "f", "input": {}, "caller": {"type": "direct"}}),
    ),
    (content.are_anthropic_messages, message({"type": "tool_result", "tool_use_id": "t", "content": "4"})),
    (
        content.are_anthropic_messages,
        message({"type": "tool_result", "tool_use_id": "t", "content": [IMAGE]}),
    ),
    (content.are_anthropic_messages, message({"type": "thinking", "thinking": "t", "signature": "s"})),
    (content.are_anthropic_messages, message({"type": "redacted_thinking", "data": "d"})),
    (
        content.are_anthropic_messages,
        message({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}}),
    ),
    (
        content.are_anthropic_messages,
        message({"type": "document", "source": {"type": "content", "content": [IMAGE]}}),
    ),
    (content.is_anthropic_system, "be kind"),
    (content.is_anthropic_system, [{"type": "text", "text": "be kind"}]),
    (content.is_moderation_input, "hi"),
    (content.is_moderation_input, ["hi", "ho"]),
    (
        content.is_moderation_input,
        [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": PIXEL}}],
    ),
    (content.are_documents, ["a", {"text": "b"}]),
]


@pytest.mark.parametrize(("check", "value"), TAKEN, ids=range(len(TAKEN)))
def test_what_a_quote_sees_is_taken(check: Callable[[Any], bool], value: Any) -> None:
    assert check(value)


REFUSED: list[tuple[Callable[[Any], bool], Any]] = [
    (content.is_responses_input, None),
    (content.is_responses_input, ["hi"]),
    (content.is_responses_input, [{"type": "item_reference", "id": "m"}]),
    (content.is_responses_input, [{"type": ["message"], "role": "user", "content": "hi"}]),
    (content.is_responses_input, [{"type": "web_search_call", "id": "w"}]),
    (content.is_responses_input, [{"type": "image_generation_call", "id": "w", "result": PIXEL}]),
    (content.is_responses_input, [{"role": "user", "content": "hi", "file_id": "f"}]),
    (content.is_responses_input, message({"type": "input_file", "file_id": "f"})),
    (content.is_responses_input, message({"type": "input_audio", "input_audio": {}})),
    (content.is_responses_input, message({"type": "input_text", "text": "hi", "image_url": FAR})),
    (content.is_responses_input, message({**picture(PIXEL), "file_id": "f"})),
    (content.is_responses_input, message({"type": "summary_text", "text": "s", "image_url": FAR})),
    (content.is_responses_input, message({"type": "summary_text", "text": {"url": FAR}})),
    (
        content.is_responses_input,
        [{"type": "function_call_output", "call_id": "c", "output": [picture(FAR)]}],
    ),
    (content.are_anthropic_messages, [{"role": "user", "content": "hi", "name": "bob"}]),
    (content.are_anthropic_messages, message({"type": "text", "text": "hi", "source": {}})),
    (content.are_anthropic_messages, message({"type": "search_result", "source": FAR})),
    (content.are_anthropic_messages, message({"type": "container_upload", "file_id": "f"})),
    (content.are_anthropic_messages, message({"type": "server_tool_use", "id": "t", "name": "web_search"})),
    (
        content.are_anthropic_messages,
        message(
            {"type": "tool_use", "id": "t", "name": "f", "input": {}, "caller": {"type": "code_execution"}}
        ),
    ),
    (
        content.are_anthropic_messages,
        message(
            {
                "type": "tool_result",
                "tool_use_id": "t",
                "content": image_source(type="url", url=FAR)[0]["content"],
            }
        ),
    ),
    (
        content.are_anthropic_messages,
        message(
            {
                "type": "document",
                "source": {
                    "type": "content",
                    "content": [{"type": "image", "source": {"type": "url", "url": FAR}}],
                },
            }
        ),
    ),
    (content.are_anthropic_messages, message({"type": "document"})),
    (content.are_anthropic_messages, image_source(type="url", url=FAR)),
    (content.are_anthropic_messages, image_source(type="file", file_id="f")),
    (content.are_anthropic_messages, image_source(**{**INLINE, "media_type": "application/pdf"})),
    (content.are_anthropic_messages, image_source(**{**INLINE, "media_type": ["image/png"]})),
    (content.are_anthropic_messages, image_source(**{**INLINE, "data": FAR})),
    (content.are_anthropic_messages, image_source(**{**INLINE, "data": 5})),
    (content.are_anthropic_messages, message({"type": "image", "source": FAR})),
    (content.is_anthropic_system, [{"type": "image", "source": {"type": "url", "url": FAR}}]),
    (content.is_anthropic_system, {"type": "text", "text": "x"}),
    (content.is_moderation_input, {"type": "text"}),
    (content.is_moderation_input, [5]),
    (content.are_documents, "a"),
    (content.are_documents, [{"text": "b", "image": FAR}]),
    (content.are_documents, [{"image": FAR}]),
    (content.are_documents, [{"text": {"url": FAR}}]),
]
REFUSED += [(content.is_responses_input, message(picture(address))) for address in FETCHED]
REFUSED += [
    (content.is_moderation_input, [{"type": "image_url", "image_url": {"url": address}}])
    for address in FETCHED
]
REFUSED += [
    (content.are_chat_messages, message({"type": "image_url", "image_url": {"url": address}}))
    for address in FETCHED
]


@pytest.mark.parametrize(("check", "value"), REFUSED, ids=range(len(REFUSED)))
def test_what_a_quote_cannot_see_or_another_would_fetch_is_not(
    check: Callable[[Any], bool], value: Any
) -> None:
    assert not check(value)
