"""The outermost ASGI layer: who may reach what, and the one way through for callers with a token.

By default nothing passes. A request with a LiteLLM key goes LiteLLM's own way; a request with a token may buy
one of the payable paths; a few paths are free; everything else is refused here.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from enum import Enum, auto
from typing import Any

import anyio
import structlog

from otrta_core import InvalidRequest, OtrtaError
from otrta_core.requests import PAYABLE_PATHS
from otrta_litellm.admission import ADMISSION, Admission
from otrta_litellm.answers import Answer, GateError, Header, exposed, refusal
from otrta_litellm.checkout import Checkout, Terms, wants_request
from otrta_litellm.gateway import Gateway
from otrta_litellm.payments import Payment
from otrta_litellm.relay import Relay
from otrta_litellm.routes import CASHU_PATHS, answer_route

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = structlog.get_logger(__name__)

FREE_PATHS = frozenset(
    {"/v1/models", "/models", "/health/liveliness", "/health/liveness", "/health/readiness"}
)
KEY_HEADERS = frozenset({b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"})
PASSED_HEADERS = frozenset({b"host", b"accept", b"origin"})
"""LiteLLM reads many others as orders, to itself or to the upstream."""

_OURS = frozenset({b"x-cashu", b"x-cashu-change"})


class Way(Enum):
    """What is done with a request."""

    THROUGH = auto()  # LiteLLM's own auth decides
    FREE = auto()
    ROUTE = auto()  # one of the gateway's own
    BUY = auto()
    ASK = auto()  # payable, without a token: 402
    NOT_PAYABLE = auto()
    NO_KEY = auto()


def way_of(method: str, path: str, headers: Iterable[Header]) -> Way:
    """Decide what is done with a request, by its method, path and headers alone."""
    named = list(headers)
    has_token = any(name == b"x-cashu" and value.strip() for name, value in named)
    has_key = any(name in KEY_HEADERS and value.strip() for name, value in named)
    if path in CASHU_PATHS:
        return Way.ROUTE
    if method == "OPTIONS":
        return Way.THROUGH  # a browser's preflight has no credentials; LiteLLM's CORS layer answers it
    payable = method == "POST" and path in PAYABLE_PATHS
    if has_token:
        if payable:
            return Way.BUY
        return Way.FREE if method in ("GET", "HEAD") and path in FREE_PATHS else Way.NOT_PAYABLE
    if has_key:
        return Way.THROUGH
    if payable:
        return Way.ASK
    return Way.FREE if method in ("GET", "HEAD") and path in FREE_PATHS else Way.NO_KEY


class Gate:
    """Stands before LiteLLM's app."""

    def __init__(self, app: App, gateway: Gateway) -> None:
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = list(scope["headers"])
        has_token = any(name == b"x-cashu" and value.strip() for name, value in headers)
        has_key = any(name in KEY_HEADERS and value.strip() for name, value in headers)
        if has_key and not has_token:
            await self._app(_cleaned(scope), receive, send)
            return
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": "a key is needed here"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = list(scope["headers"])
        origin = next((value for name, value in headers if name == b"origin"), None)
        way = way_of(scope["method"], scope["path"], headers)
        try:
            match way:
                case Way.THROUGH:
                    await self._app(_cleaned(scope), receive, send)
                case Way.FREE:
                    await self._free(scope, receive, send)
                case Way.ROUTE:
                    body = await read_body(receive, 64 << 10) if scope["method"] == "POST" else b""
                    await answer(send, await answer_route(self._gateway, scope, body), origin)
                case Way.BUY | Way.ASK:
                    await self._sell(scope, receive, send, way)
                case Way.NOT_PAYABLE:
                    raise GateError(
                        "this path cannot be bought: the token is untouched",
                        code="path_not_payable",
                        status=404,
                    )
                case Way.NO_KEY:
                    raise GateError(
                        "a LiteLLM key is needed for this path: it cannot be bought",
                        code="invalid_api_key",
                        status=401,
                    )
        except OtrtaError as error:
            await answer(send, refusal(error), origin)

    async def _free(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = ADMISSION.set(Admission("free", scope["path"]))
        try:
            await self._app(_cleaned(scope, anonymous=True), receive, send)
        finally:
            ADMISSION.reset(token)

    async def _sell(self, scope: Scope, receive: Receive, send: Send, way: Way) -> None:
        """Answer a call that has to be paid; refusals are raised, and the token is then untouched."""
        gateway = self._gateway
        checkout = await gateway.checkout()
        values = [v.decode("latin-1") for n, v in scope["headers"] if n == b"x-cashu" and v.strip()]
        offered = checkout.read_token(values) if way is Way.BUY else None
        body = await read_body(receive, gateway.settings.max_body_bytes)
        if offered is None:
            raise checkout.payment_required(checkout.terms(scope["path"], body))
        try:
            incoming = await checkout.present(offered)
        except OtrtaError as error:
            raise _with_request(error, checkout, scope["path"], body) from None
        taken = await checkout.taken_before(incoming.token)
        if taken is not None:
            raise checkout.refuse_taken(taken)
        terms = checkout.terms(scope["path"], body)
        checkout.check_amount(terms, incoming)
        if gateway.held.full:
            raise GateError(
                "the gateway is holding as many answers as it can: the token is untouched; try again later",
                code="overloaded",
                status=503,
            )
        payment = await checkout.take(terms, incoming)
        try:
            await self._serve(scope, receive, send, checkout, terms, payment)
        finally:
            gateway.running.discard(payment.id)

    async def _serve(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        checkout: Checkout,
        terms: Terms,
        payment: Payment,
    ) -> None:
        """Run a paid call and settle it, whatever happens on the way."""
        gateway = self._gateway
        headers = dict(scope["headers"])
        live = terms.call.stream and headers.get(b"x-cashu-change", b"").strip().lower() == b"sse"
        relay = Relay(
            payment,
            send,
            live=live,
            show_usage=_asked_for_usage(terms),
            origin=headers.get(b"origin"),
            buffer_bytes=gateway.settings.buffer_bytes,
            held=gateway.held,
            note_live=lambda tokens: gateway.note_live(payment.id, tokens),
        )
        admission = Admission("paid", scope["path"], terms.call.model, payment.id)
        outbound = json.dumps(checkout.outbound_body(terms, payment)).encode()
        token = ADMISSION.set(admission)
        broken: BaseException | None = None
        try:
            replay = _replay(outbound, receive if live else None)
            await self._app(_paid_scope(scope, admission, outbound), replay, relay.receive)
        except BaseException as error:
            broken = error
            if relay.answered and not isinstance(error, Exception):
                raise
        finally:
            ADMISSION.reset(token)
            with anyio.CancelScope(shield=True):
                await self._close(relay, payment, admission, broken)

    async def _close(
        self, relay: Relay, payment: Payment, admission: Admission, broken: BaseException | None
    ) -> None:
        gateway = self._gateway
        try:
            if broken is not None:
                _log.warning("call_failed", payment=payment.id, error=type(broken).__name__)
            ending = relay.ending()
            settled = await gateway.till.settlement(payment, ending, admission)
            outcome = "served" if ending.status < 400 else f"failed_{ending.status}"
            payment = await gateway.settle(payment, settled, outcome)
            if ending.status >= 400 and admission.failure not in (None, *_UPSTREAM_FAILURES):
                relay.replace_body(_FAILED)
            if relay.answered:
                await relay.finish(payment, settled)
            else:
                await relay.fail(500, _FAILED, settled, payment)
        finally:
            relay.drop()


_FAILED = refusal(
    GateError("the call failed: what was paid is in the X-Cashu header", code="call_failed", status=500)
).body

_UPSTREAM_FAILURES = frozenset(
    {
        "APIConnectionError",
        "APIError",
        "APIResponseValidationError",
        "AuthenticationError",
        "BadGatewayError",
        "BadRequestError",
        "ContentPolicyViolationError",
        "ContextWindowExceededError",
        "InternalServerError",
        "MidStreamFallbackError",
        "NotFoundError",
        "OpenAIError",
        "PermissionDeniedError",
        "RateLimitError",
        "ServiceUnavailableError",
        "Timeout",
        "UnprocessableEntityError",
        "UnsupportedParamsError",
    }
)
"""Failures whose text is the upstream's refusal. That of others may hold an answer nobody paid for."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """Read a request's body.

    Raises:
        GateError: it is larger than ``limit``.
        InvalidRequest: the caller hung up before its end.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidRequest("the request ended before its body did")
        body += message.get("body", b"")
        if len(body) > limit:
            raise GateError(f"the body is larger than {limit} bytes", code="body_too_large", status=413)
        if not message.get("more_body", False):
            return bytes(body)


async def answer(send: Send, reply: Answer, origin: bytes | None) -> None:
    """Send a whole answer of the gate's own."""
    headers = exposed(reply.headers, origin=origin)
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def _with_request(error: OtrtaError, checkout: Checkout, path: str, body: bytes) -> OtrtaError:
    """Add to a refusal of the token what would be accepted, where that can be said."""
    if not wants_request(error):
        return error
    try:
        terms = checkout.terms(path, body)
        return GateError(
            error.message,
            code=error.code,
            status=error.http_status,
            required_msat=terms.quote_msat,
            request=checkout.payment_request(terms),
        )
    except OtrtaError:
        return error


def _asked_for_usage(terms: Terms) -> bool:
    options = terms.body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _cleaned(scope: Scope, *, anonymous: bool = False) -> Scope:
    """Return the scope without anything of ours; an anonymous one without what names its caller."""
    headers: Sequence[Header] = [header for header in scope["headers"] if header[0] not in _OURS]
    if anonymous:
        headers = [header for header in headers if header[0] in PASSED_HEADERS]
    return {**scope, "headers": list(headers)}


def _paid_scope(scope: Scope, admission: Admission, body: bytes) -> Scope:
    headers = [header for header in scope["headers"] if header[0] in PASSED_HEADERS]
    headers += [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"accept-encoding", b"identity"),
        (b"x-litellm-call-id", admission.call_id.encode()),
    ]
    return {**scope, "headers": headers, "query_string": b"", "client": None}


def _replay(body: bytes, receive: Receive | None) -> Receive:
    """Give LiteLLM the body that was read already, and then what the caller's connection says.

    Without ``receive`` it never hears that the caller is gone: a call that is held back runs to its end.
    """
    given = False

    async def replay() -> Message:
        nonlocal given
        if given and receive is not None:
            return await receive()
        if given:
            await anyio.sleep_forever()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
