"""The view of LiteLLM's router, against real routers (nothing here makes a call)."""

from decimal import Decimal
from itertools import combinations
from typing import Any, get_args

import litellm
import pytest
from litellm.proxy.common_utils.http_parsing_utils import resolve_inference_model

from otrta_core.requests import Kind
from otrta_litellm.router_view import Deployment, ForcedModels, RouterView, UsdPrices

# LiteLLM's own types raise this when they are first used.
pytestmark = pytest.mark.filterwarnings("ignore:Items? .* using the `ReadOnly` qualifier:UserWarning")


def deployment(name: str, model: str, info: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "model_name": name,
        "litellm_params": {"model": model, "api_key": "none", **params},
    }
    return entry if info is None else {**entry, "model_info": info}


def view(*deployments: dict[str, Any], **settings: Any) -> RouterView:
    router = litellm.Router(model_list=list(deployments), **settings)
    return RouterView(lambda: router)


def reached(candidates: list[Deployment]) -> set[tuple[str, str]]:
    return {(candidate.group, candidate.litellm_model) for candidate in candidates}


def prices(*, own: dict[str, Any] | None = None, model: str = "openai/not-in-the-map") -> UsdPrices:
    (only,) = view(deployment("m", model, **(own or {}))).candidates("m")
    return only.prices


def test_before_the_router_exists_there_is_nothing_to_sell() -> None:
    empty = RouterView(lambda: None)
    assert empty.model_names() == []
    assert empty.candidates("m") == []


def test_names_are_public_names_and_visible_aliases() -> None:
    seen = view(
        deployment("b", "openai/gpt-4o"),
        deployment("a", "openai/gpt-4o"),
        deployment("openai/*", "openai/*"),
        model_group_alias={"alias": "a", "secret": {"model": "a", "hidden": True}},
    )
    assert seen.model_names() == ["a", "alias", "b"]


def test_a_model_whose_deployments_are_all_blocked_is_not_sold() -> None:
    seen = view(deployment("off", "openai/gpt-4o", {"blocked": True}), deployment("on", "openai/gpt-4o"))
    assert seen.model_names() == ["on"]
    assert seen.candidates("off") == []


def test_all_deployments_of_a_group_are_candidates() -> None:
    seen = view(deployment("m", "openai/gpt-4o"), deployment("m", "anthropic/claude-sonnet-4-5"))
    assert reached(seen.candidates("m")) == {("m", "openai/gpt-4o"), ("m", "anthropic/claude-sonnet-4-5")}


@pytest.mark.parametrize("kind", ["fallbacks", "context_window_fallbacks", "content_policy_fallbacks"])
def test_fallbacks_of_fallbacks_are_in_reach(kind: str) -> None:
    seen = view(
        deployment("a", "openai/one"),
        deployment("b", "openai/two"),
        deployment("c", "openai/three"),
        deployment("d", "openai/four"),
        **{kind: [{"a": ["b"]}, {"b": ["c", "a"]}]},
    )
    assert reached(seen.candidates("a")) == {("a", "openai/one"), ("b", "openai/two"), ("c", "openai/three")}


def test_default_fallbacks_hold_for_every_model() -> None:
    seen = view(deployment("a", "openai/one"), deployment("b", "openai/two"), default_fallbacks=["b"])
    assert reached(seen.candidates("a")) == {("a", "openai/one"), ("b", "openai/two")}


def test_a_fallback_with_parameters_is_in_reach() -> None:
    seen = view(
        deployment("a", "openai/one"), deployment("b", "openai/two"), fallbacks=[{"a": [{"model": "b"}]}]
    )
    assert ("b", "openai/two") in reached(seen.candidates("a"))


def test_the_fallbacks_of_a_deployment_itself_are_upstream_names() -> None:
    seen = view(deployment("a", "openai/one", fallbacks=["openai/gpt-4o"]))
    assert ("openai/gpt-4o", "openai/gpt-4o") in reached(seen.candidates("a"))


def test_an_alias_has_its_targets_deployments_and_fallbacks() -> None:
    seen = view(
        deployment("a", "openai/one"),
        deployment("b", "openai/two"),
        model_group_alias={"alias": "a", "hidden": {"model": "a", "hidden": True}},
        fallbacks=[{"a": ["b"]}],
    )
    assert reached(seen.candidates("alias")) == {("alias", "openai/one"), ("b", "openai/two")}
    assert reached(seen.candidates("hidden")) == {("hidden", "openai/one"), ("b", "openai/two")}


def test_a_wildcard_serves_only_names_that_are_neither_models_nor_aliases() -> None:
    seen = view(
        deployment("openai/*", "openai/*"),
        deployment("openai/exact", "azure/gpt-4o", api_base="http://127.0.0.1:9", api_version="1"),
        deployment("m", "anthropic/claude-sonnet-4-5"),
        model_group_alias={"openai/alias": "m"},
    )
    assert reached(seen.candidates("openai/gpt-4o")) == {("openai/gpt-4o", "openai/gpt-4o")}
    assert reached(seen.candidates("openai/exact")) == {("openai/exact", "azure/gpt-4o")}
    assert reached(seen.candidates("openai/alias")) == {("openai/alias", "anthropic/claude-sonnet-4-5")}


def test_what_a_wildcard_serves_is_priced_by_the_name_it_becomes() -> None:
    (only,) = view(deployment("openai/*", "openai/*")).candidates("openai/gpt-4o")
    assert only.prices.output_per_token == Decimal("0.00001")


