from typing import Any

import pytest

from otrta_core import CallRequest, InvalidRequest, RequestNotPriceable, UnsupportedParameter, wire
from otrta_core.requests.messages import HIDDEN_PROMPT_TOKENS

BASE = 32 + 16
PICTURE = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo=" * 50},
}
PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}


def ask(content: Any = "hi", **fields: Any) -> CallRequest:
    messages = [{"role": "user", "content": content}]
    return CallRequest.parse("messages", {"model": "m", "messages": messages, "max_tokens": 9, **fields})


def size(value: Any) -> int:
    return len(wire.compact_json(value).encode())


def document(**source: Any) -> dict[str, Any]:
    return {"type": "document", "source": source}


def test_a_plain_call_is_bounded_by_its_bytes() -> None:
    assert ask() == CallRequest(kind="messages", model="m", prompt_tokens=BASE + 2, output_limit=9)


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        ([{"type": "text", "text": "ä"}], 2),
        ([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}}], 1),
        ([{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}], None),
        ([{"type": "thinking", "thinking": "hm", "signature": "sig"}], None),
        ([{"type": "redacted_thinking", "data": "gAAA"}], None),
        ([{"type": "tool_result", "tool_use_id": "t"}], None),
    ],
    ids=str,
)
def test_every_block_counts_by_the_byte(content: Any, tokens: int | None) -> None:
    assert ask(content).prompt_tokens == BASE + (size(content[0]) if tokens is None else tokens)


def test_a_result_counts_its_text_once_and_its_images_apart() -> None:
    result = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "text", "text": "four"}, PICTURE],
    }
    call = ask([result])
    assert call.images == 1
    assert call.prompt_tokens == BASE + 4 + size({"type": "tool_result", "tool_use_id": "t"})


def test_a_document_of_text_counts_whole() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "the words"}
    assert ask([document(**source)]).prompt_tokens == BASE + size({"type": "document"}) + size(source)
    inner = ask([document(type="content", content=[PICTURE, {"type": "text", "text": "abc"}])])
    assert (inner.images, inner.prompt_tokens) == (1, BASE + size({"type": "document"}) + 3)


def test_the_system_prompt_counts() -> None:
    assert ask(system="be brief").prompt_tokens == BASE + 2 + 8
    assert ask(system=[{"type": "text", "text": "abc"}]).prompt_tokens == BASE + 2 + 3


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"name": "f", "input_schema": {"type": "object"}}]},
        {"tools": [{"type": "custom", "name": "f", "input_schema": {}, "description": "d"}]},
        {"output_config": {"format": {"type": "json_schema", "schema": {}}}},
    ],
    ids=str,
)
def test_what_anthropic_adds_to_the_prompt_is_bounded(fields: dict[str, Any]) -> None:
    (value,) = fields.values()
    assert ask(**fields).prompt_tokens == BASE + 2 + size(value) + HIDDEN_PROMPT_TOKENS


def test_the_larger_of_limit_and_thinking_budget_counts() -> None:
    thinking = {"type": "enabled", "budget_tokens": 5000}
    assert ask(thinking=thinking, max_tokens=8000).output_limit == 8000
    assert ask(thinking=thinking, max_tokens=100).output_limit == 5000
    assert ask(thinking={"type": "adaptive"}).output_limit == 9
    assert ask(max_tokens=None).output_limit is None


def test_a_thinking_budget_without_a_limit_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(thinking={"type": "enabled", "budget_tokens": 5000}, max_tokens=None)
    assert caught.value.param == "max_tokens"


@pytest.mark.parametrize("budget", [0, -1, True, "5", 1.5])
def test_a_budget_that_is_not_a_whole_number_is_refused(budget: Any) -> None:
    with pytest.raises(InvalidRequest, match="budget_tokens"):
        ask(thinking={"type": "enabled", "budget_tokens": budget})


@pytest.mark.parametrize(
    "block",
    [
        document(**PDF),
        document(type="url", url="https://example.com/a.pdf"),
        document(type="file", file_id="file_1"),
        {**document(type="text", media_type="text/plain", data="a"), "citations": {"enabled": True}},
        document(type="text", media_type="application/pdf", data="a"),
        {"type": "document", "source": 5},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "image", "source": PDF},
        {"type": "image", "source": {"type": "url", "url": "gs://bucket/film.mp4"}},
        {**PICTURE, "source": {**PICTURE["source"], "file_id": "x"}},  # type: ignore[dict-item]
        {**PICTURE, "transformations": {}},
        {"type": "search_result", "content": []},
        {"type": "server_tool_use", "name": "web_search"},
        {"type": "web_search_tool_result", "content": []},
        {"type": "container_upload", "file_id": "file_1"},
        {"type": "text", "text": 5},
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "30d"}},
        {"type": []},
        {},
    ],
    ids=str,
)
def test_content_without_a_bound_is_refused(block: Any) -> None:
    with pytest.raises(RequestNotPriceable):
        ask([block])
    with pytest.raises(RequestNotPriceable):
        ask([{"type": "tool_result", "tool_use_id": "t", "content": [block]}])


def test_content_nested_deeper_than_anybody_writes_is_refused() -> None:
    content: Any = "a"
    for _ in range(5000):
        content = [{"type": "tool_result", "tool_use_id": "t", "content": content}]
    with pytest.raises(RequestNotPriceable, match="too deep"):
        ask(content)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("container", "c_1"),
        ("context_management", {}),
        ("inference_geo", "us"),
        ("mcp_servers", []),
        ("service_tier", "auto"),
        ("speed", "fast"),
        ("n", 2),
        ("cache_control", {"type": "other"}),
        ("output_config", {"format": {"type": "json_schema", "schema": {}, "extra": 1}}),
        ("thinking", {"type": "enabled", "extra": 1}),
        ("tools", [{"type": "web_search_20250305", "name": "web_search"}]),
        ("tools", [{"type": "bash_20250124", "name": "bash"}]),
        ("tools", [{"name": "f", "input_schema": {}, "allowed_callers": []}]),
        ("tools", [{"input_schema": {}}]),
        ("tool_choice", {"type": "function"}),
    ],
    ids=str,
)
def test_fields_whose_price_has_no_bound_are_refused(name: str, value: Any) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        ask(**{name: value})
    assert caught.value.param == name
    assert ask(**{name: None}) == ask()


@pytest.mark.parametrize(
    "messages",
    [
        5,
        None,
        "hi",
        [],
        {},
        [None],
        [{}],
        [{"content": "hi"}],
        [{"role": "user"}],
        [{"role": "user", "content": 5}],
    ],
    ids=str,
)
def test_messages_of_the_wrong_shape_are_refused(messages: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        CallRequest.parse("messages", {"model": "m", "messages": messages})
    assert (type(caught.value), caught.value.param) == (InvalidRequest, "messages")


def test_a_message_has_nothing_but_role_and_content() -> None:
    with pytest.raises(RequestNotPriceable):
        CallRequest.parse(
            "messages", {"model": "m", "messages": [{"role": "user", "content": "a", "file": "x"}]}
        )
