"""A small OpenAI-compatible LLM upstream whose model names pick how it behaves.

`python -m otrta_cli.upstream --port 4010` serves `/v1/chat/completions`, `/v1/embeddings` and
`/v1/models` to the demo and the tests. Answers are the same each time, so that a streamed answer can be
compared with a plain one. `BEHAVIOURS` is the table of models; pure functions turn a behaviour and a
request into bodies and timed chunks; the handlers only wait and send.

`GET /_calls` lists the requests received last and `DELETE /_calls` forgets them: with it a test proves
what did, and what did not, reach an upstream.
"""

import base64
import json
import signal
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import anyio
import click
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Send

PROMPT_TOKENS = 10
KEPT_CALLS = 200
KEPT_BODY_BYTES = 100_000
MAX_CHUNK_CHARACTERS = 250_000
# A reader that meets the last bytes and the break at once may drop the bytes, so a cut stream waits first.
CUT_AFTER_S = 0.5
NOT_JSON = "<html><body>This is not JSON.</body></html>"
EMBEDDING = (0.5, -0.25, 0.125, 0.0, 1.0, -1.0, 0.75, -0.5)

_Kind = Literal["chat", "embeddings"]
_CREATED = 1_700_000_000


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split("|"))


_WORDS = _words(
    "Each| word| of| this| answer| is| one| token| ,| café|"
    " and| 日本| too| ,| so| twenty| words| cost| twenty| tokens"
)
_LIKE_A_STREAM = _words(
    'Lines| that| look| like| a| stream|:\n\n|data: [DONE]\n\n|data:| {"usage": null}|\n\n|'
    ": otrta paid=1 cost=1 fee=0 change=0\n|: x-cashu cashuBnot-a-token\n\n|event: error\n|"
    "data:text|\n\n|and| no| more|."
)
_BIG = ("50 MB " * 416_667)[:2_500_000]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error that a model answers every call with."""

    status: int
    kind: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a model behaves; the defaults are those of an ordinary one.

    Attributes:
        serves: The endpoints that know the model.
        words: The answer, one completion token each.
        silence_s: Time before the first byte.
        word_s: Time before each word; a plain answer waits for all of them.
        usage: Whether the answer tells the truth about usage, leaves it out, or says `null`.
        refusal: The error answered instead.
        cut: The connection closes in the middle of the answer.
        json: Whether a 200 carries JSON.
    """

    serves: frozenset[_Kind] = frozenset({"chat"})
    words: tuple[str, ...] = _WORDS
    silence_s: float = 0.0
    word_s: float = 0.0
    usage: Literal["real", "absent", "null"] = "real"
    refusal: Refusal | None = None
    cut: bool = False
    json: bool = True


_BOTH: frozenset[_Kind] = frozenset({"chat", "embeddings"})
_BROKEN = Refusal(500, "server_error", "internal_error", "The upstream failed, as demo-500 always does.")
_LIMITED = Refusal(429, "requests", "rate_limit_exceeded", "Too many requests, as demo-429 always says.")

BEHAVIOURS: Mapping[str, Behaviour] = {
    "demo-chat": Behaviour(),
    "demo-slow": Behaviour(word_s=0.1),
    "demo-embed": Behaviour(serves=frozenset({"embeddings"})),
    "demo-500": Behaviour(serves=_BOTH, refusal=_BROKEN),
    "demo-429": Behaviour(serves=_BOTH, refusal=_LIMITED),
    "demo-hang": Behaviour(serves=_BOTH, silence_s=15.0),
    "demo-cut": Behaviour(serves=_BOTH, cut=True),
    "demo-nousage": Behaviour(serves=_BOTH, usage="absent"),
    "demo-nullusage": Behaviour(serves=_BOTH, usage="null"),
    "demo-big": Behaviour(words=(_BIG,) * 20),
    "demo-badjson": Behaviour(serves=_BOTH, json=False),
    "demo-datatext": Behaviour(words=_LIKE_A_STREAM),
}


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


