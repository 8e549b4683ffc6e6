"""One paid call from its request to its settled answer."""

from contextlib import ExitStack, suppress

import anyio
import structlog

from otrta_core import InvalidRequest, OtrtaError, Token
from otrta_litellm.admission import ADMISSION, Admission
from otrta_litellm.answers import GateError, refusal
from otrta_litellm.asgi import App, Message, Receive, Scope, Send
from otrta_litellm.checkout import Checkout
from otrta_litellm.clerk import Clerk
from otrta_litellm.failures import CALL_FAILED, UNSETTLED, hides
from otrta_litellm.gateway import Gateway
from otrta_litellm.hearing import Hearing
from otrta_litellm.lease import Lease
from otrta_litellm.limits import address_of
from otrta_litellm.lock_desk import Tender
from otrta_litellm.prices import QUOTE_HOLDS_S
from otrta_litellm.refusals import wants_request
from otrta_litellm.relay import HeldBytes, Relay
from otrta_litellm.settings import GatewaySettings
from otrta_litellm.taking import Taking
from otrta_litellm.terms import Outbound, Sent, Terms
from otrta_litellm.way import Way, tokens_of

_log = structlog.get_logger(__name__)

PASSED_HEADERS = frozenset({b"host", b"accept", b"origin"})
"""LiteLLM reads many others as orders, to itself or to the upstream."""


LEAST_BYTES_PER_S = 32_000
"""How fast a body that has not been paid for has to come, after its first seconds."""


class Sale:
    """Sells calls to LiteLLM's app."""

    def __init__(self, app: App, gateway: Gateway) -> None:
        self._app = app
        self._gateway = gateway
        self._clerk = Clerk()
        self._hearing = Hearing()

    async def sell(self, scope: Scope, receive: Receive, send: Send, way: Way) -> None:
        """Answer a call that has to be paid; refusals are raised, and the token is then untouched."""
        gateway = self._gateway
        checkout = await gateway.checkout()
        address = address_of(scope.get("client"), scope["headers"], gateway.settings.trusted_proxies)
        with gateway.guards.unpaid.one_more(address):
            terms, tender = await self._agree(scope, receive, way, checkout)
        with ExitStack() as noted:
            noted.enter_context(gateway.guards.to_mint(address, tender.incoming, locked=tender.locked))
            taking = await checkout.redemption.take(terms, tender)
            if taking.is_certain:
                noted.close()
            try:
                await self._serve(scope, receive, send, checkout, terms, taking)
            finally:
                gateway.forget(taking.payment.id)

    async def _agree(
        self, scope: Scope, receive: Receive, way: Way, checkout: Checkout
    ) -> tuple[Terms, Tender]:
        """Read a call and look at its token, which could then pay for it; refusals are raised."""
        gateway = self._gateway
        offered = checkout.acceptance.read_token(tokens_of(scope["headers"])) if way is Way.BUY else None
        body = await read_body(receive, gateway.settings, gateway.held)
        with gateway.held.more(len(body)):
            return await self._look(checkout, Sent(scope["path"], _content_type(scope), body), offered)

    async def _look(self, checkout: Checkout, sent: Sent, offered: Token | None) -> tuple[Terms, Tender]:
        """Price a call and look at its token."""
        gateway = self._gateway
        if offered is None:
            asked = await self._clerk.read(sent)
            raise checkout.acceptance.payment_required(checkout.quotes.terms(asked, for_s=QUOTE_HOLDS_S))
        try:
            incoming = await checkout.acceptance.present(offered)
        except OtrtaError as error:
            raise await self._with_request(error, checkout, sent) from None
        taken = await checkout.acceptance.taken_before(incoming.token)
        if taken is not None:
            raise checkout.acceptance.refuse_taken(await gateway.see_claims(taken))
        tender = checkout.locks.tender(incoming)
        asked = await self._clerk.read(sent)
        terms = checkout.quotes.terms(asked)
        try:
            checkout.acceptance.check_amount(terms, incoming)
        except OtrtaError:  # what it then asks for has to hold a while
            terms = checkout.quotes.terms(asked, for_s=QUOTE_HOLDS_S)
            checkout.acceptance.check_amount(terms, incoming)
            raise
        await self._hearing.check(terms)
        if gateway.held.full:
            raise _overloaded()
        return terms, tender

    async def _with_request(self, error: OtrtaError, checkout: Checkout, sent: Sent) -> OtrtaError:
        """Add to a refusal of the token what would be accepted, where that can be said."""
        if not wants_request(error):
            return error
        try:
            terms = checkout.quotes.terms(await self._clerk.read(sent), for_s=QUOTE_HOLDS_S)
            return GateError(
                error.message,
                code=error.code,
                status=error.http_status,
                required_msat=terms.quote_msat,
                request=checkout.acceptance.payment_request(terms),
            )
        except OtrtaError:
            return error

    async def _serve(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        checkout: Checkout,
        terms: Terms,
        taking: Taking,
    ) -> None:
        """Run a paid call and settle it, whatever happens on the way.

        Raises:
            OtrtaError: the refusal of a payment that was lost while its call ran; nothing went out.
        """
        gateway, payment = self._gateway, taking.payment
        lease = Lease(await gateway.wallet(), payment)
        headers = dict(scope["headers"])
        live = terms.call.stream and headers.get(b"x-cashu-change", b"").strip().lower() == b"sse"
        relay = Relay(
            payment,
            lease.guarded(taking.guarded(send)),
            live=live,
            show_usage=_asked_for_usage(terms),
            origin=headers.get(b"origin"),
            buffer_bytes=gateway.settings.buffer_bytes,
            held=gateway.held,
            note_live=lease.note_live,
        )
        admission = Admission("paid", scope["path"], terms.call.model, payment.id)
        token = ADMISSION.set(admission)
        try:
            with anyio.CancelScope() as call:
                async with anyio.create_task_group() as tasks:
                    if not taking.is_certain:
                        tasks.start_soon(taking.watch, call)
                    try:
                        outbound = await self._clerk.write(checkout.quotes, terms, payment)
                        hears = live and not relay.outlives_caller
                        replay = _replay(outbound.body, receive if hears else None)
                        with gateway.held.more(len(outbound.body)):
                            await self._app(_paid_scope(scope, admission, outbound), replay, relay.receive)
                    except Exception as error:
                        # its text may hold the answer; the payment is settled and answered all the same
                        _log.warning("call_failed", payment=payment.id, error=type(error).__name__)
        finally:
            ADMISSION.reset(token)
            lease.end()
            with anyio.CancelScope(shield=True):
                await self._close(relay, taking, admission)

    async def _close(self, relay: Relay, taking: Taking, admission: Admission) -> None:
        """Settle and end the answer. A caller who is gone finds the change at the change route."""
        gateway = self._gateway
        try:
            payment = await taking.certain()
        except OtrtaError:
            relay.drop()
            raise
        anthropic = payment.call.kind == "messages"
        try:
            ending = relay.ending()
            settled = await gateway.till.settlement(payment, ending, admission)
            outcome = "served" if ending.status < 400 else f"failed_{ending.status}"
            payment = await gateway.settle(payment, settled, outcome)
            _log.debug("payment_settled", payment=payment.id, outcome=outcome, cost_msat=settled.charged)
        except Exception as error:
            # recovery settles it, as soon as it is not running any more, or has: then this is not paid
            _log.error("settlement_failed", payment=payment.id, error=type(error).__name__)
            with suppress(OSError):
                await relay.give_up(UNSETTLED.status, refusal(UNSETTLED, anthropic=anthropic).body)
        else:
            free_error = ending.status >= 400 and not settled.charged
            if not ending.whole or (free_error and hides(admission, ending.status)):
                relay.replace(ending.status, refusal(CALL_FAILED, anthropic=anthropic).body)
            with suppress(OSError):
                await relay.finish(payment, settled)
        finally:
            relay.drop()


