"""Chat completions, plain and streamed."""

import json
from collections.abc import Iterator
from typing import Any

import anyio
from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.routing import Route

from otrta_cli.upstream.behaviours import Behaviour
from otrta_cli.upstream.sending import (
    CREATED,
    CUT_AFTER_S,
    MAX_CHUNK_CHARACTERS,
    NOT_JSON,
    answering,
    event,
    json_of,
    plain,
    stated,
    streamed,
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

    def cut_to_limit(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """The words that the largest limit given lets through: all of them without one."""
        limits = [limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None]
        return words[: max(limits)] if limits else words


def chat_body(behaviour: Behaviour, request: ChatRequest) -> dict[str, Any]:
    """The whole answer to a plain chat call."""
    words = request.cut_to_limit(behaviour.words)
    choice = {
        "message": {"role": "assistant", "content": "".join(words), "refusal": None},
        "logprobs": None,
        "finish_reason": _finish_reason(behaviour, words),
    }
    body = {
        "id": f"chatcmpl-{request.model}",
        "object": "chat.completion",
        "created": CREATED,
        "model": request.model,
        "choices": [{"index": index, **choice} for index in range(request.choices)],
    }
    return body | stated(behaviour, usage_of(len(words) * request.choices))


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

    words = request.cut_to_limit(behaviour.words)
    indices = range(request.choices)
    for index in indices:
        yield 0.0, chunk(choice(index, {"role": "assistant", "content": ""}))
    for word in words[: (len(words) + 1) // 2] if behaviour.cut else words:
        wait_s = behaviour.word_s
        for index in indices:
            for start in range(0, len(word), MAX_CHUNK_CHARACTERS):
                yield wait_s, chunk(choice(index, {"content": word[start : start + MAX_CHUNK_CHARACTERS]}))
                wait_s = 0.0
    if behaviour.cut:
        yield CUT_AFTER_S, b""
        return
    for index in indices:
        yield 0.0, chunk(choice(index, {}, _finish_reason(behaviour, words)))
    if null_usage:
        yield 0.0, chunk([], usage_of(len(words) * request.choices))
    if behaviour.usage == "null":
        yield 0.0, chunk([])
    yield 0.0, event("[DONE]")


def _finish_reason(behaviour: Behaviour, words: tuple[str, ...]) -> str:
    return "stop" if len(words) == len(behaviour.words) else "length"


async def _answer(behaviour: Behaviour, asked: ChatRequest) -> Response:
    if asked.stream:
        return streamed(behaviour, chat_chunks(behaviour, asked))
    await anyio.sleep(behaviour.word_s * len(asked.cut_to_limit(behaviour.words)))
    return plain(behaviour, chat_body(behaviour, asked))


ROUTES = [
    Route("/v1/chat/completions", answering("chat", json_of(ChatRequest), _answer), methods=["POST"]),
]
