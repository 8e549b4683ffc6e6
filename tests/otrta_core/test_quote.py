from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from otrta_core import (
    CallRequest,
    InvalidRequest,
    ModelPrice,
    RequestNotPriceable,
    Usage,
    affordable_output_tokens,
    cost_msat,
    face_value,
    minimum_msat,
    quote_msat,
)
from otrta_core.pricing import dearest
from otrta_core.proof import fee_of_ppk
from tests.otrta_core.strategies import chat_bodies, prices, usages

DEMO = ModelPrice(input_msat_per_mtok=1_000_000, output_msat_per_mtok=5_000_000)
HELLO = {"model": "demo-chat", "messages": [{"role": "user", "content": "hi"}]}
IMAGE = {
    "role": "user",
    "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}],
}


def chat(**fields: Any) -> CallRequest:
    return CallRequest.parse("chat", {**HELLO, **fields})


def prompt_bound(price: ModelPrice, call: CallRequest) -> int:
    return call.prompt_tokens + call.images * (price.image_input_tokens or 0)


def dearest_usage(price: ModelPrice, prompt: int, completion: int) -> Usage:
    """The usage of so many tokens that costs most."""
    candidates = [
        Usage(
            prompt_tokens=prompt, completion_tokens=completion, reasoning_tokens=reasoning, **{part: prompt}
        )
        for part in ("prompt_tokens", "cached_tokens", "cache_write_tokens")
        for reasoning in (0, completion)
        if part != "prompt_tokens"
    ] + [
        Usage(prompt_tokens=prompt, completion_tokens=completion, reasoning_tokens=reasoning)
        for reasoning in (0, completion)
    ]
    return max(candidates, key=lambda usage: cost_msat(price, usage))


class TestDemoNumbers:
    def test_a_call_without_a_limit_is_quoted_with_the_default_output(self) -> None:
        assert quote_msat(DEMO, HELLO) == (32 + 16 + 2) + 5 * 1024

    def test_a_call_with_a_limit_is_quoted_with_it(self) -> None:
        assert quote_msat(DEMO, {**HELLO, "max_tokens": 20}) == 50 + 5 * 20
        assert quote_msat(DEMO, {**HELLO, "max_tokens": 20, "n": 3}) == 50 + 5 * 20 * 3

    def test_the_least_that_buys_a_call_without_a_limit_is_sixteen_tokens_of_output(self) -> None:
        assert minimum_msat(DEMO, chat()) == 50 + 5 * 16

    def test_the_least_that_buys_a_call_with_a_limit_is_its_quote(self) -> None:
        assert minimum_msat(DEMO, chat(max_tokens=1)) == quote_msat(DEMO, chat(max_tokens=1)) == 55
        assert minimum_msat(DEMO, chat(max_tokens=900)) == quote_msat(DEMO, chat(max_tokens=900))

    def test_embeddings_are_quoted_by_their_input_alone(self) -> None:
        assert quote_msat(DEMO, {"model": "demo-embed", "input": "hello"}) == 32 + 16 + 5

    def test_the_operators_own_defaults_are_used(self) -> None:
        assert quote_msat(DEMO, HELLO, default_output_tokens=10) == 50 + 50
        assert minimum_msat(DEMO, chat(), min_output_tokens=2) == 50 + 10


@given(prices(), chat_bodies, st.data())
def test_no_usage_within_the_bounds_costs_more_than_the_quote(
    price: ModelPrice, body: dict[str, Any], data: st.DataObject
) -> None:
    call = CallRequest.parse("chat", body)
    if call.images:
        assume(price.image_input_tokens is not None)
    limit = 1024 if call.output_limit is None else call.output_limit
    if price.max_output_tokens is not None:
        limit = min(limit, price.max_output_tokens)
    usage = data.draw(usages(prompt_bound(price, call), limit * call.choices))
    assert cost_msat(price, usage) <= quote_msat(price, call)


@given(prices(), chat_bodies)
def test_the_quote_is_reached_by_the_dearest_usage(price: ModelPrice, body: dict[str, Any]) -> None:
    call = CallRequest.parse("chat", {**body, "max_tokens": 50, "max_completion_tokens": None})
    price = replace(price, image_input_tokens=price.image_input_tokens or 0, max_output_tokens=None)
    worst = dearest_usage(price, prompt_bound(price, call), 50 * call.choices)
    assert quote_msat(price, call) == cost_msat(price, worst)


