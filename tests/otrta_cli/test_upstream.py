"""The local LLM upstream behaves as its model names say, over a real socket."""

import base64
import json
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from otrta_cli.upstream import BEHAVIOURS, EMBEDDING, KEPT_BODY_BYTES, KEPT_CALLS, NOT_JSON

MESSAGES = [{"role": "user", "content": "hi"}]
ANSWERING = ["demo-chat", "demo-nousage", "demo-nullusage", "demo-big", "demo-datatext"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def start(port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "otrta_cli.upstream", "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).raise_for_status()
        except httpx.ConnectError:
            time.sleep(0.05)
        else:
            return process
    process.kill()
    process.wait()
    raise RuntimeError("the upstream did not start")


@pytest.fixture(scope="module")
def upstream() -> Iterator[httpx.Client]:
    port = free_port()
    process = start(port)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
        yield client
    process.terminate()
    assert process.wait(10) == 0


@pytest.fixture(scope="module")
def litellm_config() -> Any:
    path = Path(__file__).parents[2] / "config" / "litellm.yaml"
    return yaml.safe_load(path.read_text())


def ask(upstream: httpx.Client, model: str, **fields: Any) -> httpx.Response:
    return upstream.post("/v1/chat/completions", json={"model": model, "messages": MESSAGES, **fields})


def plain(upstream: httpx.Client, model: str, **fields: Any) -> dict[str, Any]:
    response = ask(upstream, model, **fields)
    assert response.status_code == 200
    body: dict[str, Any] = response.json()
    return body


def events(text: str) -> list[str]:
    return [line.removeprefix("data: ") for line in text.split("\n\n") if line]


def streamed(upstream: httpx.Client, model: str, **fields: Any) -> list[dict[str, Any]]:
    response = ask(upstream, model, stream=True, **fields)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    *chunks, last = events(response.text)
    assert last == "[DONE]"
    return [json.loads(chunk) for chunk in chunks]


def streamed_text(chunks: list[dict[str, Any]], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content", "") for choice in choices)


def finish_reasons(chunks: list[dict[str, Any]]) -> list[str]:
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return [choice["finish_reason"] for choice in choices if choice["finish_reason"] is not None]


def received_until_broken_off(upstream: httpx.Client, model: str, **fields: Any) -> bytes:
    received = b""
    body = {"model": model, "messages": MESSAGES, **fields}
    with upstream.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200
        try:
            for part in response.iter_raw():
                received += part
        except httpx.RemoteProtocolError:
            return received
    raise AssertionError("the answer was not broken off")


class TestOrdinaryAnswers:
    def test_a_chat_call_uses_ten_prompt_and_twenty_completion_tokens(self, upstream: httpx.Client) -> None:
        body = plain(upstream, "demo-chat")
        assert body["usage"] == {
            "prompt_tokens": 10,
            "completion_tokens": 20,
            "total_tokens": 30,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        }
        assert body["choices"][0]["finish_reason"] == "stop"

    @pytest.mark.parametrize("model", ANSWERING)
    def test_a_streamed_answer_has_the_text_of_the_plain_one(
        self, upstream: httpx.Client, model: str
    ) -> None:
        chunks = streamed(upstream, model)
        assert streamed_text(chunks) == plain(upstream, model)["choices"][0]["message"]["content"] != ""
        assert finish_reasons(chunks) == ["stop"]

    def test_the_answer_is_the_same_each_time(self, upstream: httpx.Client) -> None:
        assert ask(upstream, "demo-chat").content == ask(upstream, "demo-chat").content

    def test_every_model_that_speaks_has_twenty_words(self) -> None:
        spoken = [b for b in BEHAVIOURS.values() if not b.calls_tool]
        assert {len(behaviour.words) for behaviour in spoken} == {20}

    def test_the_models_are_listed(self, upstream: httpx.Client) -> None:
        rows = upstream.get("/v1/models").json()["data"]
        assert [row["id"] for row in rows] == list(BEHAVIOURS)


class TestLimits:
    @pytest.mark.parametrize(
        ("limits", "tokens", "reason"),
        [
            ({"max_tokens": 5}, 5, "length"),
            ({"max_completion_tokens": 5}, 5, "length"),
            ({"max_tokens": 1, "max_completion_tokens": 7}, 7, "length"),
            ({"max_tokens": 7, "max_completion_tokens": 1}, 7, "length"),
            ({"max_tokens": 20}, 20, "stop"),
            ({"max_tokens": 4096}, 20, "stop"),
            ({"max_tokens": None}, 20, "stop"),
        ],
    )
    def test_the_largest_limit_cuts_the_answer(
        self, upstream: httpx.Client, limits: dict[str, int | None], tokens: int, reason: str
    ) -> None:
        body = plain(upstream, "demo-chat", **limits)
        chunks = streamed(upstream, "demo-chat", stream_options={"include_usage": True}, **limits)
        assert body["usage"]["completion_tokens"] == tokens == chunks[-1]["usage"]["completion_tokens"]
        assert body["choices"][0]["finish_reason"] == reason == finish_reasons(chunks)[0]
        assert body["choices"][0]["message"]["content"] == streamed_text(chunks)

    def test_n_answers_cost_n_times_the_tokens(self, upstream: httpx.Client) -> None:
        body = plain(upstream, "demo-chat", n=3, max_tokens=2)
        chunks = streamed(upstream, "demo-chat", n=3, max_tokens=2, stream_options={"include_usage": True})
        assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
        assert [streamed_text(chunks, index) for index in range(3)] == ["Each word"] * 3
        assert body["usage"]["completion_tokens"] == 6 == chunks[-1]["usage"]["completion_tokens"]

    @pytest.mark.parametrize(
        "fields", [{"max_tokens": -5}, {"max_tokens": 0}, {"n": 0}, {"messages": 5}, {"model": None}]
    )
    def test_a_wrong_field_is_refused(self, upstream: httpx.Client, fields: dict[str, Any]) -> None:
        body = {"model": "demo-chat", "messages": MESSAGES, **fields}
        response = upstream.post("/v1/chat/completions", json=body)
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "invalid_request"

    def test_a_body_that_is_not_json_is_refused(self, upstream: httpx.Client) -> None:
        assert upstream.post("/v1/chat/completions", content=b"{no").status_code == 400

    @pytest.mark.parametrize("model", ["demo-embed", "gpt-4o"])
    def test_a_model_that_does_not_chat_is_not_found(self, upstream: httpx.Client, model: str) -> None:
        response = ask(upstream, model)
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "model_not_found"


class TestStreamedUsage:
    def test_it_comes_last_and_without_choices_when_asked_for(self, upstream: httpx.Client) -> None:
        *others, last = streamed(upstream, "demo-chat", stream_options={"include_usage": True})
        assert last["choices"] == []
        assert last["usage"]["total_tokens"] == 30
        assert all(chunk["usage"] is None for chunk in others)

    @pytest.mark.parametrize(
        "options", [{}, {"stream_options": {"include_usage": False}}, {"stream_options": None}]
    )
    def test_it_does_not_come_unasked(self, upstream: httpx.Client, options: dict[str, Any]) -> None:
        assert all("usage" not in chunk for chunk in streamed(upstream, "demo-chat", **options))

    def test_nousage_never_says_it(self, upstream: httpx.Client) -> None:
        chunks = streamed(upstream, "demo-nousage", stream_options={"include_usage": True})
        assert all("usage" not in chunk for chunk in chunks)
        assert "usage" not in plain(upstream, "demo-nousage")

    @pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
    def test_nullusage_takes_it_back(self, upstream: httpx.Client, options: dict[str, Any]) -> None:
        *_, finish, real, null = streamed(upstream, "demo-nullusage", **options)
        assert finish["usage"] is None
        assert real["usage"]["completion_tokens"] == 20
        assert null["usage"] is None
        assert null["choices"] == []

    def test_nullusage_says_null_in_a_plain_answer(self, upstream: httpx.Client) -> None:
        assert plain(upstream, "demo-nullusage")["usage"] is None


class TestTiming:
    def test_slow_takes_two_seconds_for_a_plain_answer(self, upstream: httpx.Client) -> None:
        started = time.monotonic()
        plain(upstream, "demo-slow")
        assert 2.0 <= time.monotonic() - started < 4.0

    def test_slow_streams_a_word_each_hundred_milliseconds(self, upstream: httpx.Client) -> None:
        body = {"model": "demo-slow", "messages": MESSAGES, "stream": True}
        with upstream.stream("POST", "/v1/chat/completions", json=body) as response:
            arrivals = [time.monotonic() for line in response.iter_lines() if '"content": "' in line]
        words = arrivals[1:]
        assert len(words) == 20
        assert 1.8 <= words[-1] - words[0] < 3.5

    @pytest.mark.parametrize("stream", [False, True])
    def test_hang_is_silent(self, upstream: httpx.Client, stream: bool) -> None:
        with pytest.raises(httpx.ReadTimeout):
            upstream.post(
                "/v1/chat/completions",
                json={"model": "demo-hang", "messages": MESSAGES, "stream": stream},
                timeout=1.0,
            )

    def test_hang_is_silent_for_longer_than_the_demo_gateway_waits(self, litellm_config: Any) -> None:
        rows = {row["model_name"]: row["litellm_params"] for row in litellm_config["model_list"]}
        waits = rows["demo-hang"]["timeout"], rows["demo-hang"]["stream_timeout"]
        assert max(waits) < BEHAVIOURS["demo-hang"].silence_s == 15.0


class TestFaults:
    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        ("model", "status", "code"),
        [("demo-500", 500, "internal_error"), ("demo-429", 429, "rate_limit_exceeded")],
    )
    def test_an_error_is_answered(
        self, upstream: httpx.Client, model: str, status: int, code: str, stream: bool
    ) -> None:
        response = ask(upstream, model, stream=stream)
        assert response.status_code == status
        assert response.json()["error"]["code"] == code
        assert ("retry-after" in response.headers) == (status == 429)

    def test_cut_closes_in_the_middle_of_a_stream(self, upstream: httpx.Client) -> None:
        received = received_until_broken_off(upstream, "demo-cut", stream=True)
        half = streamed_text([json.loads(event) for event in events(received.decode())])
        assert half == "Each word of this answer is one token , café"

    def test_cut_closes_in_the_middle_of_a_plain_body(self, upstream: httpx.Client) -> None:
        received = received_until_broken_off(upstream, "demo-cut", stream=False)
        assert received.startswith(b'{"id":"chatcmpl-demo-cut"')
        assert not received.endswith(b"}")

    def test_big_answers_with_fifty_million_characters(self, upstream: httpx.Client) -> None:
        assert len(plain(upstream, "demo-big")["choices"][0]["message"]["content"]) == 50_000_000
        chunks = streamed(upstream, "demo-big", stream_options={"include_usage": True})
        assert len(streamed_text(chunks)) == 50_000_000
        assert len(chunks) > 100
        assert chunks[-1]["usage"]["completion_tokens"] == 20

    def test_badjson_answers_200_with_something_else(self, upstream: httpx.Client) -> None:
        answer = ask(upstream, "demo-badjson")
        stream = ask(upstream, "demo-badjson", stream=True)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.text == NOT_JSON
        assert (stream.status_code, events(stream.text)) == (200, [NOT_JSON])
        with pytest.raises(ValueError, match="Expecting value"):
            answer.json()

    def test_datatext_has_what_looks_like_a_stream_in_its_text(self, upstream: httpx.Client) -> None:
        text = plain(upstream, "demo-datatext")["choices"][0]["message"]["content"]
        assert {"data: [DONE]", "data:text", ": x-cashu cashuBnot-a-token"} <= set(text.split("\n"))


class TestEmbeddings:
    @pytest.mark.parametrize(
        ("value", "vectors"), [("hi", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2], [3]], 3)]
    )
    def test_each_text_has_a_vector(self, upstream: httpx.Client, value: Any, vectors: int) -> None:
        body = upstream.post("/v1/embeddings", json={"model": "demo-embed", "input": value}).json()
        assert [row["embedding"] for row in body["data"]] == [list(EMBEDDING)] * vectors
        assert [row["index"] for row in body["data"]] == list(range(vectors))
        assert body["usage"] == {"prompt_tokens": 10, "total_tokens": 10}

    def test_base64_is_little_endian_floats(self, upstream: httpx.Client) -> None:
        body = {"model": "demo-embed", "input": "hi", "encoding_format": "base64"}
        packed = upstream.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
        assert struct.unpack("<8f", base64.b64decode(packed)) == EMBEDDING

    @pytest.mark.parametrize(("model", "status"), [("demo-500", 500), ("demo-429", 429), ("demo-chat", 404)])
    def test_an_error_is_answered(self, upstream: httpx.Client, model: str, status: int) -> None:
        assert upstream.post("/v1/embeddings", json={"model": model, "input": "hi"}).status_code == status

    def test_usage_can_be_absent_or_null(self, upstream: httpx.Client) -> None:
        absent = upstream.post("/v1/embeddings", json={"model": "demo-nousage", "input": "hi"}).json()
        null = upstream.post("/v1/embeddings", json={"model": "demo-nullusage", "input": "hi"}).json()
        assert "usage" not in absent
        assert null["usage"] is None

    def test_cut_closes_in_the_middle(self, upstream: httpx.Client) -> None:
        with pytest.raises(httpx.RemoteProtocolError):
            upstream.post("/v1/embeddings", json={"model": "demo-cut", "input": "hi"})

    def test_wrong_input_is_refused(self, upstream: httpx.Client) -> None:
        response = upstream.post("/v1/embeddings", json={"model": "demo-embed", "input": 5})
        assert response.status_code == 400