async def read_body(receive: Receive, settings: GatewaySettings, held: HeldBytes) -> bytes:
    """Read an unpaid request's body; what is being read counts as held.

    Raises:
        GateError: it is too large or too slow, or too much is held.
        InvalidRequest: the caller hung up before its end.
    """
    body = bytearray()
    limit = settings.max_body_bytes
    try:
        with anyio.fail_after(settings.body_within_s) as patience:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise InvalidRequest("the request ended before its body did")
                part = message.get("body", b"")
                body += part
                held.total += len(part)
                patience.deadline += len(part) / LEAST_BYTES_PER_S
                if len(body) > limit:
                    raise GateError(
                        f"the body is larger than {limit} bytes", code="body_too_large", status=413
                    )
                if held.full:
                    raise _overloaded()
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise GateError(
            "the body took too long: the token is untouched", code="request_timeout", status=408
        ) from None
    finally:
        held.total -= len(body)


def _overloaded() -> GateError:
    return GateError(
        "the gateway is holding as much as it can: the token is untouched; try again later",
        code="overloaded",
        status=503,
    )


def _asked_for_usage(terms: Terms) -> bool:
    options = terms.body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _content_type(scope: Scope) -> str:
    values = [value for name, value in scope["headers"] if name == b"content-type"]
    return values[0].decode("latin-1") if len(values) == 1 else ""


def _paid_scope(scope: Scope, admission: Admission, outbound: Outbound) -> Scope:
    headers = [header for header in scope["headers"] if header[0] in PASSED_HEADERS]
    headers += [
        (b"content-type", outbound.content_type.encode()),
        (b"content-length", str(len(outbound.body)).encode()),
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
