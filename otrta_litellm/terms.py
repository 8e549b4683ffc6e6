"""What a call is, what it may cost, and what LiteLLM gets of it; nothing here waits for anything."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from otrta_core import (
    CallRequest,
    InvalidRequest,
    ModelPrice,
    UnsupportedParameter,
    affordable_output_tokens,
    minimum_msat,
    quote_msat,
)
from otrta_core.multipart import Form, read_form
from otrta_core.requests import FORM_KINDS, OUTPUT_LIMIT_FIELD, find_payable
from otrta_litellm.answers import GateError
from otrta_litellm.body_policy import FIELDS, check_fields, has_token_numbers, outbound_body, parse_body
from otrta_litellm.forms import write_form
from otrta_litellm.payments import Payment
from otrta_litellm.prices import Prices
from otrta_litellm.settings import GatewaySettings

LEAST_OF_RESPONSES = 16
"""OpenAI's least output limit for Responses, by which LiteLLM serves Anthropic's Messages too."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as its caller sent it: path, media type and body."""

    path: str
    content_type: str = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """What a request asks for, as far as its bytes alone tell.

    Attributes:
        names_model: whether its path does.
        body: the caller's JSON, or nothing where the call is a ``form``.
        fault: a field of it that is not sold, whatever the model.
        size: of the body, in bytes.
    """

    path: str
    names_model: bool
    call: CallRequest
    body: Mapping[str, Any] = field(repr=False)
    form: Form | None = field(repr=False)
    fault: InvalidRequest | None = field(repr=False)
    size: int


@dataclass(frozen=True, slots=True)
class Outbound:
    """What LiteLLM gets: media type and body."""

    content_type: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a call is and what it may cost; amounts in msat.

    ``body`` is the caller's JSON, or nothing where the call is a ``form``; it was of ``size`` bytes.
    """

    path: str
    call: CallRequest
    body: Mapping[str, Any] = field(repr=False)
    form: Form | None = field(repr=False)
    price: ModelPrice
    quote_msat: int
    minimum_msat: int
    size: int


def read_request(sent: Sent) -> Request:
    """Take a request's body apart.

    Raises:
        InvalidRequest: the body cannot be bought.
        GateError: the path is not sold.
    """
    payable = find_payable(sent.path)
    if payable is None:
        raise GateError("this path cannot be bought", code="path_not_payable", status=404)
    kind, named, size = payable.kind, payable.model is not None, len(sent.body)
    if kind in FORM_KINDS:
        form = read_form(sent.content_type, sent.body)
        call = CallRequest.parse_form(kind, form.fields, form.figures(), model=payable.model)
        stream = UnsupportedParameter("stream cannot be bought for a form", param="stream")
        return Request(sent.path, named, call, {}, form, stream if call.stream else None, size)
    body = parse_body(sent.body)
    call = CallRequest.parse(kind, body, model=payable.model)
    try:
        check_fields(kind, body)
    except InvalidRequest as fault:
        return Request(sent.path, named, call, body, None, fault, size)
    return Request(sent.path, named, call, body, None, None, size)


class Quotes:
    """Prices calls. It moves no money."""

    def __init__(self, settings: GatewaySettings, prices: Prices) -> None:
        self._settings = settings
        self._prices = prices

    def terms(self, request: Request, *, for_s: float = 0.0) -> Terms:
        """Price a call, so that the price is accepted for ``for_s`` from now.

        Raises:
            InvalidRequest: something in its body cannot be bought.
            RequestNotPriceable: the model has no price for such a call.
            GateError: the model is not sold, or a rate is lacking for its price.
        """
        call, kind, body = request.call, request.call.kind, request.body
        price = self._prices.price(call.model, kind, in_path=request.names_model, for_s=for_s)
        if price is None:
            raise GateError(
                "this model is not sold here: GET /v1/cashu/info lists the ones that are",
                code="model_not_found",
                status=404,
                param="model",
            )
        if request.fault is not None:
            raise request.fault
        if has_token_numbers(kind, body) and not self._prices.takes_token_numbers(call.model, kind):
            param = "input" if kind == "embeddings" else "prompt"
            raise UnsupportedParameter("this model takes texts, not token numbers", param=param)
        call = self._as_served(call)
        default = self._settings.default_output_tokens
        return Terms(
            request.path,
            call,
            body,
            request.form,
            price,
            quote_msat(price, call, default_output_tokens=default),
            minimum_msat(price, call, min_output_tokens=self._settings.min_output_tokens),
            request.size,
        )

    def outbound(self, terms: Terms, payment: Payment) -> Outbound:
        """Return what LiteLLM gets, the output capped by what was paid where the caller set no limit."""
        kind, model = terms.call.kind, terms.call.model
        if terms.form is not None:
            return Outbound(*write_form(terms.form, FIELDS[kind], model))
        body = outbound_body(kind, terms.body, model, self._output_cap(terms, payment))
        return Outbound("application/json", json.dumps(body).encode())

    def _as_served(self, call: CallRequest) -> CallRequest:
        """Return a call with the output limit that LiteLLM makes of a very small one."""
        limit = call.output_limit
        if limit is None or limit >= LEAST_OF_RESPONSES or call.kind not in ("responses", "messages"):
            return call
        raised = self._prices.raises_small_limits(call.model, call.kind)
        return replace(call, output_limit=LEAST_OF_RESPONSES) if raised else call

    def _output_cap(self, terms: Terms, payment: Payment) -> int | None:
        """Return the output limit to set, or None where the caller set one or nothing bounds it."""
        if terms.call.kind not in OUTPUT_LIMIT_FIELD or terms.call.output_limit is not None:
            return None
        cap = affordable_output_tokens(terms.price, terms.call, payment.paid_msat - payment.fee_msat)
        if cap is None:
            # Anthropic's calls have none without a limit
            return self._settings.default_output_tokens if terms.call.kind == "messages" else None
        cap = max(cap, self._settings.min_output_tokens)
        return cap if terms.price.max_output_tokens is None else min(cap, terms.price.max_output_tokens)
