"""The most that a call can cost, before it is made.

Both sides compute it from the same body and the same price, so a client knows what it will be asked for.
"""

from collections.abc import Mapping
from typing import Any

from otrta_core.errors import RequestNotPriceable
from otrta_core.pricing import PER_MILLION, ModelPrice
from otrta_core.proof import fee_of_ppk
from otrta_core.requests import OUTPUT_LIMIT_FIELD, OUTPUTLESS, CallRequest

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
        request: parsed, or the decoded JSON body of a chat completion or (with ``input``) of embeddings;
            what other kinds of call cost is asked with their ``CallRequest``.
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
    the price's least, is covered. None too for a covered call of a kind whose output takes no limit.

    Raises:
        RequestNotPriceable: something in the call has no bound under this price.
    """
    fixed = _fixed_millionths(price, call)
    if available_msat < price.within_bounds(0):
        return 0
    ceilings = [limit for limit in (price.max_output_tokens, call.output_limit) if limit is not None]
    if call.kind not in OUTPUT_LIMIT_FIELD:
        ceilings = []
    if price.max_msat is None or available_msat < price.max_msat:
        rest = available_msat * PER_MILLION - fixed
        if rest < 0:
            return 0
        if price.dearest_output and call.kind in OUTPUT_LIMIT_FIELD:
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


def _bound_msat(price: ModelPrice, call: CallRequest, output_limit: int) -> int:
    millionths = _fixed_millionths(price, call)
    if call.kind in OUTPUT_LIMIT_FIELD:
        if price.max_output_tokens is not None:
            output_limit = min(output_limit, price.max_output_tokens)
        millionths += output_limit * call.choices * price.dearest_output
    return price.within_bounds(-(-millionths // PER_MILLION))


def _fixed_millionths(price: ModelPrice, call: CallRequest) -> int:
    """Return the most that a call costs apart from output that a limit caps, in millionths of a msat."""
    whole = (
        price.request_msat * max(1, call.search_units)
        + call.images_made * (price.image_msat or 0)
        + call.seconds * (price.second_msat or 0)
    )
    return (
        whole * PER_MILLION
        + _prompt_tokens(price, call) * price.dearest_input
        + _unlimited_output(price, call) * price.dearest_output
        + call.characters * (price.character_msat_per_million or 0)
    )


def _prompt_tokens(price: ModelPrice, call: CallRequest) -> int:
    tokens = call.prompt_tokens
    if call.images:
        if price.image_input_tokens is None:
            raise RequestNotPriceable("this model takes no images here")
        tokens += call.images * price.image_input_tokens
    if call.kind == "transcriptions" and price.dearest_input:
        if price.max_input_tokens is None:
            raise RequestNotPriceable("this model's price does not bound the tokens of audio")
        tokens += price.max_input_tokens
    return tokens


def _unlimited_output(price: ModelPrice, call: CallRequest) -> int:
    """Return the most output tokens that no limit in the request caps."""
    if call.kind in OUTPUT_LIMIT_FIELD:
        return call.echoed_tokens
    if call.kind in OUTPUTLESS:
        return 0
    by_the_piece = {
        "speech": price.character_msat_per_million,
        "transcriptions": price.second_msat,
    }.get(call.kind, price.image_msat)
    if by_the_piece is None:
        raise RequestNotPriceable(f"this model has no price for {call.kind.replace('_', ' ')} here")
    if not price.dearest_output:
        return 0
    if price.max_output_tokens is None:
        raise RequestNotPriceable("this model's price does not bound its output")
    return call.choices * price.max_output_tokens
