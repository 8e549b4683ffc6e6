"""The upstream's kinds of text: completions, Responses and Anthropic's Messages, as they are sent."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from otrta_cli.upstream import BEHAVIOURS, NOT_JSON, make_app

TEXT = "".join(BEHAVIOURS["demo-chat"].words)
THOUGHT = "".join(BEHAVIOURS["demo-reason"].thought)
PATHS = ("/v1/completions", "/v1/responses", "/v1/messages", "/v1/v1/messages")


@pytest.fixture(scope="module")
def upstream() -> Iterator[TestClient]:
    with TestClient(make_app()) as client:
        yield client


def ask(upstream: TestClient, path: str, model: str = "demo-chat", **fields: Any) -> httpx.Response:
    hi = [{"role": "user", "content": "hi"}]
    body: dict[str, Any] = {"prompt": "hi"}
    if "messages" in path:
        body = {"messages": hi, "max_tokens": 100}
    elif "responses" in path:
        body = {"input": "hi"}
    answered: httpx.Response = upstream.post(path, json={"model": model, **body, **fields})
    return answered


def events(answered: httpx.Response) -> list[Any]:
    lines = [line[6:] for line in answered.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_a_completion_says_its_words_and_what_they_took(upstream: TestClient) -> None:
    body = ask(upstream, "/v1/completions").json()
    assert (body["object"], body["choices"][0]["text"]) == ("text_completion", TEXT)
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (10, 20)


def test_each_prompt_of_a_completion_is_answered_n_times_and_may_come_back(upstream: TestClient) -> None:
    options = {"prompt": ["hi", "ho"], "n": 2, "echo": True, "max_tokens": 2}
    body = ask(upstream, "/v1/completions", **options).json()
    assert [c["text"] for c in body["choices"]] == [f"{start}Each word" for start in ("hi", "hi", "ho", "ho")]
    assert body["usage"]["completion_tokens"] == 8
    streamed = events(ask(upstream, "/v1/completions", stream=True, **options))
    texts = [
        "".join(c["text"] for e in streamed for c in e["choices"] if c["index"] == index)
        for index in range(4)
    ]
    assert texts == [c["text"] for c in body["choices"]]


def test_a_streamed_completion_states_its_usage_if_asked(upstream: TestClient) -> None:
    plain = events(ask(upstream, "/v1/completions", stream=True))
    assert not any("usage" in event for event in plain)
    asked = events(ask(upstream, "/v1/completions", stream=True, stream_options={"include_usage": True}))
    assert asked[-1]["usage"]["completion_tokens"] == 20


def test_a_response_repeats_itself_in_its_last_event(upstream: TestClient) -> None:
    body = ask(upstream, "/v1/responses").json()
    assert body["output"][0]["content"][0]["text"] == TEXT
    assert (body["usage"]["input_tokens"], body["usage"]["output_tokens"]) == (10, 20)
    streamed = events(ask(upstream, "/v1/responses", stream=True))
    assert [event["sequence_number"] for event in streamed] == list(range(len(streamed)))
    assert "".join(e["delta"] for e in streamed if e["type"] == "response.output_text.delta") == TEXT
    assert (streamed[-1]["type"], streamed[-1]["response"]) == ("response.completed", body)


def test_a_response_that_meets_its_limit_is_incomplete(upstream: TestClient) -> None:
    body = ask(upstream, "/v1/responses", max_output_tokens=16).json()
    assert (body["status"], body["usage"]["output_tokens"]) == ("incomplete", 16)
    last = events(ask(upstream, "/v1/responses", max_output_tokens=16, stream=True))[-1]
    assert last["type"] == "response.incomplete"


def test_a_message_states_its_prompt_at_the_start_and_its_output_at_the_end(upstream: TestClient) -> None:
    body = ask(upstream, "/v1/messages", "demo-claude").json()
    assert body["content"] == [{"type": "text", "text": TEXT}]
    answered = ask(upstream, "/v1/messages", "demo-claude", stream=True)
    streamed = events(answered)
    kinds = [line[7:] for line in answered.text.splitlines() if line.startswith("event: ")]
    assert kinds == [event["type"] for event in streamed]
    assert streamed[0]["message"]["usage"]["input_tokens"] == body["usage"]["input_tokens"] == 10
    assert streamed[-2]["usage"] == {"output_tokens": body["usage"]["output_tokens"]} == {"output_tokens": 20}
    assert streamed[-1] == {"type": "message_stop"}


def test_a_thinking_model_counts_its_thought_and_its_cache_as_each_api_does(upstream: TestClient) -> None:
    chat = upstream.post("/v1/chat/completions", json={"model": "demo-reason", "messages": [{}]}).json()
    assert chat["choices"][0]["message"]["reasoning_content"] == THOUGHT
    assert chat["usage"]["completion_tokens"] == 28
    assert chat["usage"]["completion_tokens_details"]["reasoning_tokens"] == 8
    assert chat["usage"]["prompt_tokens_details"]["cached_tokens"] == 4
    message = ask(upstream, "/v1/messages", "demo-reason").json()
    assert message["content"][0]["thinking"] == THOUGHT
    cached = {"input_tokens": 4, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2}
    assert message["usage"] == cached | {"output_tokens": 28}
    response = ask(upstream, "/v1/responses", "demo-reason").json()
    assert response["output"][0]["summary"][0]["text"] == THOUGHT
    assert response["usage"]["output_tokens_details"]["reasoning_tokens"] == 8


def test_a_tool_is_called_in_each_apis_own_way(upstream: TestClient) -> None:
    called = {"city": "Paris", "units": "metric"}
    body = {"model": "demo-tool", "messages": [{}]}
    message = upstream.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == called
    assert ask(upstream, "/v1/messages", "demo-tool").json()["content"][0]["input"] == called
    response = ask(upstream, "/v1/responses", "demo-tool").json()
    assert json.loads(response["output"][0]["arguments"]) == called
    streamed = events(ask(upstream, "/v1/messages", "demo-tool", stream=True))
    deltas = [e["delta"]["partial_json"] for e in streamed if e["type"] == "content_block_delta"]
    assert json.loads("".join(deltas)) == called


def test_a_flaky_model_fails_twice_and_then_answers_once(upstream: TestClient) -> None:
    statuses = [ask(upstream, "/v1/completions", "demo-flaky").status_code for _ in range(6)]
    assert statuses == [500, 500, 200, 500, 500, 200]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
def test_faults_are_the_same_for_every_kind(upstream: TestClient, path: str, stream: bool) -> None:
    refused = ask(upstream, path, "demo-500", stream=stream)
    assert refused.status_code == 500
    assert "as demo-500 always does" in refused.json()["error"]["message"]
    assert ask(upstream, path, "demo-429", stream=stream).headers["retry-after"] == "1"
    assert ask(upstream, path, "nobody", stream=stream).status_code == 404
    assert NOT_JSON in ask(upstream, path, "demo-badjson", stream=stream).text
    silent = ask(upstream, path, "demo-nousage", stream=stream)
    assert '"usage": {' not in silent.text
    assert '"usage":{' not in silent.text


@pytest.mark.parametrize("path", PATHS[:3])
def test_usage_is_stated_and_then_taken_back(upstream: TestClient, path: str) -> None:
    assert ask(upstream, path, "demo-nullusage").json()["usage"] is None
    said = [e.get("response", e) for e in events(ask(upstream, path, "demo-nullusage", stream=True))]
    usages = [event["usage"] for event in said if "usage" in event]
    assert usages[-1] is None
    assert any(usages)


@pytest.mark.parametrize("path", PATHS[:3])
def test_a_cut_stream_says_half_and_does_not_end(upstream: TestClient, path: str) -> None:
    said = ask(upstream, path, "demo-cut", stream=True).text
    assert "caf" in said
    assert "twenty" not in said
    assert "[DONE]" not in said
    assert "message_stop" not in said


def test_anthropics_errors_have_anthropics_shape(upstream: TestClient) -> None:
    for model, kind in (("demo-500", "api_error"), ("demo-429", "rate_limit_error")):
        body = ask(upstream, "/v1/messages", model).json()
        assert (body["type"], body["error"]["type"]) == ("error", kind)
    assert upstream.post("/v1/messages", json={}).json()["error"]["type"] == "invalid_request_error"
