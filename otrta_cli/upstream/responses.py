"""OpenAI's Responses, plain and streamed."""

import itertools
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
    PROMPT_TOKENS,
    answering,
    event,
    in_words,
    json_of,
    pieces,
    stated,
)


class ResponsesRequest(BaseModel):
    """The part of a body that bears on the answer."""

    model: str
    input: str | list[dict[str, Any]]
    max_output_tokens: int | None = Field(default=None, ge=1)
    stream: bool | None = None

    @property
    def limit(self) -> int | None:
        """The most tokens of the answer."""
        return self.max_output_tokens


def response_body(behaviour: Behaviour, request: ResponsesRequest) -> dict[str, Any]:
    """The whole answer to a plain call."""
    said = behaviour.says(request.limit)
    return _response(request, said, _items(behaviour, said)) | stated(behaviour, _usage(behaviour, said))


def response_events(behaviour: Behaviour, request: ResponsesRequest) -> Iterator[tuple[float, bytes]]:
    """The events of a streamed call, each after the seconds to wait before it.

    What the answer is as a whole, its usage with it, comes once more in the last event. The model that
    says `null` states its usage there and sends the event again without.
    """
    if not behaviour.json:
        yield 0.0, event(NOT_JSON)
        return
    numbers = itertools.count()

    def sent(kind: str, **fields: Any) -> bytes:
        numbered = {"type": kind, "sequence_number": next(numbers), **fields}
        return event(json.dumps(numbered, ensure_ascii=False), kind)

    whole = behaviour.says(request.limit)
    said = whole.cut() if behaviour.cut else whole
    begun = _response(request, None, []) | {"usage": None}
    yield 0.0, sent("response.created", response=begun)
    yield 0.0, sent("response.in_progress", response=begun)
    for at, (item, kind, words) in enumerate(_parts(behaviour, said)):
        yield 0.0, sent("response.output_item.added", output_index=at, item=item)
        place = {"item_id": item["id"], "output_index": at, _INDEX.get(item["type"], "content_index"): 0}
        for word in words:
            wait_s = behaviour.word_s
            for part in pieces(word):
                yield wait_s, sent(f"{kind}.delta", **place, delta=part)
                wait_s = 0.0
        if behaviour.cut and item["type"] != "reasoning":
            yield CUT_AFTER_S, b""
            return
        name = "arguments" if item["type"] == "function_call" else "text"
        yield 0.0, sent(f"{kind}.done", **place, **{name: "".join(words)})
        yield 0.0, sent("response.output_item.done", output_index=at, item=_items(behaviour, said)[at])
    done = _response(request, said, _items(behaviour, said))
    name = "response.completed" if said.whole else "response.incomplete"
    usage = {} if behaviour.usage == "absent" else {"usage": _usage(behaviour, said)}
    yield 0.0, sent(name, response=done | usage)
    if behaviour.usage == "null":
        yield 0.0, sent(name, response=done | {"usage": None})


_INDEX = {"reasoning": "summary_index"}


def _parts(behaviour: Behaviour, said: Said) -> Iterator[tuple[dict[str, Any], str, tuple[str, ...]]]:
    """Each output item as it begins, what its deltas are called, and what they say."""
    if said.thought:
        reasoning = {"type": "reasoning", "id": "rs_1", "summary": []}
        yield reasoning, "response.reasoning_summary_text", said.thought
    if behaviour.calls_tool:
        call = {"type": "function_call", "id": "fc_1", "call_id": "call-1", "name": TOOL, "arguments": ""}
        yield call | {"status": "in_progress"}, "response.function_call_arguments", said.words
    else:
        message = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
        yield message | {"status": "in_progress"}, "response.output_text", said.words


def _items(behaviour: Behaviour, said: Said) -> list[dict[str, Any]]:
    items = []
    for item, _, words in _parts(behaviour, said):
        text = "".join(words)
        match item["type"]:
            case "reasoning":
                items.append(item | {"summary": [{"type": "summary_text", "text": text}]})
            case "function_call":
                items.append(item | {"arguments": text, "status": "completed"})
            case _:
                content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
                items.append(item | {"content": content, "status": "completed"})
    return items


def _response(request: ResponsesRequest, said: Said | None, output: list[dict[str, Any]]) -> dict[str, Any]:
    status = "in_progress" if said is None else "completed" if said.whole else "incomplete"
    return {
        "id": f"resp_{request.model}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "metadata": {},
        "model": request.model,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
    }


def _usage(behaviour: Behaviour, said: Said) -> dict[str, Any]:
    return {
        "input_tokens": PROMPT_TOKENS,
        "input_tokens_details": {"cached_tokens": behaviour.cached_tokens},
        "output_tokens": said.tokens,
        "output_tokens_details": {"reasoning_tokens": len(said.thought)},
        "total_tokens": PROMPT_TOKENS + said.tokens,
    }


_answer = in_words(response_body, response_events)

ROUTES = [
    Route("/v1/responses", answering("responses", json_of(ResponsesRequest), _answer), methods=["POST"]),
]
