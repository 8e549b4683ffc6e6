from typing import Any

import pytest

from otrta_core import CallRequest, InvalidRequest, RequestNotPriceable, UnsupportedParameter, wire

BASE = 32 + 16
PICTURE = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "high"}


def respond(given: Any = "hi", **fields: Any) -> CallRequest:
    return CallRequest.parse("responses", {"model": "m", "input": given, **fields})


def said(*parts: Any) -> CallRequest:
    return respond([{"role": "user", "content": list(parts)}])


def size(value: Any) -> int:
    return len(wire.compact_json(value).encode())


def test_a_text_and_a_message_are_bounded_alike() -> None:
    assert respond().prompt_tokens == respond([{"role": "user", "content": "hi"}]).prompt_tokens == BASE + 2


def test_the_limit_is_max_output_tokens() -> None:
    assert (respond().output_limit, respond(max_output_tokens=9).output_limit) == (None, 9)
    with pytest.raises(UnsupportedParameter, match="max_tokens"):
        respond(max_tokens=9)


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"type": "input_text", "text": "ä"}, 2),
        ({"type": "output_text", "text": "abc", "annotations": []}, 3),
        ({"type": "output_text", "text": "abc", "annotations": [{"url": "x"}]}, 3 + size([{"url": "x"}])),
        ({"type": "refusal", "refusal": "no"}, 2),
    ],
    ids=str,
)
def test_everything_that_a_part_says_counts_by_the_byte(part: Any, tokens: int) -> None:
    assert said(part).prompt_tokens == BASE + tokens


def test_images_are_counted_apart_wherever_they_stand() -> None:
    shown = {"type": "function_call_output", "call_id": "c", "output": [PICTURE]}
    call = respond([{"role": "user", "content": [PICTURE]}, shown])
    assert call.images == 2
    assert call.prompt_tokens < 200


@pytest.mark.parametrize(
    "item",
    [
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "gAAA"},
    ],
    ids=str,
)
def test_other_items_count_whole(item: Any) -> None:
    assert respond([item]).prompt_tokens == BASE + size(item)


def test_the_output_of_a_function_counts_with_its_names() -> None:
    item = {"type": "function_call_output", "call_id": "call", "output": "four"}
    assert respond([item]).prompt_tokens == BASE + len("call") + len("four") + len(item["type"])


@pytest.mark.parametrize(
    ("name", "value", "tokens"),
    [
        ("instructions", "be brief", 8),
        ("tools", [{"type": "function", "name": "f", "parameters": {}}], None),
        ("tool_choice", {"type": "function", "name": "f"}, None),
        ("text", {"format": {"type": "json_schema", "name": "n", "schema": {}}}, None),
    ],
)
def test_what_stands_beside_the_input_counts_by_the_byte(name: str, value: Any, tokens: int | None) -> None:
    assert respond(**{name: value}).prompt_tokens == BASE + 2 + (tokens or size(value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("previous_response_id", "resp_1"),
        ("conversation", "conv_1"),
        ("prompt", {"id": "pmpt_1"}),
        ("background", True),
        ("service_tier", "priority"),
        ("context_management", []),
        ("moderation", {}),
        ("include", ["file_search_call.results"]),
        ("text", {"format": {"type": "json_schema", "response_schema": {}}}),
        ("text", {"format": 5}),
        ("tools", [{"type": "web_search"}]),
        ("tools", [{"type": "mcp", "server_url": "https://example.com"}]),
        ("tools", [{"type": "custom", "name": "f"}]),
        ("tools", [{"type": "function", "name": "f", "search_context_size": "high"}]),
        ("tool_choice", {"type": "file_search"}),
        ("stream_options", {"include_usage": True}),
    ],
    ids=str,
)
def test_what_the_upstream_keeps_or_runs_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        respond(**{name: value})
    assert caught.value.param == name
    assert respond(**{name: None}) == respond()


@pytest.mark.parametrize(
    "item",
    [
        {"type": "item_reference", "id": "msg_1"},
        {"type": "reasoning", "id": "r", "summary": []},
        {"type": "computer_call_output", "output": {}},
        {"type": "mcp_call"},
        {"type": ["message"]},
        {"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]},
        {"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}]},
        {"role": "user", "content": [{**PICTURE, "file_id": "file_1"}]},
        {"role": "user", "content": [{"type": "input_image", "image_url": "gs://bucket/film.mp4"}]},
        {"role": "user", "content": [{"type": "input_image", "image_url": "data:video/mp4;base64,AA"}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
        {"role": "user", "content": [{"type": []}]},
    ],
    ids=str,
)
def test_items_without_a_bound_are_refused(item: Any) -> None:
    with pytest.raises(RequestNotPriceable) as caught:
        respond([item])
    assert caught.value.param == "input"


@pytest.mark.parametrize(
    "given",
    [
        None,
        5,
        [],
        {},
        [None],
        ["hi"],
        [{}],
        [{"role": 5, "content": "a"}],
        [{"role": "user"}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": ["hi"]}],
        [{"role": "user", "content": [{"type": "input_text"}]}],
        [{"role": "a role that is really a prompt", "content": "a"}],
    ],
    ids=str,
)
def test_an_input_of_the_wrong_shape_is_refused(given: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        respond(given)
    assert (type(caught.value), caught.value.param) == (InvalidRequest, "input")


def test_what_has_no_price_effect_passes() -> None:
    same = respond(
        reasoning={"effort": "high", "summary": "auto"},
        include=["reasoning.encrypted_content"],
        store=True,
        truncation="auto",
        parallel_tool_calls=True,
        max_tool_calls=3,
        background=False,
        metadata={"a": "b"},
    )
    assert same == respond()
