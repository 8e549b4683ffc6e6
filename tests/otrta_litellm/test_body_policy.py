"""Which fields of a stranger's body pass, and what LiteLLM gets."""

import json
from typing import Any

import pytest

from otrta_core import InvalidRequest, UnsupportedParameter
from otrta_litellm.body_policy import check_fields, has_token_numbers, outbound_body, parse_body

HI = {"role": "user", "content": "hi"}
FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
TOOL = {"type": "function", "function": FUNCTION}
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [HI], **fields}


def saying(*parts: dict[str, Any]) -> dict[str, Any]:
    return chat(messages=[{"role": "user", "content": list(parts)}])


ALLOWED: list[dict[str, Any]] = [
    {"max_tokens": 5, "max_completion_tokens": 6, "n": 2},
    {"temperature": 0.5, "top_p": 1, "presence_penalty": -1.5, "frequency_penalty": 0, "seed": 7, "top_k": 3},
    {"stop": "end"},
    {"stop": ["a", "b"]},
    {"logit_bias": {"50256": -100}},
    {"logprobs": True, "top_logprobs": 3},
    {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
    {"tools": [TOOL, TOOL | {"cache_control": {"type": "ephemeral"}}], "parallel_tool_calls": False},
    {"tools": []},
    {"tool_choice": "required"},
    {"tool_choice": {"type": "function", "function": {"name": "f"}}},
    {"functions": [FUNCTION], "function_call": {"name": "f"}},
    {"function_call": "auto"},
    {"response_format": {"type": "json_object"}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}}},
    {"reasoning_effort": "low", "verbosity": "high", "modalities": ["text"], "prompt_cache_key": "k"},
    {"temperature": None, "tools": None, "stop": None},
]


@pytest.mark.parametrize("fields", ALLOWED, ids=str)
def test_what_is_sold_passes_unchanged(fields: dict[str, Any]) -> None:
    body = chat(**fields)
    check_fields("chat", body)
    expected = {name: value for name, value in body.items() if value is not None}
    expected.pop("stream_options", None)
    sent = outbound_body("chat", body, "m", None)
    sent.pop("stream_options", None)
    assert sent == expected


REFUSED: list[dict[str, Any]] = [
    {"tools": [{"type": "web_search"}]},
    {"tools": [{"type": "function"}]},
    {"tools": [{"type": "function", "googleSearch": {}}]},
    {"tools": [TOOL | {"google_search": {}}]},
    {"tools": [{"function": FUNCTION}]},
    {"tools": [{"type": "function", "function": FUNCTION | {"allowed_callers": []}}]},
    {"tools": [{"type": "function", "function": {"description": "nameless"}}]},
    {"tools": ["web_search"]},
    {"tools": {"type": "function"}},
    {"functions": [{"name": "f", "google_search": {}}]},
    {"functions": ["f"]},
    {"tool_choice": {"type": "tool", "name": "web_search"}},
    {"tool_choice": {"function": {"name": "f"}}},
    {"tool_choice": "web_search"},
    {"function_call": {"name": "f", "more": 1}},
    {"response_format": {"type": "json_object", "response_schema": {}, "enforce_validation": True}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "enforce_validation": True}}},
    {"response_format": {"type": "json_schema", "json_schema": "x"}},
    {"response_format": {"type": "grammar"}},
    {"stream_options": {"include_usage": True, "chunk_size": 1}},
    {"modalities": ["text", "image"]},
    {"logit_bias": {"1": {"deep": 1}}},
    {"stop": [{"a": 1}]},
    {"thinking": {"type": "enabled"}},
    {"audio": {}},
    {"prediction": {}},
    {"best_of": 2},
    {"service_tier": "priority"},
    {"web_search_options": {}},
    {"extra_body": {"n": 5}},
    {"extra_headers": {}},
    {"headers": {}},
    {"provider_specific_header": {}},
    {"api_key": "x"},
    {"api_base": "http://127.0.0.1"},
    {"base_url": "http://127.0.0.1"},
    {"custom_llm_provider": "x"},
    {"model_list": []},
    {"mock_response": "free"},
    {"guardrails": []},
    {"litellm_params": {}},
    {"drop_params": True},
    {"_internal": 1},
    {"": 1},
]


@pytest.mark.parametrize("fields", REFUSED, ids=str)
def test_what_is_not_sold_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        check_fields("chat", chat(**fields))
    assert caught.value.param in fields