@pytest.mark.parametrize("name", ["", "nobody", "a,b", "openai/one", "the-id"])
def test_what_is_no_public_name_has_no_candidates(name: str) -> None:
    seen = view(deployment("a", "openai/one", {"id": "the-id"}), deployment("b", "openai/two"))
    assert seen.candidates(name) == []


RESOLVED_AS = {"images": "image_generation", "image_edits": "image_edit", "speech": "speech"}
RESOLVED_AS |= {"moderations": "moderation", "transcriptions": "moderation", "rerank": "body"}
NAMED_BY_PATHS = ("chat", "completions", "embeddings", "images", "image_edits")


@pytest.mark.parametrize(
    ("kind", "in_path"),
    [(kind, False) for kind in get_args(Kind)] + [(kind, True) for kind in NAMED_BY_PATHS],
)
def test_the_operators_forced_models_are_taken_as_litellm_takes_them(kind: Kind, in_path: bool) -> None:
    for size in range(5):
        for names in combinations(("everywhere", "completion", "image_generation", "moderation"), size):
            forced = ForcedModels(**{name: name for name in names})
            taken = resolve_inference_model(
                "asked",
                {f"{name}_model": name for name in names if name != "everywhere"},
                forced.everywhere,
                "asked" if in_path else None,
                kind=RESOLVED_AS.get(kind, "completion"),  # type: ignore[arg-type]
            )
            assert forced.instead_of("asked", kind, in_path=in_path) == taken


def test_a_forced_model_is_what_a_call_is_routed_by() -> None:
    seen = RouterView(lambda: None, lambda: ForcedModels(completion="b"))
    assert (seen.routed("a", "chat"), seen.routed("a", "rerank")) == ("b", "a")


def test_a_model_alias_of_litellm_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm, "model_alias_map", {"short": "b"})
    seen = view(deployment("a", "openai/one"), deployment("b", "openai/two"))
    assert reached(seen.candidates("short")) == {("b", "openai/two")}


def test_limits_come_from_the_map_unless_the_operator_sets_them() -> None:
    # The router writes an operator's limits into the map's entry, so each of the two has a model of its own.
    seen = view(
        deployment("listed", "openai/gpt-4.1"),
        deployment("own", "openai/gpt-4o-mini", {"max_output_tokens": 77}),
    )
    (listed,), (own,) = seen.candidates("listed"), seen.candidates("own")
    assert (listed.max_input_tokens, listed.max_output_tokens) == (1_047_576, 32_768)
    assert (own.max_input_tokens, own.max_output_tokens) == (128_000, 77)


def test_an_unknown_model_has_no_price_rather_than_a_price_of_zero() -> None:
    assert prices() == UsdPrices()


def test_floats_become_the_decimals_that_they_print_as() -> None:
    assert prices(own={"input_cost_per_token": 1e-7, "output_cost_per_token": 3e-7}) == UsdPrices(
        input_per_token=Decimal("0.0000001"),
        output_per_token=Decimal("0.0000003"),
        output_per_text_token=Decimal("0.0000003"),
    )


def test_a_price_of_zero_stands_where_the_operator_set_it() -> None:
    assert prices(own={"input_cost_per_token": 0}).input_per_token == 0


def test_of_several_tiers_the_dearest_counts() -> None:
    listed = litellm.model_cost["gemini/gemini-2.5-pro"]
    seen = prices(model="gemini/gemini-2.5-pro")
    assert seen.input_per_token == Decimal(str(listed["input_cost_per_token_above_200k_tokens"]))
    assert seen.input_per_token > Decimal(str(listed["input_cost_per_token"]))


def test_tiers_in_a_list_count_too() -> None:
    tiers = litellm.model_cost["dashscope/qwen-flash"]["tiered_pricing"]
    seen = prices(model="dashscope/qwen-flash")
    assert seen.output_per_token == max(Decimal(str(tier["output_cost_per_token"])) for tier in tiers)


def test_prices_of_a_service_tier_count_only_where_the_deployment_uses_it() -> None:
    assert prices(model="openai/gpt-4o").input_per_token == Decimal("0.0000025")
    priority = prices(model="openai/gpt-4o", own={"service_tier": "priority"})
    assert priority.input_per_token == Decimal("0.00000425")


def test_the_operators_price_replaces_the_maps_tiers_of_that_kind_only() -> None:
    seen = prices(model="gemini/gemini-2.5-pro", own={"input_cost_per_token": 1e-9})
    assert seen.input_per_token == Decimal("1E-9")
    assert seen.output_per_token == Decimal("0.000015")


def test_a_price_of_another_provider_is_not_taken() -> None:
    assert litellm.model_cost["deepseek-chat"]["litellm_provider"] == "deepseek"
    seen = prices(model="openai/deepseek-chat")
    assert (seen.input_per_token, seen.output_per_token) == (None, None)


def test_a_base_model_names_the_price() -> None:
    seen = view(
        deployment("m", "azure/my-own-name", {"base_model": "azure/gpt-4o"}, api_base="http://127.0.0.1:9")
    )
    (only,) = seen.candidates("m")
    assert only.prices.input_per_token == Decimal("0.0000025")


def test_whether_a_model_reasons_is_what_litellm_or_the_operator_says() -> None:
    # one that the operator describes has a model of its own, as above
    seen = view(
        deployment("listed", "openai/o3"),
        deployment("plain", "openai/gpt-4o-mini"),
        deployment("own", "openai/mine", {"supports_reasoning": True}),
        deployment("off", "openai/o4-mini", {"supports_reasoning": False}),
    )
    found = [seen.candidates(name)[0].reasons for name in ("listed", "plain", "own", "off")]
    assert found == [True, False, True, False]