class TestCalls:
    @pytest.fixture(autouse=True)
    def nothing_received(self, upstream: httpx.Client) -> None:
        assert upstream.delete("/_calls").json() == {"calls": []}

    def calls(self, upstream: httpx.Client) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = upstream.get("/_calls").json()["calls"]
        return calls

    def test_a_call_is_kept_as_it_was_received(self, upstream: httpx.Client) -> None:
        body = {"model": "demo-chat", "messages": MESSAGES, "stream": True}
        headers = [("x-thing", "one"), ("x-thing", "two")]
        upstream.post("/v1/chat/completions", json=body, headers=headers)
        (call,) = self.calls(upstream)
        assert {key: call[key] for key in ("path", "model", "stream", "body_keys", "body")} == {
            "path": "/v1/chat/completions",
            "model": "demo-chat",
            "stream": True,
            "body_keys": ["messages", "model", "stream"],
            "body": body,
        }
        assert [value for name, value in call["headers"] if name == "x-thing"] == ["one", "two"]

    def test_faults_and_refused_calls_are_kept_too(self, upstream: httpx.Client) -> None:
        ask(upstream, "demo-500")
        upstream.post("/v1/chat/completions", content=b"{no")
        upstream.post("/v1/embeddings", json={"model": "demo-embed", "input": "hi"})
        upstream.get("/v1/models")
        assert upstream.post("/v1/nothing", json={"model": "demo-chat"}).status_code == 404
        assert [(call["path"], call["model"]) for call in self.calls(upstream)] == [
            ("/v1/chat/completions", "demo-500"),
            ("/v1/chat/completions", None),
            ("/v1/embeddings", "demo-embed"),
            ("/v1/models", None),
            ("/v1/nothing", "demo-chat"),
        ]

    def test_a_large_body_is_not_kept(self, upstream: httpx.Client) -> None:
        ask(upstream, "demo-chat", padding="x" * KEPT_BODY_BYTES)
        (call,) = self.calls(upstream)
        assert (call["path"], call["body"], call["body_keys"]) == ("/v1/chat/completions", None, [])

    def test_only_the_last_ones_are_kept(self, upstream: httpx.Client) -> None:
        for number in range(KEPT_CALLS + 3):
            upstream.get(f"/{number}")
        paths = [call["path"] for call in self.calls(upstream)]
        assert paths == [f"/{number}" for number in range(3, KEPT_CALLS + 3)]

    def test_health_is_not_a_call(self, upstream: httpx.Client) -> None:
        assert upstream.get("/health").json() == {"status": "ok"}
        assert self.calls(upstream) == []


