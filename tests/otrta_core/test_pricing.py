import math
from dataclasses import fields, replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import ModelPrice, PriceError, PriceTable, Usage, cost_msat
from otrta_core.amounts import MAX_AMOUNT
from otrta_core.pricing import cheapest, dearest
from tests.otrta_core.strategies import counts, prices, usages

DEMO = ModelPrice(input_msat_per_mtok=1_000_000, output_msat_per_mtok=5_000_000)
any_usage = st.builds(Usage, **{spec.name: counts for spec in fields(Usage)})


def test_a_demo_call_costs_110_msat() -> None:
    assert cost_msat(DEMO, Usage(prompt_tokens=10, completion_tokens=20)) == 110


@given(prices(), usages(), counts, counts, counts)
def test_the_cost_is_the_exact_sum_rounded_up_once(
    price: ModelPrice, usage: Usage, images: int, characters: int, seconds: int
) -> None:
    usage = replace(usage, images=images, characters=characters, seconds=seconds)

    def rate(value: int | None, default: int) -> Fraction:
        return Fraction(default if value is None else value, 10**6)

    plain_input = usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens
    exact = (
        plain_input * rate(price.input_msat_per_mtok, 0)
        + usage.cached_tokens * rate(price.cached_input_msat_per_mtok, price.input_msat_per_mtok)
        + usage.cache_write_tokens * rate(price.cache_write_msat_per_mtok, price.input_msat_per_mtok)
        + (usage.completion_tokens - usage.reasoning_tokens) * rate(price.output_msat_per_mtok, 0)
        + usage.reasoning_tokens * rate(price.reasoning_msat_per_mtok, price.output_msat_per_mtok)
        + characters * rate(price.character_msat_per_million, 0)
        + images * (price.image_msat or 0)
        + seconds * (price.second_msat or 0)
        + price.request_msat
    )
    cost = max(math.ceil(exact), price.min_msat or 0)
    assert cost_msat(price, usage) == (cost if price.max_msat is None else min(cost, price.max_msat))


def test_fractions_of_all_parts_are_rounded_together() -> None:
    price = ModelPrice(
        input_msat_per_mtok=400_000, output_msat_per_mtok=300_000, reasoning_msat_per_mtok=300_000
    )
    assert cost_msat(price, Usage(prompt_tokens=1, completion_tokens=2, reasoning_tokens=1)) == 1
    assert cost_msat(price, Usage(prompt_tokens=2, completion_tokens=2, reasoning_tokens=1)) == 2


def test_a_price_too_small_for_a_float_is_not_lost() -> None:
    price = ModelPrice(input_msat_per_mtok=2**53 + 1)
    assert cost_msat(price, Usage(prompt_tokens=10**6)) == 2**53 + 1
    assert cost_msat(ModelPrice(input_msat_per_mtok=1), Usage(prompt_tokens=1)) == 1


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(prompt_tokens=5, cached_tokens=10), 20),
        (Usage(prompt_tokens=5, cached_tokens=3, cache_write_tokens=4), 6 + 12),
        (Usage(completion_tokens=5, reasoning_tokens=10), 40),
    ],
)
def test_parts_larger_than_their_whole_are_charged_as_parts(usage: Usage, cost: int) -> None:
    price = ModelPrice(
        input_msat_per_mtok=1_000_000,
        output_msat_per_mtok=1_000_000,
        cached_input_msat_per_mtok=2_000_000,
        cache_write_msat_per_mtok=3_000_000,
        reasoning_msat_per_mtok=4_000_000,
    )
    assert cost_msat(price, usage) == cost


@given(prices(), usages())
def test_more_tokens_never_cost_less(price: ModelPrice, usage: Usage) -> None:
    cost = cost_msat(price, usage)
    assert cost_msat(price, replace(usage, prompt_tokens=usage.prompt_tokens + 1)) >= cost
    assert cost_msat(price, replace(usage, completion_tokens=usage.completion_tokens + 1)) >= cost


@pytest.mark.parametrize(
    ("low", "high", "cost"), [(200, None, 200), (None, 50, 50), (None, 300, 110), (200, 50, 50)]
)
def test_the_least_and_the_most_bound_the_cost(low: int | None, high: int | None, cost: int) -> None:
    price = replace(DEMO, min_msat=low, max_msat=high)
    assert cost_msat(price, Usage(prompt_tokens=10, completion_tokens=20)) == cost


def test_a_usage_beyond_belief_costs_what_a_ledger_can_hold() -> None:
    price = ModelPrice(input_msat_per_mtok=MAX_AMOUNT)
    assert cost_msat(price, Usage(prompt_tokens=MAX_AMOUNT)) == MAX_AMOUNT