@given(prices(), chat_bodies)
def test_the_least_is_never_more_than_the_quote(price: ModelPrice, body: dict[str, Any]) -> None:
    price = replace(price, image_input_tokens=price.image_input_tokens or 0)
    call = CallRequest.parse("chat", body)
    assert minimum_msat(price, call) <= quote_msat(price, call)


@given(st.lists(prices(), min_size=1, max_size=3), chat_bodies)
def test_the_dearest_of_several_prices_is_quoted_for_all(
    several: list[ModelPrice], body: dict[str, Any]
) -> None:
    call = CallRequest.parse("chat", body)
    if call.images:
        assume(all(price.image_input_tokens is not None for price in several))
    merged = quote_msat(dearest(several), call)
    assert all(merged >= quote_msat(price, call) for price in several)


def test_a_models_own_maximum_bounds_the_output() -> None:
    small = replace(DEMO, max_output_tokens=10)
    assert quote_msat(small, chat(max_tokens=500)) == quote_msat(small, chat()) == 50 + 50
    assert minimum_msat(small, chat()) == 50 + 50


def test_images_are_bounded_by_the_models_tokens_for_one() -> None:
    priced = replace(DEMO, image_input_tokens=1000)
    assert quote_msat(priced, chat(messages=[IMAGE], max_tokens=1)) == 48 + 1000 + 5


@pytest.mark.parametrize(
    "ask", [quote_msat, minimum_msat, lambda price, call: affordable_output_tokens(price, call, 10**9)]
)
def test_images_are_refused_where_the_model_has_no_price_for_them(ask: Any) -> None:
    with pytest.raises(RequestNotPriceable) as caught:
        ask(DEMO, chat(messages=[IMAGE]))
    assert caught.value.code == "request_not_priceable"


