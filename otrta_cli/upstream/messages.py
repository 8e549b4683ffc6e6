"""Anthropic's Messages, plain and streamed."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from otrta_cli.upstream.behaviours import TOOL, Behaviour, Said
from otrta_cli.upstream.sending import (
    CUT_AFTER_S,
    NOT_JSON,
    PROMPT_TOKENS,
    answering,
    event,
    in_words,
    json_of,
    pieces,
    retry_headers,
)

_ERROR_TYPES = {
    400: "invalid_request_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
}


class MessagesRequest(BaseModel):
    """The part of a body that bears on the answer."""

    model: str
    messages: list[dict[str, Any]]
    max_tokens: int = Field(ge=1)
    stream: bool | None = None

    @property
    def limit(self) -> int | None:
        """The most tokens of the answer."""
        return self.max_tokens


def message_body(behaviour: Behaviour, request: MessagesRequest) -> dict[str, Any]:
    """The whole answer to a plain call."""
    said = behaviour.says(request.limit)
    usage = _usage(behaviour) | {"output_tokens": said.tokens}
    body = _message(request, _blocks(behaviour, said), _stop_reason(behaviour, said))
    if behaviour.usage == "absent":
        return body
    return body | {"usage": usage if behaviour.usage == "real" else None}


def message_events(behaviour: Behaviour, request: MessagesRequest) -> Iterator[tuple[float, bytes]]:
    """The events of a streamed call, each after the seconds to wait before it.

    The prompt is stated at the start, the output at the end; the model that says `null` takes both back.
    """
    if not behaviour.json:
        yield 0.0, event(NOT_JSON)
        return
    states = behaviour.usage != "absent"

    def sent(kind: str, **fields: Any) -> bytes:
        return event(json.dumps({"type": kind, **fields}, ensure_ascii=False), kind)

    def delta(said: Said, usage: dict[str, Any] | None) -> bytes:
        told = {"usage": usage} if states else {}
        stop = {"stop_reason": _stop_reason(behaviour, said), "stop_sequence": None}
        return sent("message_delta", delta=stop, **told)

    whole = behaviour.says(request.limit)
    said = whole.cut() if behaviour.cut else whole
    begun = {"usage": _usage(behaviour) | {"output_tokens": 1}} if states else {}
    yield 0.0, sent("message_start", message=_message(request, [], None) | begun)
    yield 0.0, sent("ping")
    for index, (block, name, words) in enumerate(_parts(behaviour, said)):
        yield 0.0, sent("content_block_start", index=index, content_block=block)
        kind = "input_json_delta" if name == "partial_json" else f"{name}_delta"
        for word in words:
            wait_s = behaviour.word_s
            for part in pieces(word):
                yield wait_s, sent("content_block_delta", index=index, delta={"type": kind, name: part})
                wait_s = 0.0
        if behaviour.cut:
            yield CUT_AFTER_S, b""
            return
        yield 0.0, sent("content_block_stop", index=index)
    yield 0.0, delta(said, {"output_tokens": said.tokens})
    if behaviour.usage == "null":
        yield 0.0, delta(said, None)
    yield 0.0, sent("message_stop")


def _message(request: MessagesRequest, content: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
    return {
        "id": f"msg_{request.model}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
    }


def _usage(behaviour: Behaviour) -> dict[str, Any]:
    """The prompt as Anthropic counts it: what the cache had or got is beside the input, not in it."""
    return {
        "input_tokens": PROMPT_TOKENS - behaviour.cached_tokens - behaviour.cache_write_tokens,
        "cache_read_input_tokens": behaviour.cached_tokens,
        "cache_creation_input_tokens": behaviour.cache_write_tokens,
    }


def _parts(behaviour: Behaviour, said: Said) -> Iterator[tuple[dict[str, Any], str, tuple[str, ...]]]:
    """Each block as it begins, the name of what it says, and what that is."""
    if said.thought:
        yield {"type": "thinking", "thinking": "", "signature": ""}, "thinking", said.thought
    if behaviour.calls_tool:
        yield {"type": "tool_use", "id": "toolu_1", "name": TOOL, "input": {}}, "partial_json", said.words
    else:
        yield {"type": "text", "text": ""}, "text", said.words


def _blocks(behaviour: Behaviour, said: Said) -> list[dict[str, Any]]:
    blocks = []
    for block, name, words in _parts(behaviour, said):
        text = "".join(words)
        if name == "partial_json":
            blocks.append(block | {"input": json.loads(text) if said.whole else {}})
        else:
            blocks.append(block | {name: text})
    return blocks


def _stop_reason(behaviour: Behaviour, said: Said) -> str:
    if not said.whole:
        return "max_tokens"
    return "tool_use" if behaviour.calls_tool else "end_turn"


def _refused(status: int, kind: str, code: str, message: str) -> Response:
    error = {"type": _ERROR_TYPES.get(status, kind), "message": message}
    return JSONResponse({"type": "error", "error": error}, status, retry_headers(status))


_answer = in_words(message_body, message_events)

_endpoint = answering("messages", json_of(MessagesRequest), _answer, _refused)

ROUTES = [
    Route("/v1/messages", _endpoint, methods=["POST"]),
    # LiteLLM's Anthropic client adds its path to a base that ends in /v1, as OpenAI's are written.
    Route("/v1/v1/messages", _endpoint, methods=["POST"]),
]