class TestDearest:
    @given(st.lists(prices(), min_size=1, max_size=4), any_usage)
    def test_no_call_that_all_sell_costs_more_under_any_of_the_prices(
        self, several: list[ModelPrice], usage: Usage
    ) -> None:
        merged = dearest(several)
        for unit, price in (("images", merged.image_msat), ("seconds", merged.second_msat)):
            usage = usage if price is not None else replace(usage, **{unit: 0})
        if merged.character_msat_per_million is None:
            usage = replace(usage, characters=0)
        assert all(cost_msat(merged, usage) >= cost_msat(price, usage) for price in several)

    @pytest.mark.parametrize(
        "name", ["image_msat", "image_input_tokens", "character_msat_per_million", "second_msat"]
    )
    def test_what_one_does_not_sell_is_not_sold(self, name: str) -> None:
        assert getattr(dearest([ModelPrice(**{name: 5}), DEMO]), name) is None
        assert getattr(dearest([ModelPrice(**{name: 5}), ModelPrice(**{name: 7})]), name) == 7

    @pytest.mark.parametrize("name", ["max_output_tokens", "max_input_tokens", "max_msat"])
    def test_limits_take_the_largest_and_none_means_no_limit(self, name: str) -> None:
        assert getattr(dearest([ModelPrice(**{name: 5}), ModelPrice(**{name: 7})]), name) == 7
        assert getattr(dearest([ModelPrice(**{name: 5}), DEMO]), name) is None

    def test_an_absent_special_rate_counts_as_the_plain_one(self) -> None:
        cheap_cache = ModelPrice(input_msat_per_mtok=5, cached_input_msat_per_mtok=1)
        merged = dearest([cheap_cache, ModelPrice(input_msat_per_mtok=3)])
        assert (merged.input_msat_per_mtok, merged.cached_input_msat_per_mtok) == (5, 3)

    def test_one_price_is_its_own_dearest_and_none_is_an_error(self) -> None:
        assert dearest(iter([DEMO])) is DEMO
        with pytest.raises(PriceError):
            dearest([])


class TestCheapest:
    @given(st.lists(prices(), min_size=1, max_size=4), usages())
    def test_no_call_costs_more_than_under_any_of_them(self, several: list[ModelPrice], usage: Usage) -> None:
        merged = cheapest(several)
        assert all(cost_msat(merged, usage) <= cost_msat(price, usage) for price in several)

    def test_what_one_of_them_sells_is_sold(self) -> None:
        for name in ("image_msat", "second_msat", "image_input_tokens"):
            assert getattr(cheapest([ModelPrice(**{name: 5}), DEMO]), name) == 5
            assert getattr(cheapest([ModelPrice(**{name: 5}), ModelPrice(**{name: 7})]), name) == 5

    def test_a_least_amount_counts_only_where_all_have_one(self) -> None:
        assert cheapest([ModelPrice(min_msat=5), ModelPrice()]).min_msat is None
        assert cheapest([ModelPrice(min_msat=5), ModelPrice(min_msat=3)]).min_msat == 3
        assert cheapest([ModelPrice(max_msat=5), ModelPrice()]).max_msat == 5

    def test_a_part_without_a_rate_has_that_of_the_plain_one(self) -> None:
        merged = cheapest([ModelPrice(input_msat_per_mtok=9, cached_input_msat_per_mtok=5), DEMO])
        assert merged.cached_input_msat_per_mtok == 5
        assert cheapest([DEMO, ModelPrice(input_msat_per_mtok=9)]).cached_input_msat_per_mtok is None

    def test_one_price_is_its_own_cheapest_and_none_is_an_error(self) -> None:
        assert cheapest(iter([DEMO])) is DEMO
        with pytest.raises(PriceError):
            cheapest([])


@pytest.mark.parametrize("value", [-1, 1.0, "1", True, MAX_AMOUNT + 1])
@pytest.mark.parametrize("kind", [ModelPrice, Usage])
def test_figures_that_are_not_counts_are_refused(kind: type, value: Any) -> None:
    for spec in fields(kind):
        with pytest.raises(PriceError, match=spec.name):
            kind(**{spec.name: value})


@given(prices())
def test_a_price_comes_back_from_its_published_form(price: ModelPrice) -> None:
    shown = price.to_dict()
    assert None not in shown.values()
    assert ModelPrice.from_dict({"id": "demo-chat", "unknown": [], **shown}) == price


def test_a_published_price_with_a_wrong_figure_is_refused() -> None:
    with pytest.raises(PriceError, match="request_msat"):
        ModelPrice.from_dict({"request_msat": "5"})
    assert ModelPrice.from_dict({"request_msat": None}) == ModelPrice()


def test_the_table_prefers_the_exact_name_then_the_longest_glob() -> None:
    named = {
        name: ModelPrice(request_msat=at)
        for at, name in enumerate(["*", "gpt-*", "gpt-4*", "gpt-4o", "[ab]-x"])
    }
    table = PriceTable(named)
    for model, name in {
        "gpt-4o": "gpt-4o",
        "gpt-4o-mini": "gpt-4*",
        "gpt-3.5": "gpt-*",
        "claude": "*",
        "GPT-4o": "*",
        "a-x": "[ab]-x",
    }.items():
        assert table.get(model) is named[name]


def test_a_model_without_a_price_has_none() -> None:
    assert PriceTable({"demo-*": DEMO}).get("other") is None
    assert PriceTable({}).get("") is None


def test_a_deployments_own_price_comes_before_the_models() -> None:
    own, plain, glob = (ModelPrice(request_msat=at) for at in range(3))
    table = PriceTable({"id-1": own, "gpt": plain, "*": glob})
    assert table.get("gpt", "id-1") is own
    assert table.get("gpt", "id-2") is table.get("gpt") is plain
    assert table.get("other", "id-2") is glob


def test_a_rerank_costs_its_price_per_search_unit() -> None:
    price = ModelPrice(request_msat=7)
    assert [cost_msat(price, Usage(search_units=units)) for units in range(4)] == [7, 7, 14, 21]
