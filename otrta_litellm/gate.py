"""The outermost ASGI layer: who may reach what, and the one way through for callers with a token.

By default nothing passes. A request with a LiteLLM key goes LiteLLM's own way; a request with a token may buy
one of the payable paths; a few paths are free; everything else is refused here.
"""

from collections.abc import Sequence
from contextlib import suppress

import structlog

from otrta_core import OtrtaError
from otrta_litellm.admin import Admin, MasterKey, no_master_key
from otrta_litellm.admission import ADMISSION, Admission
from otrta_litellm.answers import Answer, GateError, Header, exposed, is_anthropics, refusal
from otrta_litellm.asgi import App, Message, Receive, Scope, Send
from otrta_litellm.failures import UNSETTLED
from otrta_litellm.gateway import Gateway
from otrta_litellm.routes import answer_route
from otrta_litellm.sale import PASSED_HEADERS, Sale
from otrta_litellm.way import Way, has_key, has_token, way_of

_log = structlog.get_logger(__name__)

_OURS = frozenset({b"x-cashu", b"x-cashu-change"})


class Gate:
    """Stands before LiteLLM's app."""

    def __init__(self, app: App, gateway: Gateway, master_key: MasterKey = no_master_key) -> None:
        self._app = app
        self._gateway = gateway
        self._admin = Admin(gateway, master_key)
        self._sale = Sale(app, gateway)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        # uvicorn starts a pipelined request in a copy of the context of the one before it
        ADMISSION.set(None)
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = list(scope["headers"])
        if has_key(headers) and not has_token(headers):
            await self._app(_cleaned(scope), receive, send)
            return
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": "a key is needed here"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        way = way_of(scope["method"], scope["path"], scope["headers"])
        if way is Way.THROUGH:
            await self._app(_cleaned(scope), receive, send)
        elif way is Way.FREE:
            await self._free(scope, receive, send)
        else:
            await self._own(scope, receive, send, way)

    async def _free(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = ADMISSION.set(Admission("free", scope["path"]))
        try:
            await self._app(_cleaned(scope, anonymous=True), receive, send)
        finally:
            ADMISSION.reset(token)

    async def _own(self, scope: Scope, receive: Receive, send: Send, way: Way) -> None:
        """Answer what is the gate's to answer; no error of ours reaches what stands outside."""
        begun = False

        async def noting_send(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            reply = await self._answer(scope, receive, noting_send, way)
        except OtrtaError as error:
            self._gateway.metrics.refused(error)
            reply = refusal(error, anthropic=is_anthropics(scope["path"]))
        except Exception as error:
            # its text and its traceback may hold what must not be logged
            _log.error("gate_failed", error=type(error).__name__)
            self._gateway.metrics.refused(UNSETTLED)
            reply = refusal(UNSETTLED, anthropic=is_anthropics(scope["path"]))
        if reply is not None and not begun:
            origin = next((value for name, value in scope["headers"] if name == b"origin"), None)
            with suppress(OSError):
                await answer(send, reply, origin)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, way: Way) -> Answer | None:
        """Return the gate's own answer, or None where a paid call was answered."""
        match way:
            case Way.BUY | Way.ASK:
                await self._sale.sell(scope, receive, send, way)
                return None
            case Way.ROUTE:
                return await answer_route(self._gateway, scope)
            case Way.ADMIN:
                return await self._admin.answer(scope, receive)
            case Way.NOT_PAYABLE:
                raise GateError(
                    "this path cannot be bought: the token is untouched",
                    code="path_not_payable",
                    status=404,
                )
            case _:
                raise GateError(
                    "a LiteLLM key is needed for this path: it cannot be bought",
                    code="invalid_api_key",
                    status=401,
                )


async def answer(send: Send, reply: Answer, origin: bytes | None) -> None:
    """Send a whole answer of the gate's own."""
    headers = exposed(reply.headers, origin=origin)
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def _cleaned(scope: Scope, *, anonymous: bool = False) -> Scope:
    """Return the scope without anything of ours; an anonymous one without what names or orders anything."""
    headers: Sequence[Header] = [header for header in scope["headers"] if header[0] not in _OURS]
    if not anonymous:
        return {**scope, "headers": list(headers)}
    headers = [header for header in headers if header[0] in PASSED_HEADERS]
    return {**scope, "headers": headers, "query_string": b""}
