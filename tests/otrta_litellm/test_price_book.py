"""Prices in msat: the operator's table first, else LiteLLM's USD prices, never too little."""

from decimal import Decimal
from typing import Any, get_args

import pytest

from otrta_core import ModelPrice
from otrta_core.requests import Kind
from otrta_litellm.kinds import has_price_for
from otrta_litellm.price_book import PriceBook, Priced, with_known
from tests.otrta_litellm.samples import View, deployment, settings

RATE = {"btc_usd": {"fixed": "100000"}}  # 1 USD is 1,000,000 msat
MSAT_PER_USD = Decimal(1_000_000)
KINDS: tuple[Kind, ...] = get_args(Kind)


def book(view: View, **values: Any) -> PriceBook:
    return PriceBook(settings(**values), view)  # type: ignore[arg-type]


def price_in(found: PriceBook, model: str) -> ModelPrice | None:
    priced = found.priced(model, MSAT_PER_USD)
    return None if priced is None else priced.price


def test_the_margin_and_the_rate_are_in_the_price() -> None:
    view = View(m=[deployment(input_per_token="0.000001", output_per_token="0.000003")])
    made = book(view, btc_usd={"fixed": "60000.5"}, margin="0.05")
    priced = made.priced("m", made.msat_per_usd(Decimal("60000.5")))
    found = None if priced is None else priced.price
    exact = Decimal(100_000_000_000) / Decimal("60000.5") * Decimal("1.05")
    assert found is not None
    assert found.input_msat_per_mtok - 1 < exact <= found.input_msat_per_mtok
    assert found.output_msat_per_mtok - 1 < exact * 3 <= found.output_msat_per_mtok


@pytest.mark.parametrize(
    ("price", "kinds"),
    [
        ({"input_msat_per_mtok": 5}, {"embeddings", "rerank", "images"}),
        ({"input_msat_per_mtok": 5, "output_msat_per_mtok": 5}, {"chat", "messages", "embeddings", "images"}),
        ({"output_msat_per_mtok": 5}, {"chat"}),
        ({"image_msat": 5}, {"images", "image_edits"}),
        ({"image_msat": 5, "input_msat_per_mtok": 5}, {"images", "embeddings"}),
        ({"character_msat_per_million": 5}, {"speech"}),
        ({"second_msat": 5}, {"transcriptions"}),
        ({"request_msat": 5}, {"chat", "rerank", "moderations"}),
        ({}, {"chat", "embeddings"}),
    ],
    ids=lambda value: str(sorted(value)),
)
def test_a_price_sells_the_kinds_that_it_is_for(price: dict[str, int], kinds: set[Kind]) -> None:
    found = ModelPrice(**price)  # type: ignore[arg-type]
    sold = {kind for kind in KINDS if has_price_for(found, kind)}
    assert kinds <= sold
    refused: set[Kind] = {"chat", "completions", "responses", "messages", "embeddings", "moderations"}
    if not kinds & refused:
        assert not sold & refused
    if "chat" not in kinds:
        assert "responses" not in sold


def test_the_table_stands_before_usd_and_globs_after_names() -> None:
    view = View(
        a=[deployment("a", input_per_token="1", output_per_token="1")],
        ab=[deployment("ab")],
        c=[deployment("c")],
    )
    prices = {"a": {"input_msat_per_mtok": 1, "output_msat_per_mtok": 1}, "a*": {"request_msat": 7}}
    found = book(view, prices=prices, **RATE)
    assert price_in(found, "a") == ModelPrice(input_msat_per_mtok=1, output_msat_per_mtok=1)
    assert price_in(found, "ab") == ModelPrice(request_msat=7)
    assert price_in(found, "c") is None


def test_a_price_in_the_table_sells_nothing_that_litellm_does_not_serve() -> None:
    assert price_in(book(View(), prices={"*": {"request_msat": 7}}), "nobody") is None


def test_without_a_rate_usd_prices_count_for_nothing() -> None:
    assert price_in(book(View(m=[deployment(input_per_token="1", output_per_token="1")])), "m") is None


def test_the_dearest_of_all_that_may_answer_is_asked() -> None:
    view = View(
        m=[
            deployment("m", input_per_token="0.000002", output_per_token="0.000001"),
            deployment("fallback", input_per_token="0.000001", output_per_token="0.000004"),
        ]
    )
    found = price_in(book(view, **RATE), "m")
    assert found is not None
    assert (found.dearest_input, found.dearest_output) == (2_000_000, 4_000_000)


def test_a_fallback_without_a_price_makes_the_model_unsellable() -> None:
    view = View(m=[deployment("m"), deployment("fallback")])
    assert price_in(book(view, prices={"m": {"request_msat": 1}}), "m") is None


