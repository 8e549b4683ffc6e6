"""Callers, and a LiteLLM that does what a test tells it, on both sides of a real gate with a real store."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio

from otrta_core import Token
from otrta_litellm.admission import ADMISSION, Admission
from otrta_litellm.asgi import Message, Receive, Scope, Send
from otrta_litellm.gate import Gate
from otrta_litellm.gateway import Gateway
from otrta_litellm.schema import PaymentState
from tests.otrta_litellm.samples import View, deployment, settings

CHAT = "/v1/chat/completions"
PAID = 10_000
USAGE = {"prompt_tokens": 10, "completion_tokens": 20}
ANSWER = json.dumps({"choices": [{"message": {"content": "hello"}}], "usage": USAGE}).encode()
PRICES = {"demo-chat": {"input_msat_per_mtok": 1_000_000, "output_msat_per_mtok": 5_000_000}}

App = Callable[[Scope, Receive, Send], Awaitable[None]]


@asynccontextmanager
async def opened(store: str, *mints: str, **values: Any) -> AsyncIterator[Gateway]:
    """A gateway at work."""
    view: Any = View(**{"demo-chat": [deployment("demo-chat")]})
    gateway = Gateway(settings(store=store, mints=list(mints), prices=PRICES, **values), view)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gateway.run)
        try:
            await gateway.wallet()
            yield gateway
        finally:
            tasks.cancel_scope.cancel()


@dataclass
class Caller:
    """One request, and what came back."""

    token: Token | None
    path: str = CHAT
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = json.dumps({"model": "demo-chat", "messages": [{"role": "user", "content": "hi"}]}).encode()
    query: bytes = b""
    got: list[Message] = field(default_factory=list)
    sends_until_gone: int = 1000
    gone: anyio.Event = field(default_factory=anyio.Event)

    async def call(self, app: App, gateway: Gateway) -> "Caller":
        headers = {"host": "x", **self.headers}
        if self.token is not None:
            headers["x-cashu"] = self.token.encode()
        scope = {
            "type": "http",
            "method": self.method,
            "path": self.path,
            "query_string": self.query,
            "client": ("127.0.0.1", 5),
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
        }
        parts = iter([{"type": "http.request", "body": self.body, "more_body": False}])

        async def receive() -> Message:
            for part in parts:
                return part
            await self.gone.wait()
            return {"type": "http.disconnect"}

        await Gate(app, gateway)(scope, receive, self.send)
        return self

    async def send(self, message: Message) -> None:
        if self.sends_until_gone == 0:
            self.gone.set()
            raise OSError("the caller is gone")
        self.sends_until_gone -= 1
        self.got.append(message)

    @property
    def status(self) -> int:
        return int(self.got[0]["status"])

    @property
    def told(self) -> dict[bytes, bytes]:
        return dict(self.got[0]["headers"])

    @property
    def content(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.got)

    @property
    def code(self) -> str:
        return str(json.loads(self.content)["error"]["code"])

    @property
    def sums(self) -> tuple[int, ...]:
        names = (b"paid", b"cost", b"fee", b"change")
        return tuple(int(self.told[b"x-otrta-%b-msat" % name]) for name in names)


def admission() -> Admission:
    found = ADMISSION.get()
    assert found is not None
    return found


def answers(body: bytes = ANSWER, status: int = 200, *, then: BaseException | None = None) -> App:
    """A LiteLLM that answers this, and then perhaps fails."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        if then is not None:
            raise then

    return app


def streams(*parts: bytes, then: BaseException | None = None) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        if then is not None:
            raise then
        await send({"type": "http.response.body", "body": b""})

    return app


async def left(gateway: Gateway, token: Token) -> Caller:
    """Ask the change route."""
    return await Caller(token, "/v1/cashu/change").call(answers(), gateway)


async def state_of(gateway: Gateway, token: Token) -> PaymentState | None:
    acceptance = (await gateway.checkout()).acceptance
    payment = await acceptance.taken_before(token)
    return None if payment is None else payment.state


async def swapped(gateway: Gateway) -> None:
    """Wait for the end of the swaps that are under way."""
    assert gateway._queue is not None
    with anyio.fail_after(30):
        for ticket in [ticket for tickets in gateway._queue._busy.values() for ticket in tickets]:
            await ticket.ended.wait()


def live() -> dict[str, str]:
    return {"X-Cashu-Change": "sse"}


STREAMED = json.dumps(
    {"model": "demo-chat", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
).encode()