@pytest.mark.parametrize(
    "body", [{}, {"model": "m"}, {"model": "m", "messages": 5}, {"model": "m", "input": []}]
)
def test_a_raw_body_of_wrong_shape_has_no_quote(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        quote_msat(DEMO, body)


class TestWhatIsSold:
    IMAGES = CallRequest(kind="images", model="m", prompt_tokens=50, choices=2, images_made=2)
    SPEECH = CallRequest(kind="speech", model="m", prompt_tokens=50, characters=1000)
    SOUND = CallRequest(kind="transcriptions", model="m", prompt_tokens=50, seconds=10)

    def test_images_cost_their_price_each(self) -> None:
        assert quote_msat(ModelPrice(image_msat=400), self.IMAGES) == 800
        priced = ModelPrice(image_msat=0, output_msat_per_mtok=1_000_000, max_output_tokens=6000)
        assert quote_msat(priced, self.IMAGES) == 2 * 6000

    def test_speech_costs_its_characters(self) -> None:
        assert quote_msat(ModelPrice(character_msat_per_million=1_500_000), self.SPEECH) == 1500

    def test_audio_costs_its_seconds(self) -> None:
        assert quote_msat(ModelPrice(second_msat=10), self.SOUND) == 100

    def test_audio_by_the_token_is_bounded_by_the_models_context(self) -> None:
        priced = ModelPrice(
            second_msat=0,
            input_msat_per_mtok=1_000_000,
            output_msat_per_mtok=2_000_000,
            max_input_tokens=16_000,
            max_output_tokens=2000,
        )
        assert quote_msat(priced, self.SOUND) == 50 + 16_000 + 4000
        for lacking in ("max_input_tokens", "max_output_tokens"):
            with pytest.raises(RequestNotPriceable, match="does not bound"):
                quote_msat(replace(priced, **{lacking: None}), self.SOUND)

    @pytest.mark.parametrize("call", [IMAGES, SPEECH, SOUND], ids=lambda call: call.kind)
    def test_what_has_no_price_by_the_piece_is_not_sold(self, call: CallRequest) -> None:
        chat_price = replace(DEMO, max_input_tokens=500, max_output_tokens=500)
        with pytest.raises(RequestNotPriceable, match="no price for"):
            quote_msat(chat_price, call)

    @pytest.mark.parametrize("call", [IMAGES, SPEECH], ids=lambda call: call.kind)
    def test_output_that_nothing_bounds_is_not_sold(self, call: CallRequest) -> None:
        priced = ModelPrice(image_msat=0, character_msat_per_million=0, output_msat_per_mtok=1)
        with pytest.raises(RequestNotPriceable, match="does not bound"):
            quote_msat(priced, call)

    def test_a_rerank_costs_its_price_for_every_search_unit(self) -> None:
        call = CallRequest(kind="rerank", model="m", prompt_tokens=50, search_units=3)
        assert quote_msat(ModelPrice(request_msat=7, output_msat_per_mtok=10**9), call) == 21

    def test_an_echo_is_output_that_the_limit_does_not_cap(self) -> None:
        call = CallRequest(
            kind="completions", model="m", prompt_tokens=50, output_limit=20, echoed_tokens=10, choices=2
        )
        assert quote_msat(DEMO, call) == 50 + 5 * (2 * 20 + 10)
        assert affordable_output_tokens(DEMO, call, 50 + 50 + 5 * 2 * 3) == 3
        assert affordable_output_tokens(DEMO, call, 50 + 49) == 0


class TestAffordableOutput:
    @given(prices(), chat_bodies, st.integers(0, 10**8))
    def test_so_many_tokens_are_covered_and_one_more_is_not_unless_at_a_ceiling(
        self, price: ModelPrice, body: dict[str, Any], available: int
    ) -> None:
        price = replace(price, image_input_tokens=price.image_input_tokens or 0)
        call = CallRequest.parse("chat", body)
        prompt = prompt_bound(price, call)

        def cost(tokens: int) -> int:
            return cost_msat(price, dearest_usage(price, prompt, tokens * call.choices))

        tokens = affordable_output_tokens(price, call, available)
        ceilings = [c for c in (price.max_output_tokens, call.output_limit) if c is not None]
        if tokens is None:
            assert not ceilings
            assert cost(10**9) <= available
        elif cost(0) > available:
            assert tokens == 0
        else:
            assert cost(tokens) <= available
            assert tokens <= min(ceilings, default=tokens)
            assert tokens in ceilings or cost(tokens + 1) > available

    @given(prices(), chat_bodies)
    def test_the_quote_affords_the_whole_limit(self, price: ModelPrice, body: dict[str, Any]) -> None:
        price = replace(price, image_input_tokens=price.image_input_tokens or 0)
        call = CallRequest.parse("chat", body)
        tokens = affordable_output_tokens(price, call, quote_msat(price, call))
        wanted = min(call.output_limit or 1024, price.max_output_tokens or 10**9)
        assert tokens is None or tokens >= wanted

    @pytest.mark.parametrize(
        ("available", "tokens"), [(0, 0), (49, 0), (50, 0), (54, 0), (55, 1), (10_000, 1990)]
    )
    def test_demo_numbers(self, available: int, tokens: int) -> None:
        assert affordable_output_tokens(DEMO, chat(), available) == tokens

    def test_the_payment_is_shared_by_all_choices(self) -> None:
        assert affordable_output_tokens(DEMO, chat(n=4), 50 + 5 * 10) == 2

    def test_free_output_has_no_limit(self) -> None:
        free = replace(DEMO, output_msat_per_mtok=0)
        assert affordable_output_tokens(free, chat(), 50) is None
        assert affordable_output_tokens(free, chat(max_tokens=9), 50) == 9

    def test_less_than_the_price_of_any_call_affords_nothing(self) -> None:
        assert affordable_output_tokens(replace(DEMO, min_msat=1000), chat(), 999) == 0
        assert affordable_output_tokens(replace(DEMO, min_msat=1000), chat(), 1000) == 190


class TestFaceValue:
    @given(st.integers(0, 10**12), st.integers(0, 10**6))
    def test_a_token_of_one_proof_per_bit_always_pays_the_quote(self, quote: int, ppk: int) -> None:
        value = face_value(quote, ppk)
        assert value - fee_of_ppk(value.bit_length() * ppk) >= quote

    @given(st.integers(0, 300), st.integers(0, 5000))
    def test_no_smaller_value_is_enough(self, quote: int, ppk: int) -> None:
        enough = (v for v in range(10_000) if v - fee_of_ppk(v.bit_length() * ppk) >= quote)
        assert face_value(quote, ppk) == next(enough)

    def test_without_a_fee_it_is_the_quote(self) -> None:
        assert [face_value(quote, 0) for quote in (0, 1, 5170)] == [0, 1, 5170]

    def test_the_fee_of_the_bits_that_the_fee_adds_is_contained(self) -> None:
        assert face_value(255, 100) == 256
        assert face_value(1023, 1000) == 1023 + 11
