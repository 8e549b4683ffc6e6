"""A Routstr node's price list, and what it wants to be paid."""

import json
from decimal import Decimal
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import CallRequest
from proxy_trio.routstr import read_models, with_slack
from tests.integration.routstr_node import MODEL


def listed(**changes):
    model = {**MODEL, **changes}
    return read_models(json.loads(json.dumps({"data": [model]}), parse_float=Decimal))


def call(words="hi", kind="chat", **fields):
    prompt = {"input": words} if kind == "embeddings" else {"messages": [{"role": "user", "content": words}]}
    return CallRequest.parse(kind, {"model": "m", **prompt, **fields})


def test_prices_are_read_to_the_msat():
    price = listed()["m"].price
    assert (price.input_msat_per_mtok, price.output_msat_per_mtok) == (1_000_000, 5_000_000)
    assert (price.cached_input_msat_per_mtok, price.cache_write_msat_per_mtok) == (500_000, None)
    assert listed()["maker/m"].price == price


@pytest.mark.parametrize(
    "changes",
    [
        {"sats_pricing": None},
        {"sats_pricing": {**MODEL["sats_pricing"], "prompt": -1.0}},
        {"sats_pricing": {**MODEL["sats_pricing"], "max_cost": 1e300}},
        {"sats_pricing": {"prompt": "much", "completion": 1}},
        {"id": 7},
        {"enabled": False},
    ],
)
def test_a_model_that_cannot_be_read_is_not_sold(changes):
    assert listed(**changes) == {}


@pytest.mark.parametrize("data", [None, [], {"data": {}}, {"data": [1, None, {"id": "m"}]}, "x"])
def test_what_is_no_list_of_a_node_has_no_models(data):
    assert read_models(data) == {}


def test_nothing_is_known_of_a_call_that_the_node_does_not_read():
    assert listed()["m"].to_pay_msat(call(kind="embeddings")) == 104_000
    assert listed()["m"].bound_msat(call()) is None
    assert listed()["m"].bound_msat(call(max_tokens=100)) == with_slack(551)


sat = st.decimals(0, 10, places=6).map(lambda d: max(d, Decimal("0.000001")))
limits = st.integers(1, 200_000)


@given(sat, sat, limits, limits, st.text(max_size=300), st.none() | st.integers(1, 300_000))
def test_what_is_paid_is_never_less_than_what_the_node_wants(prompt, completion, context, most, words, limit):
    """What it wants is written here as its documentation and its replies have it, tolerance included."""
    if context <= most:
        total = context * max(prompt, completion)
        most_prompt, most_output = context * prompt, context * completion
    else:
        most_prompt, most_output = context * prompt, most * completion
        total = (context - most) * prompt + most_output
    sats = {"prompt": float(prompt), "completion": float(completion), "request": 0.001}
    sats |= {"max_prompt_cost": float(most_prompt), "max_completion_cost": float(most_output)}
    models = listed(
        sats_pricing={**sats, "max_cost": float(total)},
        top_provider={"context_length": context, "max_completion_tokens": most},
    )
    fields = {} if limit is None else {"max_tokens": limit}
    paid = models["m"].to_pay_msat(call(words, **fields))
    for tolerance in (Fraction(1), Fraction(99, 100)):
        wanted = int(Fraction(total) * 1000 * tolerance)
        allowed = max(0, context - most) * Fraction(prompt) * tolerance
        wanted -= max(0, floor((allowed - len(words) // 3 * Fraction(prompt)) * 1000))
        if limit is not None:
            wanted -= max(0, floor((Fraction(most_output) * tolerance - limit * Fraction(completion)) * 1000))
        assert paid + 1 >= wanted