@pytest.mark.parametrize(
    "fields",
    [{"temperature": "hot"}, {"stream": 1}, {"logprobs": "x"}, {"seed": True}, {"reasoning_effort": 5}],
    ids=str,
)
def test_what_has_the_wrong_type_is_an_invalid_request(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_fields("chat", chat(**fields))
    assert type(caught.value) is InvalidRequest


def test_a_long_name_of_a_field_is_not_repeated_in_full() -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        check_fields("chat", chat(**{"x" * 10_000: 1}))
    assert len(caught.value.message) < 200


TAKEN_OUT = {
    "user": "bob",
    "metadata": {"who": "bob"},
    "safety_identifier": "bob",
    "store": True,
    "timeout": 1,
    "stream_timeout": 1,
    "request_timeout": 1,
    "num_retries": 5,
    "max_retries": 5,
    "fallbacks": ["other"],
    "caching": True,
    "cache": {},
    "tags": ["bob"],
    "no-log": True,
    "litellm_metadata": {},
}


def test_what_names_the_caller_or_steers_litellm_is_taken_out() -> None:
    body = chat(**TAKEN_OUT)
    check_fields("chat", body)
    assert outbound_body("chat", body, "m", None) == chat()


@pytest.mark.parametrize(
    "body",
    [
        saying({"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}),
        saying({"type": "refusal", "refusal": "no"}),
        saying({"type": "image_url", "image_url": PIXEL}),
        saying({"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}),
        chat(messages=[HI | {"name": "bob"}, {"role": "assistant", "tool_calls": [], "content": None}]),
        chat(messages=[{"role": "tool", "tool_call_id": "1", "content": "x"}]),
    ],
    ids=str,
)
def test_plain_messages_pass(body: dict[str, Any]) -> None:
    check_fields("chat", body)
    assert outbound_body("chat", body, "m", None) == body


@pytest.mark.parametrize(
    "body",
    [
        saying({"type": "text", "text": "a", "input_audio": {}}),
        saying({"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}),
        saying({"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}),
        saying({"type": "image_url", "image_url": {"url": "gs://bucket/x"}}),
        saying({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}),
        saying({"type": "image_url", "image_url": {"url": "data:application/pdf;base64,AAAA"}}),
        saying({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA\n"}}),
        saying({"type": "image_url", "image_url": {"url": "data:image/png,x;base64,AAAA"}}),
        saying({"type": "image_url", "image_url": {"url": PIXEL, "format": "video/mp4"}}),
        saying({"type": "image_url", "image_url": PIXEL, "text": "x"}),
        saying({"type": "image_url", "image_url": ["x"]}),
        saying({"type": "image_url"}),
        chat(messages=[HI | {"audio": {"id": "x"}}]),
        chat(messages=[HI | {"zzz": 1}]),
        chat(messages=[HI | {"thinking_blocks": []}]),
    ],
    ids=str,
)
def test_what_a_quote_cannot_see_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        check_fields("chat", body)
    assert caught.value.param == "messages"


def test_a_cap_is_set_as_max_tokens() -> None:
    assert outbound_body("chat", chat(), "m", 18) == chat(max_tokens=18)


def test_usage_is_always_asked_of_a_stream_and_of_nothing_else() -> None:
    for asked in ({}, {"stream_options": {"include_usage": False}}, {"stream_options": None}):
        sent = outbound_body("chat", chat(stream=True, **asked), "m", None)
        assert sent["stream_options"] == {"include_usage": True}
    sent = outbound_body("chat", chat(stream=False, stream_options={"include_usage": True}), "m", None)
    assert "stream_options" not in sent


def test_embeddings_have_a_list_of_their_own() -> None:
    body = {"model": "m", "input": ["a"], "encoding_format": "base64", "dimensions": 3, "user": "bob"}
    check_fields("embeddings", body)
    assert outbound_body("embeddings", body, "m", 5) == {
        "model": "m",
        "input": ["a"],
        "encoding_format": "base64",
        "dimensions": 3,
    }
    for wrong in ({"messages": []}, {"encoding_format": "x"}, {"api_base": "x"}, {"max_tokens": 5}):
        with pytest.raises(UnsupportedParameter):
            check_fields("embeddings", body | wrong)


@pytest.mark.parametrize(
    ("given", "numbers"),
    [("a", False), (["a"], False), ([1, 2], False), ([[1, 2]], True), (["a", [1]], True)],
)
def test_lists_of_token_numbers_are_told_from_texts(given: object, numbers: bool) -> None:
    assert has_token_numbers("embeddings", {"input": given}) is numbers
    assert has_token_numbers("chat", {"input": given}) is False


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe{", b"NaN", b"[" * 60_000, b'{"a": 1e999}'])
def test_what_is_not_json_is_an_invalid_request(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_body(raw)


@pytest.mark.parametrize("part", [b"[],", b"{},", b"1,"])
def test_a_body_that_would_swell_in_memory_is_refused_unread(part: bytes) -> None:
    with pytest.raises(InvalidRequest, match="too many parts"):
        parse_body(b"[" + part * 1_100_000 + b"1]")


def test_a_repeated_key_counts_once_and_goes_out_once() -> None:
    body = parse_body(b'{"model": "a", "model": "b", "messages": []}')
    assert json.dumps(outbound_body("chat", body, "b", None)) == '{"model": "b", "messages": []}'
