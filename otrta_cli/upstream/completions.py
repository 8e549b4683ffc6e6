"""Text completions, plain and streamed."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, Field
from starlette.routing import Route

from otrta_cli.upstream.behaviours import Behaviour
from otrta_cli.upstream.chat import StreamOptions
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


class CompletionRequest(BaseModel):
    """The part of a completion's body that bears on the answer."""

    model: str
    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: int | None = Field(default=None, ge=1)
    n: int | None = Field(default=None, ge=1, le=128)
    echo: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def limit(self) -> int | None:
        """The most tokens of the answer."""
        return self.max_tokens

    @property
    def prompts(self) -> list[str]:
        """The prompts, each a text; token numbers come back as they are written."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if all(isinstance(item, int) for item in self.prompt):
            return [str(self.prompt)]
        return [str(item) for item in self.prompt]

    @property
    def starts(self) -> list[str]:
        """What each choice begins with: nothing, or the prompt where it is to come back."""
        return [prompt if self.echo else "" for prompt in self.prompts for _ in range(self.n or 1)]


def completion_body(behaviour: Behaviour, request: CompletionRequest) -> dict[str, Any]:
    """The whole answer to a plain call."""
    said = behaviour.says(request.limit)
    text, reason = "".join([*said.thought, *said.words]), "stop" if said.whole else "length"
    choices = [
        {"index": index, "text": start + text, "logprobs": None, "finish_reason": reason}
        for index, start in enumerate(request.starts)
    ]
    usage = usage_of(said.tokens * len(choices), behaviour, len(said.thought) * len(choices))
    return {**_common(request), "choices": choices} | stated(behaviour, usage)


def completion_chunks(behaviour: Behaviour, request: CompletionRequest) -> Iterator[tuple[float, bytes]]:
    """The events of a streamed call, each after the seconds to wait before it."""
    if not behaviour.json:
        yield 0.0, event(NOT_JSON)
        return
    wants = request.stream_options is not None and request.stream_options.include_usage is True
    null_usage = behaviour.usage == "null" or (behaviour.usage == "real" and wants)

    def chunk(choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
        told = {"usage": usage} if usage is not None or null_usage else {}
        return event(json.dumps({**_common(request), "choices": choices, **told}, ensure_ascii=False))

    def choice(index: int, text: str, finish_reason: str | None = None) -> list[dict[str, Any]]:
        return [{"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}]

    whole = behaviour.says(request.limit)
    said = whole.cut() if behaviour.cut else whole
    for index, start in enumerate(request.starts):
        if start:
            yield 0.0, chunk(choice(index, start))
    for word in [*said.thought, *said.words]:
        wait_s = behaviour.word_s
        for index in range(len(request.starts)):
            for part in pieces(word):
                yield wait_s, chunk(choice(index, part))
                wait_s = 0.0
    if behaviour.cut:
        yield CUT_AFTER_S, b""
        return
    for index in range(len(request.starts)):
        yield 0.0, chunk(choice(index, "", "stop" if said.whole else "length"))
    if null_usage:
        choices = len(request.starts)
        yield 0.0, chunk([], usage_of(said.tokens * choices, behaviour, len(said.thought) * choices))
    if behaviour.usage == "null":
        yield 0.0, chunk([])
    yield 0.0, event("[DONE]")


def _common(request: CompletionRequest) -> dict[str, Any]:
    return {
        "id": f"cmpl-{request.model}",
        "object": "text_completion",
        "created": CREATED,
        "model": request.model,
    }


_answer = in_words(completion_body, completion_chunks)

ROUTES = [
    Route("/v1/completions", answering("completions", json_of(CompletionRequest), _answer), methods=["POST"]),
]
