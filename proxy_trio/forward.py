"""The app's side of a call: reads the request, starts the exchange, writes the answer as it comes."""

from collections.abc import Iterable
from functools import partial
from typing import Final

import httpx
import trio
from starlette.types import Receive, Scope, Send

from otrta_core.errors import InvalidRequest, OtrtaError
from otrta_core.requests import FORM_KINDS, PayablePath
from proxy_trio.bodies import Body, read_form, read_json
from proxy_trio.errors import BodyTooLarge, Stopping, render
from proxy_trio.exchange import exchange
from proxy_trio.headers import Header, media_type, outbound, values
from proxy_trio.link import QUEUE_PIECES, AppLink, End, Failure, Item, ReplyHead
from proxy_trio.payer import Call, Payer
from proxy_trio.served import Served, find_served
from proxy_trio.settings import ForwardSettings, Identify

# Above this a body is parsed in a thread, so that other streams keep flowing meanwhile.
_PARSE_IN_THREAD_BYTES: Final = 256 * 1024


class AppLeft(Exception):
    """The app went away before its request was whole."""


class Forwarder:
    """An ASGI app that forwards what ``served`` names and answers 404 to the rest.

    ``identify`` tells which app's key a request comes with, or refuses it.

    Exchanges run in the nursery given to ``attach``. Until then, and after ``detach``, calls get 503.
    """

    def __init__(self, payer: Payer, settings: ForwardSettings, identify: Identify | None = None) -> None:
        self._payer = payer
        self._settings = settings
        self._identify = identify
        self._nursery: trio.Nursery | None = None
        self._transport: httpx.AsyncBaseTransport | None = None
        self._parsing = trio.CapacityLimiter(1)

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
        key = self._identify(scope["headers"]) if self._identify else None
        method, path = scope["method"], scope["path"]
        served = find_served(method, path)
        if not scope["raw_path"].isascii():
            raise InvalidRequest("Write the path in ASCII, other characters percent-encoded.")
        if len(scope["query_string"]) > self._settings.max_query_bytes:
            raise InvalidRequest("The query string is too long.")
        body: Body | None = None
        if served.bought is not None:
            _check_content_type(scope["headers"], served)
            raw = await _read_body(receive, self._settings.max_body_bytes)
            body = await self._parse(raw, served.bought, scope["headers"])
        return Call(
            method=method,
            # as the app wrote it, which for a model in the path may differ from its decoded form
            path=scope["raw_path"].decode("ascii"),
            payable=served.bought is not None,
            query=scope["query_string"],
            headers=tuple(outbound(scope["headers"])),
            body=body,
            key=key,
        )

    async def _parse(self, raw: bytes, bought: PayablePath, headers: Iterable[Header]) -> Body:
        removed = self._settings.removed_fields
        if bought.kind in FORM_KINDS:
            (content_type,) = values(headers, b"content-type")
            work = partial(read_form, content_type, raw, bought, removed=removed)
        else:
            work = partial(read_json, raw, bought, removed=removed)
        if len(raw) > _PARSE_IN_THREAD_BYTES:
            # one after the other: each takes a few times its size while it lasts
            return await trio.to_thread.run_sync(work, limiter=self._parsing)
        return work()


def _check_content_type(headers: Iterable[Header], served: Served) -> None:
    named = list(headers)
    if len(values(named, b"content-type")) > 1 or media_type(named) != served.content_type:
        raise InvalidRequest(f"The Content-Type must be {served.content_type}.")


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
