"""Chat completions, plain and streamed."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, Field
from starlette.routing import Route

from otrta_cli.upstream.behaviours import TOOL, Behaviour, Said
from otrta_cli.upstream.sending import (
    CREATED,
    CUT_AFTER_S,
    NOT_JSON,
    answering,
    event,
    in_words,
    json_of,
    pieces,
    stated,
    usage_of,
)


class StreamOptions(BaseModel):
    """The part of `stream_options` that bears on the answer."""

    include_usage: bool | None = None


class ChatRequest(BaseModel):
    """The part of a chat body that bears on the answer."""

    model: str
    messages: list[dict[str, Any]]
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    n: int | None = Field(default=None, ge=1, le=128)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def choices(self) -> int:
        """How many answers are asked for."""
        return self.n or 1

    @property
    def wants_usage(self) -> bool:
        """Whether a stream shall end with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage is True

    @property
    def limit(self) -> int | None:
        """The largest limit given, if any."""
        limits = (self.max_tokens, self.max_completion_tokens)
        return max((limit for limit in limits if limit is not None), default=None)


def chat_body(behaviour: Behaviour, request: ChatRequest) -> dict[str, Any]:
    """The whole answer to a plain chat call."""
    said = behaviour.says(request.limit)
    message: dict[str, Any] = {"role": "assistant", "content": "".join(said.words), "refusal": None}
    if behaviour.calls_tool:
        message |= {"content": None, "tool_calls": [_tool_call(0, "".join(said.words))]}
    if said.thought:
        message["reasoning_content"] = "".join(said.thought)
    choice = {"message": message, "logprobs": None, "finish_reason": _finish_reason(behaviour, said)}
    body = {
        "id": f"chatcmpl-{request.model}",
        "object": "chat.completion",
        "created": CREATED,
        "model": request.model,
        "choices": [{"index": index, **choice} for index in range(request.choices)],
    }
    return body | stated(behaviour, _usage(behaviour, said, request))


def chat_chunks(behaviour: Behaviour, request: ChatRequest) -> Iterator[tuple[float, bytes]]:
    """The server-sent events of a streamed chat call, each after the seconds to wait before it.

    Usage comes as OpenAI sends it, on a last chunk without choices and only when asked for; the model
    that says `null` sends the true usage unasked and takes it back with one chunk more.
    """
    if not behaviour.json:
        yield 0.0, event(NOT_JSON)
        return
    null_usage = behaviour.usage == "null" or (behaviour.usage == "real" and request.wants_usage)
    common = {
        "id": f"chatcmpl-{request.model}",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": request.model,
    }

    def chunk(choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
        told = {"usage": usage} if usage is not None or null_usage else {}
        return event(json.dumps({**common, "choices": choices, **told}, ensure_ascii=False))

    def choice(index: int, delta: dict[str, Any], finish_reason: str | None = None) -> list[dict[str, Any]]:
        return [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]

    whole = behaviour.says(request.limit)
    said = whole.cut() if behaviour.cut else whole
    indices = range(request.choices)
    for index in indices:
        yield 0.0, chunk(choice(index, {"role": "assistant", "content": ""}))
        if behaviour.calls_tool:
            yield 0.0, chunk(choice(index, {"tool_calls": [_tool_call(0, "")]}))
    thought = (("reasoning_content", word) for word in said.thought)
    for name, word in (*thought, *(("content", word) for word in said.words)):
        wait_s = behaviour.word_s
        for index in indices:
            for part in pieces(word):
                delta: dict[str, Any] = {name: part}
                if behaviour.calls_tool:
                    delta = {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}
                yield wait_s, chunk(choice(index, delta))
                wait_s = 0.0
    if behaviour.cut:
        yield CUT_AFTER_S, b""
        return
    for index in indices:
        yield 0.0, chunk(choice(index, {}, _finish_reason(behaviour, said)))
    if null_usage:
        yield 0.0, chunk([], _usage(behaviour, said, request))
    if behaviour.usage == "null":
        yield 0.0, chunk([])
    yield 0.0, event("[DONE]")


def _usage(behaviour: Behaviour, said: Said, request: ChatRequest) -> dict[str, Any]:
    return usage_of(said.tokens * request.choices, behaviour, len(said.thought) * request.choices)


def _tool_call(index: int, arguments: str) -> dict[str, Any]:
    called = {"name": TOOL, "arguments": arguments}
    return {"index": index, "id": "call-1", "type": "function", "function": called}


def _finish_reason(behaviour: Behaviour, said: Said) -> str:
    if not said.whole:
        return "length"
    return "tool_calls" if behaviour.calls_tool else "stop"


_answer = in_words(chat_body, chat_chunks)

ROUTES = [
    Route("/v1/chat/completions", answering("chat", json_of(ChatRequest), _answer), methods=["POST"]),
]
