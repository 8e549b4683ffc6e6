"""The app's side of a call: reads the request, starts the exchange, writes the answer as it comes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import httpx
import trio
from starlette.types import Receive, Scope, Send

from otrta_core.errors import InvalidRequest, OtrtaError
from proxy_trio.bodies import Body, parse
from proxy_trio.errors import BodyTooLarge, MethodNotAllowed, PathNotServed, Stopping, render
from proxy_trio.exchange import exchange
from proxy_trio.headers import is_json, outbound
from proxy_trio.link import QUEUE_PIECES, AppLink, End, Failure, Item, ReplyHead
from proxy_trio.payer import Call, Payer
from proxy_trio.settings import ForwardSettings


@dataclass(frozen=True, slots=True)
class Served:
    """How a path is called, and whether the call is paid for."""

    method: str
    payable: bool


SERVED: Final[Mapping[str, Served]] = {
    "/v1/chat/completions": Served("POST", payable=True),
    "/v1/embeddings": Served("POST", payable=True),
    "/v1/models": Served("GET", payable=False),
}

# Above this a body is parsed in a thread, so that other streams keep flowing meanwhile.
_PARSE_IN_THREAD_BYTES: Final = 256 * 1024


class AppLeft(Exception):
    """The app went away before its request was whole."""


class Forwarder:
    """An ASGI app that forwards what ``SERVED`` names and answers 404 to the rest.

    Exchanges run in the nursery given to ``attach``. Until then, and after ``detach``, calls get 503.
    """

    def __init__(self, payer: Payer, settings: ForwardSettings) -> None:
        self._payer = payer
        self._settings = settings
        self._nursery: trio.Nursery | None = None
        self._transport: httpx.AsyncBaseTransport | None = None

    def attach(self, nursery: trio.Nursery, transport: httpx.AsyncBaseTransport) -> None:
        """Begin to serve; the nursery must outlive every request."""
        self._nursery, self._transport = nursery, transport

    def detach(self) -> None:
        """Start no further exchanges."""
        self._nursery = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        If cancelled, the answer to the app is cut; the exchange goes on as for an app that left.
        """
        try:
            call = await self._read_call(scope, receive)
            answer = self._start(call)
        except AppLeft:
            return
        except OtrtaError as error:
            await _send_error(error, scope["path"], send)
            return
        async with answer, trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_disconnect, receive, nursery.cancel_scope)
            await _relay(answer, scope["path"], send)
            nursery.cancel_scope.cancel()

    def _start(self, call: Call) -> trio.MemoryReceiveChannel[Item]:
        if self._nursery is None or self._transport is None:
            raise Stopping("The proxy is not running. Start it with `otrta serve`.")
        sending, receiving = trio.open_memory_channel[Item](QUEUE_PIECES)
        link = AppLink(sending, self._settings.stall_s)
        self._nursery.start_soon(exchange, call, self._payer, self._transport, self._settings, link)
        return receiving

    async def _read_call(self, scope: Scope, receive: Receive) -> Call:
        method, path = scope["method"], scope["path"]
        served = SERVED.get(path)
        if served is None:
            raise PathNotServed(f"Nothing is served on this path. Served: {list_served()}.")
        if method != served.method:
            raise MethodNotAllowed(f"{path} is served with {served.method} only.")
        if len(scope["query_string"]) > self._settings.max_query_bytes:
            raise InvalidRequest("The query string is too long.")
        body: Body | None = None
        if served.payable:
            if not is_json(scope["headers"]):
                raise InvalidRequest("The Content-Type must be application/json.")
            raw = await _read_body(receive, self._settings.max_body_bytes)
            body = await self._parse(raw)
        return Call(
            method=method,
            path=path,
            payable=served.payable,
            query=scope["query_string"],
            headers=tuple(outbound(scope["headers"])),
            body=body,
        )

    async def _parse(self, raw: bytes) -> Body:
        work = partial(parse, raw, removed=self._settings.removed_fields)
        if len(raw) > _PARSE_IN_THREAD_BYTES:
            return await trio.to_thread.run_sync(work)
        return work()


def list_served() -> str:
    """The served calls as one line of text."""
    return ", ".join(f"{served.method} {path}" for path, served in SERVED.items())


async def _read_body(receive: Receive, limit: int) -> bytes:
    body = bytearray()
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise AppLeft
        piece = message.get("body", b"")
        size += len(piece)
        if size <= limit:
            body += piece
        else:
            body.clear()
        # Some apps read no answer before they have sent all, so a body over the limit is read on a bit.
        if size > 2 * limit or (size > limit and not message.get("more_body", False)):
            raise BodyTooLarge(f"The body is larger than {limit} bytes, the most that is forwarded.")
        if not message.get("more_body", False):
            return bytes(body)


async def _cancel_on_disconnect(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _relay(answer: trio.MemoryReceiveChannel[Item], path: str, send: Send) -> None:
    """Write the answer as it comes; one that ends without ``End`` is left open, and so cut."""
    begun = False
    async for item in answer:
        match item:
            case ReplyHead(status, headers):
                begun = True
                await send({"type": "http.response.start", "status": status, "headers": list(headers)})
            case bytes():
                await send({"type": "http.response.body", "body": item, "more_body": True})
            case End():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            case Failure(error):
                if not begun:
                    await _send_error(error, path, send)
                return
    if not begun:
        await _send_error(Stopping("The proxy is being stopped."), path, send)


async def _send_error(error: OtrtaError, path: str, send: Send) -> None:
    reply = render(error, path)
    await send({"type": "http.response.start", "status": reply.status, "headers": list(reply.headers)})
    await send({"type": "http.response.body", "body": reply.body})
