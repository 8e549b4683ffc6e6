"""What every kind of call is quoted is never less than what it can cost."""

from dataclasses import fields, replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from otrta_core import (
    CallRequest,
    ModelPrice,
    Usage,
    affordable_output_tokens,
    cost_msat,
    minimum_msat,
    quote_msat,
)
from otrta_core.pricing import dearest
from otrta_core.requests import OUTPUT_LIMIT_FIELD, Kind
from tests.otrta_core.calls import KINDS, allowed_usages, calls, largest_usage
from tests.otrta_core.strategies import prices

any_kind = st.sampled_from(KINDS)
every_kind = pytest.mark.parametrize("kind", KINDS)


@st.composite
def sold(draw: st.DrawFn, kind: Kind) -> tuple[ModelPrice, CallRequest]:
    """A call, and any price that sells it."""
    return draw(sellers(kind)), draw(calls(kind))


@st.composite
def sellers(draw: st.DrawFn, kind: Kind) -> ModelPrice:
    """Prices that sell a kind: what has to have one has a price by the piece, and what is billed a bound."""
    price = draw(prices())
    limited = kind in OUTPUT_LIMIT_FIELD
    return replace(
        price,
        image_input_tokens=price.image_input_tokens or 0,
        image_msat=price.image_msat or 0,
        character_msat_per_million=price.character_msat_per_million or 0,
        second_msat=price.second_msat or 0,
        max_input_tokens=price.max_input_tokens if limited else 700,
        max_output_tokens=price.max_output_tokens if limited else 500,
    )


@every_kind
@given(st.data())
def test_no_usage_that_a_call_allows_costs_more_than_its_quote(kind: Kind, data: st.DataObject) -> None:
    price, call = data.draw(sold(kind))
    quote = quote_msat(price, call)
    usage = data.draw(allowed_usages(price, call))
    assert cost_msat(price, usage) <= quote


@every_kind
@given(st.data())
def test_the_quote_is_no_more_than_the_dearest_usage(kind: Kind, data: st.DataObject) -> None:
    price, call = data.draw(sold(kind))
    flat = replace(
        price, cached_input_msat_per_mtok=None, cache_write_msat_per_mtok=None, reasoning_msat_per_mtok=None
    )
    assert quote_msat(flat, call) == cost_msat(flat, largest_usage(flat, call))


@given(any_kind, st.data())
def test_the_least_is_no_more_than_the_quote_and_is_it_where_a_limit_is_given(
    kind: Kind, data: st.DataObject
) -> None:
    price, call = data.draw(sold(kind))
    quote, least = quote_msat(price, call), minimum_msat(price, call)
    assert least <= quote
    if call.output_limit is not None or kind not in OUTPUT_LIMIT_FIELD:
        assert least == quote


@given(any_kind, st.data())
def test_what_the_payment_affords_it_covers_and_one_token_more_it_does_not(
    kind: Kind, data: st.DataObject
) -> None:
    price, call = data.draw(sold(kind))
    quote = quote_msat(price, call)
    available = data.draw(st.integers(0, 2 * quote + 1))
    tokens = affordable_output_tokens(price, call, available)

    def worst(limit: int) -> int:
        return quote_msat(price, replace(call, output_limit=limit))

    ceilings = [c for c in (price.max_output_tokens, call.output_limit) if c is not None]
    if kind not in OUTPUT_LIMIT_FIELD:
        assert tokens == (None if quote <= available else 0)
    elif tokens is None:
        assert not ceilings
        assert worst(10**9) <= available
    elif worst(0) > available:
        assert tokens == 0
    else:
        assert worst(tokens) <= available
        assert tokens <= min(ceilings, default=tokens)
        assert tokens in ceilings or worst(tokens + 1) > available


@given(any_kind, st.data())
def test_the_dearest_of_several_prices_is_quoted_for_all(kind: Kind, data: st.DataObject) -> None:
    several = data.draw(st.lists(sellers(kind), min_size=2, max_size=3))
    call = data.draw(calls(kind))
    merged = quote_msat(dearest(several), call)
    for price in several:
        usage = data.draw(allowed_usages(price, call))
        assert cost_msat(price, usage) <= merged


@given(
    any_kind, st.data(), st.sampled_from([spec.name for spec in fields(ModelPrice) if "msat" in spec.name])
)
def test_a_higher_price_never_lowers_the_quote(kind: Kind, data: st.DataObject, name: str) -> None:
    price, call = data.draw(sold(kind))
    raised = replace(price, **{name: (getattr(price, name) or 0) + data.draw(st.integers(1, 10**9))})
    assume(name != "max_msat" or price.max_msat is not None)
    quote = quote_msat(price, call)
    assert quote_msat(raised, call) >= quote


@given(any_kind, st.data(), st.sampled_from([spec.name for spec in fields(Usage)]))
def test_more_of_anything_never_costs_less(kind: Kind, data: st.DataObject, name: str) -> None:
    price, call = data.draw(sold(kind))
    plain = replace(
        price, cached_input_msat_per_mtok=None, cache_write_msat_per_mtok=None, reasoning_msat_per_mtok=None
    )
    usage = data.draw(allowed_usages(plain, call))
    more = replace(usage, **{name: getattr(usage, name) + 1})
    assert cost_msat(plain, more) >= cost_msat(plain, usage)
