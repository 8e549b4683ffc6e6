"""What a call is, what it may cost, and what LiteLLM gets of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from otrta_core import (
    CallRequest,
    ModelPrice,
    UnsupportedParameter,
    affordable_output_tokens,
    minimum_msat,
    quote_msat,
)
from otrta_litellm.answers import GateError
from otrta_litellm.body_policy import check_fields, has_token_numbers, outbound_body, parse_body
from otrta_litellm.payments import Payment
from otrta_litellm.prices import Prices
from otrta_litellm.settings import GatewaySettings
from otrta_litellm.way import SOLD_PATHS


@dataclass(frozen=True, slots=True)
class Terms:
    """What a call is and what it may cost; amounts in msat."""

    path: str
    call: CallRequest
    body: Mapping[str, Any] = field(repr=False)
    price: ModelPrice
    quote_msat: int
    minimum_msat: int


class Quotes:
    """Reads and prices calls. It moves no money."""

    def __init__(self, settings: GatewaySettings, prices: Prices) -> None:
        self._settings = settings
        self._prices = prices

    def terms(self, path: str, raw_body: bytes, *, for_s: float = 0.0) -> Terms:
        """Read a body and price it, so that the price is accepted for ``for_s`` from now.

        Raises:
            InvalidRequest: the body, or something in it, cannot be bought.
            GateError: the model is unknown or has no price, or a rate is lacking for it.
        """
        kind = SOLD_PATHS[path]
        body = parse_body(raw_body)
        call = CallRequest.parse(kind, body)
        price = self._prices.price(call.model, kind, for_s=for_s)
        if price is None:
            raise GateError(
                "this model is not sold here: GET /v1/cashu/info lists the ones that are",
                code="model_not_found",
                status=404,
                param="model",
            )
        check_fields(kind, body)
        if has_token_numbers(kind, body) and not self._prices.takes_token_numbers(call.model):
            raise UnsupportedParameter("this model takes texts, not token numbers", param="input")
        default = self._settings.default_output_tokens
        return Terms(
            path,
            call,
            body,
            price,
            quote_msat(price, call, default_output_tokens=default),
            minimum_msat(price, call, min_output_tokens=self._settings.min_output_tokens),
        )

    def outbound_body(self, terms: Terms, payment: Payment) -> dict[str, Any]:
        """Return the body for LiteLLM, its output capped by what was paid where the caller set no limit."""
        cap = None
        if terms.call.kind == "chat" and terms.call.output_limit is None:
            cap = affordable_output_tokens(terms.price, terms.call, payment.paid_msat - payment.fee_msat)
            if cap is not None:
                cap = max(cap, self._settings.min_output_tokens)
                if terms.price.max_output_tokens is not None:
                    cap = min(cap, terms.price.max_output_tokens)
        return outbound_body(terms.call.kind, terms.body, cap)