def test_what_the_operator_gives_away_is_free() -> None:
    found = book(View(m=[deployment()]), prices={"m": {"input_msat_per_mtok": 0}})
    assert price_in(found, "m") == ModelPrice()


def test_a_usd_price_without_a_rate_is_told_from_no_price() -> None:
    view = View(
        usd=[deployment("usd", input_per_token="1", output_per_token="1")],
        both=[deployment("own"), deployment("usd", input_per_token="1", output_per_token="1")],
        own=[deployment("own")],
        none=[deployment("none")],
    )
    found = book(view, prices={"own": {"request_msat": 7}}, **RATE)
    assert found.priced("usd", None) == found.priced("both", None) == Priced("usd", None)
    assert found.priced("own", None) == Priced("config", ModelPrice(request_msat=7))
    assert found.priced("none", None) is None


def test_limits_of_the_deployment_fill_those_that_the_price_lacks() -> None:
    limited = deployment(max_input_tokens=100, max_output_tokens=50)
    own = ModelPrice(input_msat_per_mtok=1, max_output_tokens=7)
    assert with_known(own, limited) == ModelPrice(
        input_msat_per_mtok=1, max_output_tokens=7, max_input_tokens=100
    )


def test_what_a_model_reasons_costs_as_its_output_where_nothing_else_is_said() -> None:
    reasons, plain = deployment(reasons=True), deployment()
    price = ModelPrice(input_msat_per_mtok=1, output_msat_per_mtok=5)
    assert with_known(price, plain).reasoning_msat_per_mtok is None
    assert with_known(price, reasons).reasoning_msat_per_mtok == 5
    dear = ModelPrice(output_msat_per_mtok=5, reasoning_msat_per_mtok=9)
    assert with_known(dear, reasons).reasoning_msat_per_mtok == 9
    assert with_known(ModelPrice(input_msat_per_mtok=1), reasons).reasoning_msat_per_mtok is None
    usd = deployment(input_per_token="0.000001", output_per_token="0.000003", reasons=True)
    found = price_in(
        book(View(m=[deployment(input_per_token="0.000001", output_per_token="0.000001"), usd]), **RATE), "m"
    )
    assert found is not None
    assert found.reasoning_msat_per_mtok == found.output_msat_per_mtok == 3_000_000


def test_prices_are_looked_up_again_when_litellm_loads_its_router_anew() -> None:
    view = View(m=[deployment()])
    found = book(view, prices={"m": {"request_msat": 1}})
    assert price_in(found, "m") is not None
    assert (price_in(found, "m"), view.asked) == (ModelPrice(request_msat=1), 1)
    view.models, view.at = {}, object()
    assert price_in(found, "m") is None


def test_made_up_names_do_not_fill_the_memory() -> None:
    view = View(m=[deployment()])
    found = book(view, prices={"m": {"request_msat": 1}})
    for n in range(3000):
        assert price_in(found, f"made-up-{n}") is None
    assert len(found._known) <= 1001


@pytest.mark.anyio
async def test_all_that_is_priced_is_listed_and_listed_anew_with_a_new_router() -> None:
    view = View(a=[deployment("a")], b=[deployment("b")])
    found = book(view, prices={"a": {"request_msat": 1}})
    assert not found.is_listed
    await found.list_models()
    assert found.all_priced(None) == {"a": Priced("config", ModelPrice(request_msat=1))}
    asked = view.asked
    await found.list_models()
    assert (view.asked, found.is_listed) == (asked, True)
    view.models, view.at = {}, object()
    assert not found.is_listed
    await found.list_models()
    assert found.all_priced(None) == {}


@pytest.mark.parametrize(
    ("models", "takes"),
    [
        (["openai/x"], True),
        (["azure/x", "openai/y"], True),
        (["cohere/x"], False),
        (["openai/x", "cohere/y"], False),
    ],
)
def test_token_numbers_are_for_upstreams_that_take_them_as_they_are(models: list[str], takes: bool) -> None:
    view = View(m=[deployment(model=model) for model in models])
    assert book(view).takes_token_numbers("m") is takes


@pytest.mark.parametrize(
    ("models", "raises"),
    [
        (["anthropic/a"], False),
        (["anthropic/a", "bedrock/b", "vertex_ai/c"], False),
        (["openai/a"], True),
        (["anthropic/a", "openai/b"], True),
    ],
)
def test_small_limits_are_raised_where_responses_may_answer(models: list[str], raises: bool) -> None:
    view: Any = View(m=[deployment("m", model) for model in models])
    assert PriceBook(settings(), view).raises_small_limits("m") is raises