class EmbeddingRequest(BaseModel):
    """The part of an embeddings body that bears on the answer."""

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = None

    @property
    def inputs(self) -> int:
        """How many texts are embedded: a flat list of token numbers is one."""
        if isinstance(self.input, str) or any(isinstance(item, int) for item in self.input):
            return 1
        return len(self.input)


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
        "created": _CREATED,
        "model": request.model,
        "choices": [{"index": index, **choice} for index in range(request.choices)],
    }
    return body | _plain_usage(behaviour, _usage(len(words) * request.choices))


def chat_chunks(behaviour: Behaviour, request: ChatRequest) -> Iterator[tuple[float, bytes]]:
    """The server-sent events of a streamed chat call, each after the seconds to wait before it.

    Usage comes as OpenAI sends it, on a last chunk without choices and only when asked for; the model
    that says `null` sends the true usage unasked and takes it back with one chunk more.
    """
    if not behaviour.json:
        yield 0.0, _event(NOT_JSON)
        return
    null_usage = behaviour.usage == "null" or (behaviour.usage == "real" and request.wants_usage)
    common = {
        "id": f"chatcmpl-{request.model}",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": request.model,
    }

    def chunk(choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
        told = {"usage": usage} if usage is not None or null_usage else {}
        return _event(json.dumps({**common, "choices": choices, **told}, ensure_ascii=False))

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
        yield 0.0, chunk([], _usage(len(words) * request.choices))
    if behaviour.usage == "null":
        yield 0.0, chunk([])
    yield 0.0, _event("[DONE]")


def embeddings_body(behaviour: Behaviour, request: EmbeddingRequest) -> dict[str, Any]:
    """The whole answer to an embeddings call: the same vector for every text."""
    packed = base64.b64encode(struct.pack(f"<{len(EMBEDDING)}f", *EMBEDDING)).decode()
    vector = packed if request.encoding_format == "base64" else list(EMBEDDING)
    body = {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": vector} for i in range(request.inputs)],
        "model": request.model,
    }
    return body | _plain_usage(behaviour, {"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS})


def error_body(kind: str, code: str, message: str) -> dict[str, Any]:
    """An error in OpenAI's shape."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _usage(completion_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": completion_tokens,
        "total_tokens": PROMPT_TOKENS + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _plain_usage(behaviour: Behaviour, usage: dict[str, Any]) -> dict[str, Any]:
    if behaviour.usage == "absent":
        return {}
    return {"usage": usage if behaviour.usage == "real" else None}


def _finish_reason(behaviour: Behaviour, words: tuple[str, ...]) -> str:
    return "stop" if len(words) == len(behaviour.words) else "length"


def _event(data: str) -> bytes:
    return f"data: {data}\n\n".encode()


class CutResponse(StreamingResponse):
    """Sends the parts given and never ends the body, so that the connection closes in the middle."""

    async def stream_response(self, send: Send) -> None:
        """Send the head and the parts, without a last one."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for part in self.body_iterator:
            await send({"type": "http.response.body", "body": part, "more_body": True})


async def _paced(chunks: Iterable[tuple[float, bytes]]) -> AsyncIterator[bytes]:
    for wait_s, chunk in chunks:
        await anyio.sleep(wait_s)
        yield chunk


def _plain(behaviour: Behaviour, body: dict[str, Any]) -> Response:
    whole = JSONResponse(body).body if behaviour.json else NOT_JSON.encode()
    if behaviour.cut:
        parts = iter([bytes(whole[: len(whole) // 2])])
        head = {"content-length": str(len(whole))}
        return CutResponse(parts, headers=head, media_type="application/json")
    return Response(whole, media_type="application/json")


def _refused(status: int, kind: str, code: str, message: str) -> Response:
    headers = {"retry-after": "1"} if status == 429 else None
    return JSONResponse(error_body(kind, code, message), status, headers)


def _behaviour(kind: _Kind, model: str) -> Behaviour | Response:
    behaviour = BEHAVIOURS.get(model)
    if behaviour is None or kind not in behaviour.serves:
        message = f"The model {model!r} does not exist here, or not for {kind}."
        return _refused(404, "invalid_request_error", "model_not_found", message)
    if behaviour.refusal is not None:
        refusal = behaviour.refusal
        return _refused(refusal.status, refusal.kind, refusal.code, refusal.message)
    return behaviour


async def _received(request: Request) -> bytes:
    raw = await request.body()
    try:
        body = json.loads(raw) if len(raw) <= KEPT_BODY_BYTES else None
    except ValueError:
        body = None
    fields = body if isinstance(body, dict) else {}
    call = {
        "path": request.url.path,
        "model": fields.get("model"),
        "stream": fields.get("stream") is True,
        "headers": request.headers.items(),
        "body_keys": sorted(fields),
        "body": body,
    }
    request.app.state.calls.append(call)
    return raw


async def _chat(request: Request) -> Response:
    try:
        asked = ChatRequest.model_validate_json(await _received(request))
    except ValidationError as failure:
        return _refused(400, "invalid_request_error", "invalid_request", str(failure))
    behaviour = _behaviour("chat", asked.model)
    if isinstance(behaviour, Response):
        return behaviour
    await anyio.sleep(behaviour.silence_s)
    if asked.stream:
        response = CutResponse if behaviour.cut else StreamingResponse
        return response(_paced(chat_chunks(behaviour, asked)), media_type="text/event-stream")
    await anyio.sleep(behaviour.word_s * len(asked.cut_to_limit(behaviour.words)))
    return _plain(behaviour, chat_body(behaviour, asked))


async def _embeddings(request: Request) -> Response:
    try:
        asked = EmbeddingRequest.model_validate_json(await _received(request))
    except ValidationError as failure:
        return _refused(400, "invalid_request_error", "invalid_request", str(failure))
    behaviour = _behaviour("embeddings", asked.model)
    if isinstance(behaviour, Response):
        return behaviour
    await anyio.sleep(behaviour.silence_s)
    return _plain(behaviour, embeddings_body(behaviour, asked))


async def _models(request: Request) -> Response:
    await _received(request)
    rows = [{"id": name, "object": "model", "created": _CREATED, "owned_by": "otrta"} for name in BEHAVIOURS]
    return JSONResponse({"object": "list", "data": rows})


async def _unknown(request: Request) -> Response:
    await _received(request)
    message = f"{request.method} {request.url.path} is not served."
    return _refused(404, "invalid_request_error", "unknown_url", message)


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _calls(request: Request) -> Response:
    calls: deque[dict[str, Any]] = request.app.state.calls
    if request.method == "DELETE":
        calls.clear()
    return JSONResponse({"calls": list(calls)})


def make_app() -> Starlette:
    """The upstream as an ASGI application, with no calls received yet."""
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", _chat, methods=["POST"]),
            Route("/v1/embeddings", _embeddings, methods=["POST"]),
            Route("/v1/models", _models),
            Route("/health", _health),
            Route("/_calls", _calls, methods=["GET", "DELETE"]),
            Route("/{path:path}", _unknown, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]),
        ]
    )
    app.state.calls = deque(maxlen=KEPT_CALLS)
    return app


async def _until_told_to_stop() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=4010, show_default=True, help="Port to listen on.")
def main(host: str, port: int) -> None:
    """Serve an OpenAI-compatible upstream whose model names pick its faults."""
    try:
        listener = socket.create_server((host, port))
    except OSError as failure:
        raise click.ClickException(f"cannot listen on {host}:{port}: {failure.strerror}") from failure
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.graceful_timeout = 0.0
    # A connection closed while idle would fail a pooled client's next call: a fault that no model has.
    config.keep_alive_timeout = 3600.0
    config.keep_alive_max_requests = 1_000_000_000
    trio.run(lambda: serve(make_app(), config, shutdown_trigger=_until_told_to_stop))


if __name__ == "__main__":
    main()