class TestConfig:
    def test_the_demo_gateway_sells_every_model_at_a_price(self, litellm_config: Any) -> None:
        sold = [row["model_name"] for row in litellm_config["model_list"]]
        assert sold == list(BEHAVIOURS) == list(litellm_config["callback_settings"]["otrta"]["prices"])

    def test_each_is_bought_from_the_model_of_its_own_name(self, litellm_config: Any) -> None:
        for row in litellm_config["model_list"]:
            kind = {"demo-claude": "anthropic", "demo-rerank": "cohere"}.get(row["model_name"], "openai")
            assert row["litellm_params"]["model"] == f"{kind}/{row['model_name']}"
            assert row["litellm_params"]["api_base"] == "os.environ/OTRTA_UPSTREAM_URL"


class TestProcess:
    def test_a_taken_port_is_said_in_one_line(self, upstream: httpx.Client) -> None:
        command = [sys.executable, "-m", "otrta_cli.upstream", "--port", str(upstream.base_url.port)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert result.returncode == 1
        assert result.stderr.startswith("Error: cannot listen on 127.0.0.1:")
        assert result.stderr.count("\n") == 1

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
    def test_it_stops_at_once_with_a_call_running(self, how: signal.Signals) -> None:
        port = free_port()
        process = start(port)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            body = json.dumps({"model": "demo-hang", "messages": MESSAGES}).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            calls: list[Any] = []
            while not calls:
                calls = httpx.get(f"http://127.0.0.1:{port}/_calls", trust_env=False).json()["calls"]
            process.send_signal(how)
            assert process.wait(5) == 0
