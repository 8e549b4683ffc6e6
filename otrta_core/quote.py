"""The most that a call can cost, before it is made.

Both sides compute it from the same body and the same price, so a client knows what it will be asked for.
"""

from collections.abc import Mapping
from typing import Any

from otrta_core.errors import RequestNotPriceable
from otrta_core.pricing import PER_MILLION, ModelPrice
from otrta_core.proof import fee_of_ppk
from otrta_core.requests import CallRequest

DEFAULT_OUTPUT_TOKENS = 1024
MIN_OUTPUT_TOKENS = 16


def quote_msat(
    price: ModelPrice,
    request: CallRequest | Mapping[str, Any],
    *,
    default_output_tokens: int = DEFAULT_OUTPUT_TOKENS,
) -> int:
    """Return an upper bound of a call's cost in msat.

    Args:
        price: of the model.
        request: parsed, or the decoded JSON body of a chat completion or (with ``input``) of embeddings.
        default_output_tokens: assumed where the request sets no output limit.

    Raises:
        InvalidRequest: a raw body of wrong shape.
        RequestNotPriceable: something in it has no bound under this price.
    """
    call = as_request(request)
    limit = default_output_tokens if call.output_limit is None else call.output_limit
    return _bound_msat(price, call, limit)


def minimum_msat(price: ModelPrice, call: CallRequest, *, min_output_tokens: int = MIN_OUTPUT_TOKENS) -> int:
    """Return the least that buys this call, in msat.

    With an output limit of its own a request is bought whole, so this is its quote. Without one it is
    the prompt and ``min_output_tokens``, and what is paid beyond raises the cap.
    """
    limit = min_output_tokens if call.output_limit is None else call.output_limit
    return _bound_msat(price, call, limit)


def affordable_output_tokens(price: ModelPrice, call: CallRequest, available_msat: int) -> int | None:
    """Return how many output tokens per choice ``available_msat`` can pay for, or None for no limit.

    Never more than the model's own maximum and the request's own limit; 0 where not even the prompt, or
    the price's least, is covered.
    """
    if available_msat < price.within_bounds(0):
        return 0
    ceilings = [limit for limit in (price.max_output_tokens, call.output_limit) if limit is not None]
    if price.max_msat is None or available_msat < price.max_msat:
        rest = (available_msat - price.request_msat) * PER_MILLION - _prompt_tokens(
            price, call
        ) * price.dearest_input
        if rest < 0:
            return 0
        if price.dearest_output:
            ceilings.append(rest // (price.dearest_output * call.choices))
    return min(ceilings, default=None)


def face_value(quote: int, fee_ppk: int) -> int:
    """Return the face value ``a`` that is always enough for a quote at a mint with input fees.

    It contains the input fee of a token of bit_length(a) proofs; both amounts in the mint's unit.
    """
    value = quote
    while (short := quote + fee_of_ppk(value.bit_length() * fee_ppk) - value) > 0:
        value += short
    return value


def as_request(request: CallRequest | Mapping[str, Any]) -> CallRequest:
    """Parse a raw body; an already parsed request passes through."""
    if isinstance(request, CallRequest):
        return request
    return CallRequest.parse(
        "embeddings" if "input" in request and "messages" not in request else "chat", request
    )


def _prompt_tokens(price: ModelPrice, call: CallRequest) -> int:
    if not call.images:
        return call.prompt_tokens
    if price.image_input_tokens is None:
        raise RequestNotPriceable("this model takes no images here", param="messages")
    return call.prompt_tokens + call.images * price.image_input_tokens


def _bound_msat(price: ModelPrice, call: CallRequest, output_limit: int) -> int:
    if price.max_output_tokens is not None:
        output_limit = min(output_limit, price.max_output_tokens)
    output = 0 if call.kind == "embeddings" else output_limit * call.choices
    millionths = _prompt_tokens(price, call) * price.dearest_input + output * price.dearest_output
    return price.within_bounds(price.request_msat - (-millionths // PER_MILLION))
