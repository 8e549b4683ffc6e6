"""What the kinds of call have in common: to be asked of a model, waited for, and sent, whole or in parts."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

import anyio
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Send

from otrta_cli.upstream.behaviours import BEHAVIOURS, ORDINARY, Behaviour, Kind, Refusal
from otrta_cli.upstream.calls import received

CREATED = 1_700_000_000
PROMPT_TOKENS = 10
# A reader that meets the last bytes and the break at once may drop the bytes, so a cut stream waits first.
CUT_AFTER_S = 0.5
MAX_CHUNK_CHARACTERS = 250_000
NOT_JSON = "<html><body>This is not JSON.</body></html>"

Refuse = Callable[[int, str, str, str], Response]
"""Makes an error of a status, a kind, a code and a message."""


class Asked(Protocol):
    """A call that names its model."""

    @property
    def model(self) -> str:
        """The model asked."""


class AskedForWords(Asked, Protocol):
    """A call whose answer is words, which may come as a stream."""

    stream: bool | None

    @property
    def limit(self) -> int | None:
        """The most tokens of the answer."""


AnyAsked = TypeVar("AnyAsked", bound=Asked)
AnyWords = TypeVar("AnyWords", bound=AskedForWords)
AnyModel = TypeVar("AnyModel", bound=BaseModel)


def error_body(kind: str, code: str, message: str) -> dict[str, Any]:
    """An error in OpenAI's shape."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def refused(status: int, kind: str, code: str, message: str) -> Response:
    """An error in OpenAI's shape, with the header that goes with its status."""
    return JSONResponse(error_body(kind, code, message), status, retry_headers(status))


def retry_headers(status: int) -> dict[str, str] | None:
    """The headers that go with an error's status."""
    return {"retry-after": "1"} if status == 429 else None


def answering(
    kind: Kind,
    read: Callable[[Request], Awaitable[AnyAsked]],
    answer: Callable[[Behaviour, AnyAsked], Awaitable[Response]],
    refuse: Refuse = refused,
) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that asks the model named, by its behaviour, after its silence.

    Args:
        kind: which API it is.
        read: makes a call of the request; a wrong one is a ``ValidationError``.
        answer: makes the answer.
        refuse: makes an error.
    """

    async def endpoint(request: Request) -> Response:
        try:
            asked = await read(request)
        except ValidationError as failure:
            return refuse(400, "invalid_request_error", "invalid_request", str(failure))
        behaviour = BEHAVIOURS.get(asked.model)
        if behaviour is None or kind not in behaviour.serves:
            message = f"The model {asked.model!r} does not exist here, or not for {kind}."
            return refuse(404, "invalid_request_error", "model_not_found", message)
        refusal = behaviour.refusal or _failure(request, behaviour, asked.model)
        if refusal is not None:
            return refuse(refusal.status, refusal.kind, refusal.code, refusal.message)
        await anyio.sleep(behaviour.silence_s)
        return await answer(behaviour, asked)

    return endpoint


def in_words(
    body: Callable[[Behaviour, AnyWords], dict[str, Any]],
    events: Callable[[Behaviour, AnyWords], Iterable[tuple[float, bytes]]],
) -> Callable[[Behaviour, AnyWords], Awaitable[Response]]:
    """An answer that is streamed where that is asked for, and else whole, after the time of its words."""

    async def answer(behaviour: Behaviour, asked: AnyWords) -> Response:
        if asked.stream:
            return streamed(behaviour, events(behaviour, asked))
        await anyio.sleep(behaviour.word_s * behaviour.says(asked.limit).tokens)
        return plain(behaviour, body(behaviour, asked))

    return answer


def _failure(request: Request, behaviour: Behaviour, model: str) -> Refusal | None:
    """The error of a model that fails some times before it answers once."""
    failed: Counter[str] = request.app.state.failed
    if failed[model] >= behaviour.failures:
        del failed[model]
        return None
    failed[model] += 1
    return Refusal(500, "server_error", "internal_error", f"The upstream failed, time {failed[model]}.")


def json_of(asked: type[AnyModel]) -> Callable[[Request], Awaitable[AnyModel]]:
    """A reader of JSON bodies."""

    async def read(request: Request) -> AnyModel:
        return asked.model_validate_json(await received(request))

    return read


def usage_of(completion_tokens: int, behaviour: Behaviour = ORDINARY, thought: int = 0) -> dict[str, Any]:
    """The usage of a call with so many tokens of output, as chat completions state it."""
    cache = {"cached_tokens": behaviour.cached_tokens}
    if behaviour.cache_write_tokens:
        cache["cache_creation_tokens"] = behaviour.cache_write_tokens
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": completion_tokens,
        "total_tokens": PROMPT_TOKENS + completion_tokens,
        "prompt_tokens_details": {**cache, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": thought, "audio_tokens": 0},
    }


def stated(behaviour: Behaviour, usage: dict[str, Any]) -> dict[str, Any]:
    """The part of a plain answer that states its usage, as the model does it."""
    if behaviour.usage == "absent":
        return {}
    return {"usage": usage if behaviour.usage == "real" else None}


def event(data: str, name: str | None = None) -> bytes:
    """A server-sent event."""
    head = f"event: {name}\n" if name is not None else ""
    return f"{head}data: {data}\n\n".encode()


def pieces(text: str) -> Iterator[str]:
    """A word in parts that fit a line of a stream."""
    yield from (text[at : at + MAX_CHUNK_CHARACTERS] for at in range(0, len(text), MAX_CHUNK_CHARACTERS))


class CutResponse(StreamingResponse):
    """Sends the parts given and never ends the body, so that the connection closes in the middle."""

    async def stream_response(self, send: Send) -> None:
        """Send the head and the parts, without a last one."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for part in self.body_iterator:
            await send({"type": "http.response.body", "body": part, "more_body": True})


async def paced(chunks: Iterable[tuple[float, bytes]]) -> AsyncIterator[bytes]:
    """Send each chunk after the seconds before it."""
    for wait_s, chunk in chunks:
        await anyio.sleep(wait_s)
        yield chunk


def streamed(behaviour: Behaviour, chunks: Iterable[tuple[float, bytes]]) -> Response:
    """A stream of server-sent events, which a model that cuts never ends."""
    response = CutResponse if behaviour.cut else StreamingResponse
    return response(paced(chunks), media_type="text/event-stream")


def plain(behaviour: Behaviour, body: dict[str, Any]) -> Response:
    """A JSON answer: whole, cut in the middle, or no JSON at all."""
    return whole(behaviour, bytes(JSONResponse(body).body) if behaviour.json else NOT_JSON.encode())


def whole(behaviour: Behaviour, content: bytes, media_type: str = "application/json") -> Response:
    """An answer of these bytes, or of the first half of them."""
    if behaviour.cut:
        parts = iter([content[: len(content) // 2]])
        head = {"content-length": str(len(content))}
        return CutResponse(parts, headers=head, media_type=media_type)
    return Response(content, media_type=media_type)
