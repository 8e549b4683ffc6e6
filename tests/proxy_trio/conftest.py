"""A scripted gateway on a real socket, a payer that records, and a proxy between them."""

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace

import pytest
import trio
from pytest_trio import trio_fixture

from proxy_trio.app import build_app
from proxy_trio.change_filter import Comment
from proxy_trio.payer import Attempt, Call, Head, Outcome
from proxy_trio.serve import serve
from proxy_trio.settings import ForwardSettings, GuardSettings

TOKEN = "cashuBsecretpayment"


@dataclass
class Seen:
    """A request as the gateway got it."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def target(self):
        return self.line.split(" ")[1]


Script = Callable[[trio.SocketStream, Seen], Awaitable[None]]


@dataclass
class ScriptedGateway:
    """Answers the n-th request with the n-th script, byte for byte as the script writes it."""

    scripts: list[Script] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    url: str = ""

    async def handle(self, stream):
        async with stream:
            try:
                seen = await self._read(stream)
                self.seen.append(seen)
                await self.scripts[len(self.seen) - 1](stream, seen)
            except trio.BrokenResourceError:
                pass

    async def _read(self, stream):
        data = b""
        while b"\r\n\r\n" not in data:
            more = await stream.receive_some()
            if not more:
                raise trio.BrokenResourceError
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        line, *rows = head.decode("latin-1").split("\r\n")
        headers = [(name.lower(), value) for name, _, value in (row.partition(": ") for row in rows)]
        length = int(dict(headers).get("content-length", 0))
        while len(body) < length:
            body += await stream.receive_some()
        return Seen(line, headers, body)


def answer(status, headers, body):
    """A script that writes one whole answer and closes."""

    async def script(stream, _seen):
        rows = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        await stream.send_all(f"HTTP/1.1 {status} Status\r\n{rows}\r\n".encode("latin-1") + body)

    return script


def pieces(headers, *parts):
    """A script that writes a chunked answer; an Event among the parts is waited for."""

    async def script(stream, _seen):
        rows = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        await stream.send_all(
            f"HTTP/1.1 200 OK\r\n{rows}Transfer-Encoding: chunked\r\n\r\n".encode("latin-1")
        )
        for part in parts:
            if isinstance(part, trio.Event):
                await part.wait()
            else:
                await stream.send_all(b"%x\r\n%s\r\n" % (len(part), part))
        await stream.send_all(b"0\r\n\r\n")

    return script


@dataclass
class RecordingPayer:
    """Pays with a fixed token and notes what it is told; ``on`` runs code at a named call."""

    gateway_url: str
    retries: list[Attempt | None] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    heads: list[Head] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    on: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    ended: trio.Event = field(default_factory=trio.Event)

    async def _note(self, name, attempt=None):
        self.events.append(name if attempt is None else f"{name} {attempt.payment_id}")
        if name in self.on:
            await self.on[name]()

    async def open(self, call):
        self.calls.append(call)
        await self._note("open")
        token = TOKEN if call.payable else None
        return Attempt(payment_id="p1", gateway_url=self.gateway_url, token=token)

    async def on_head(self, attempt, head):
        self.heads.append(head)
        await self._note("head", attempt)

    async def on_comment(self, attempt, comment):
        self.comments.append(comment)
        await self._note("comment", attempt)

    async def on_end(self, attempt, outcome):
        self.outcomes.append(outcome)
        await self._note("end", attempt)
        self.ended.set()

    async def retry(self, call, attempt, outcome):
        await self._note("retry", attempt)
        return self.retries.pop(0) if self.retries else None


@trio_fixture
async def gateway(nursery):
    scripted = ScriptedGateway()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    scripted.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    nursery.start_soon(trio.serve_listeners, scripted.handle, listeners)
    return scripted


@trio_fixture
async def payer(gateway):
    return RecordingPayer(gateway.url)


@trio_fixture
async def start_proxy(nursery, payer):
    async def start(*, stop=None, guard=None, routes=(), **settings):
        app = build_app(
            payer, forward=ForwardSettings(**settings), guard=guard or GuardSettings(), routes=routes
        )
        return await nursery.start(partial(serve, app, 0, stop=stop))

    return start


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def script():
    """The ways to write an answer, for tests that cannot import this file by name."""
    return SimpleNamespace(answer=answer, pieces=pieces)
