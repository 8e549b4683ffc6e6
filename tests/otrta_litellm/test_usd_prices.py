"""LiteLLM's USD prices in msat: what is sold has a bound, and what has none is not sold."""

import copy
from decimal import Decimal
from typing import Any

import litellm
import pytest

from otrta_core import CallRequest, ModelPrice, PriceError, RequestNotPriceable, Usage, cost_msat, quote_msat
from otrta_core.requests import Kind
from otrta_core.requests.forms import FormFile
from otrta_litellm.kinds import has_price_for
from otrta_litellm.router_view import Deployment, RouterView, UsdPrices, _deployment
from otrta_litellm.usd_prices import price_from_usd

pytestmark = pytest.mark.filterwarnings("ignore:Items? .* using the `ReadOnly` qualifier:UserWarning")

RATE = Decimal(1_000_000)  # 1 USD is 1,000,000 msat
MP3 = FormFile(name="file", size=7500, filename="a.mp3")

CALLS: dict[Kind, CallRequest] = {
    "chat": CallRequest.parse(
        "chat", {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "x" * 1000}]}
    ),
    "responses": CallRequest.parse(
        "responses", {"model": "m", "max_output_tokens": 100, "input": "x" * 1000}
    ),
    "completions": CallRequest.parse("completions", {"model": "m", "max_tokens": 100, "prompt": "x" * 1000}),
    "embeddings": CallRequest.parse("embeddings", {"model": "m", "input": "x" * 1000}),
    "rerank": CallRequest.parse("rerank", {"model": "m", "query": "q", "documents": ["x" * 500, "y" * 500]}),
    "moderations": CallRequest.parse("moderations", {"model": "m", "input": "x" * 1000}),
    "images": CallRequest.parse("images", {"model": "m", "prompt": "x" * 100, "n": 2}),
    "image_edits": CallRequest.parse_form(
        "image_edits",
        [("model", "m"), ("prompt", "x" * 100)],
        [FormFile(name="image", size=500, filename="a.png")],
    ),
    "speech": CallRequest.parse("speech", {"model": "m", "input": "x" * 1000, "voice": "alloy"}),
    "transcriptions": CallRequest.parse_form("transcriptions", [("model", "m")], [MP3]),
}
KIND_OF_MODE: dict[str, Kind] = {
    "chat": "chat",
    "responses": "responses",
    "completion": "completions",
    "embedding": "embeddings",
    "rerank": "rerank",
    "moderation": "moderations",
    "image_generation": "images",
    "image_edit": "image_edits",
    "audio_speech": "speech",
    "audio_transcription": "transcriptions",
}


def known(model: str, **own: Any) -> Deployment:
    """A deployment of a model of LiteLLM's map, as its router has it."""
    entry = {"model_name": "m", "litellm_params": {"model": model, "api_key": "none", **own}}
    router = litellm.Router(model_list=[entry])
    (only,) = RouterView(lambda: router).candidates("m")
    return only


def made_up(mode: str | None, **values: Any) -> Deployment:
    limits = {name: values.pop(name, None) for name in ("max_input_tokens", "max_output_tokens")}
    prices = UsdPrices(**{name: Decimal(value) for name, value in values.items()})
    return Deployment("g", "id", "openai/m", mode, **limits, prices=prices)


def test_usd_becomes_msat_by_decimals_rounded_up() -> None:
    deployment = made_up(
        "chat",
        input_per_token="0.0000025",
        output_per_token="0.00001",
        cached_input_per_token="1e-13",
        per_request="0.0000001",
    )
    assert price_from_usd(deployment, RATE) == ModelPrice(
        input_msat_per_mtok=2_500_000,
        output_msat_per_mtok=10_000_000,
        cached_input_msat_per_mtok=1,
        request_msat=1,
    )


@pytest.mark.parametrize(
    "deployment",
    [
        made_up("chat"),
        made_up("chat", output_per_token="1"),
        made_up("chat", input_per_token="0", output_per_token="0"),
        made_up("chat", input_per_token="1", output_per_token="1", per_second="1"),
        made_up("chat", input_per_token="1", output_per_token="1", per_output_image="1"),
        made_up("embedding", input_per_token="0"),
        made_up("embedding", per_request="1"),
        made_up("moderation", input_per_token="0", output_per_token="0"),
        made_up("image_generation", output_per_token="1", input_per_token="1"),
        made_up("image_generation", per_output_image="1", output_per_text_token="1"),
        made_up("audio_speech", input_per_token="1", output_per_token="1", max_output_tokens=5),
        made_up("audio_speech", per_character="1", output_per_audio_token="1"),
        made_up("audio_transcription", input_per_token="1", output_per_token="1", max_output_tokens=5),
        made_up("audio_transcription", input_per_audio_token="1", output_per_token="1"),
        made_up("audio_transcription", per_second="0"),
        made_up("video_generation", per_second="1"),
        made_up("realtime", input_per_token="1", output_per_token="1"),
        made_up("ocr", per_request="1", input_per_token="1"),
    ],
    ids=lambda d: f"{d.mode} {[k for k in UsdPrices.__slots__ if getattr(d.prices, k) is not None]}",
)
def test_what_has_no_bound_or_is_free_by_litellms_list_has_no_price(deployment: Deployment) -> None:
    assert price_from_usd(deployment, RATE) is None


def test_models_that_search_by_themselves_are_not_sold_and_others_with_a_price_for_it_are() -> None:
    prices = UsdPrices(input_per_token=Decimal(1), output_per_token=Decimal(1), per_search=Decimal(1))
    for name in (
        "perplexity/sonar",
        "openai/gpt-4o-search-preview",
        "openai/o3-deep-research",
        "groq/compound",
    ):
        assert price_from_usd(Deployment("g", "", name, "chat", None, None, prices), RATE) is None
    assert (
        price_from_usd(Deployment("g", "", "anthropic/claude", "chat", None, None, prices), RATE) is not None
    )


def quoted(model: str, kind: Kind, **own: Any) -> int:
    price = price_from_usd(known(model, **own), RATE)
    assert price is not None
    assert has_price_for(price, kind)
    return quote_msat(price, CALLS[kind])


@pytest.mark.parametrize(
    ("model", "kind", "quote"),
    [
        # two images of 0.04 USD
        ("gemini/imagen-3.0-generate-001", "images", 80_000),
        # a thousand characters at 15 USD a million
        ("openai/tts-1", "speech", 15_000),
        # 7500 bytes are ten seconds at most, at 0.0001 USD
        ("openai/whisper-1", "transcriptions", 1_000),
        # one search unit of 0.002 USD
        ("cohere/rerank-english-v3.0", "rerank", 2_000),
        ("openai/text-embedding-3-small", "embeddings", 21),
    ],
)
def test_known_models_cost_what_their_makers_list(model: str, kind: Kind, quote: int) -> None:
    assert quoted(model, kind) == quote


def test_a_transcript_by_the_token_is_bounded_by_the_models_limits_and_charged_by_its_usage() -> None:
    price = price_from_usd(known("openai/gpt-4o-transcribe"), RATE)
    assert price is not None
    text = 16_000 * 2.5 + 2_000 * 10  # what the model can hear, and what it can write
    assert text <= quote_msat(price, CALLS["transcriptions"]) < text + 200
    usage = Usage(prompt_tokens=100, completion_tokens=20, seconds=10)
    assert cost_msat(price, usage) == 100 * 2.5 + 20 * 10


def test_images_by_the_token_are_sold_where_the_operator_sets_their_limit() -> None:
    assert price_from_usd(known("openai/gpt-image-1"), RATE) is None
    limited = made_up(
        "image_generation", input_per_token="0.00001", output_per_token="0.00004", max_output_tokens=6208
    )
    price = price_from_usd(limited, RATE)
    assert price is not None
    assert price.image_msat == 0
    assert quote_msat(price, CALLS["images"]) >= 2 * 6208 * 40
    assert cost_msat(price, Usage(prompt_tokens=10, completion_tokens=1000, images=1)) == 100 + 40_000
    with pytest.raises(RequestNotPriceable):  # nobody says how many tokens a picture to edit is
        quote_msat(price, CALLS["image_edits"])


def test_the_dearest_size_and_resolution_is_the_price_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = copy.copy(litellm.model_cost)
    base = {"litellm_provider": "openai", "mode": "image_generation"}
    listed["made-up-image"] = {**base, "output_cost_per_image": 0.01, "output_cost_per_image_4K": 0.05}
    listed["hd/1024-x-1792/made-up-image"] = {**base, "input_cost_per_image": 0.08}
    listed["by-the-pixel"] = {**base, "input_cost_per_pixel": 1e-8, "output_cost_per_pixel": 0.0}
    monkeypatch.setattr(litellm, "model_cost", listed)
    assert quoted("openai/made-up-image", "images") == 2 * 80_000
    assert quoted("openai/made-up-image", "images", output_cost_per_image=0.02) == 2 * 20_000
    assert quoted("openai/by-the-pixel", "images") == 2 * 18_351  # 1792 x 1024


def test_everything_that_is_sold_of_litellms_map_has_a_bound_above_zero() -> None:
    sold = dict.fromkeys(KIND_OF_MODE, 0)
    for name, entry in litellm.model_cost.items():
        mode = entry.get("mode")
        deployment = _deployment("g", {"litellm_params": {"model": name}, "model_info": {"base_model": name}})
        price = price_from_usd(deployment, RATE)
        if price is None or mode not in KIND_OF_MODE:
            continue
        kind = KIND_OF_MODE[mode]
        assert has_price_for(price, kind), name
        assert quote_msat(price, CALLS[kind]) > 0, name
        for other, call in CALLS.items():
            try:
                assert not has_price_for(price, other) or quote_msat(price, call) > 0, (name, other)
            except (RequestNotPriceable, PriceError):
                continue
        sold[mode] += 1
    assert sold.pop("moderation") == 0  # all are free: they belong in the operator's table
    assert all(count >= 10 for count in sold.values()), sold


@pytest.mark.parametrize("margin", ["1", "1.05", "1.333333"])
def test_the_margin_is_on_every_kind_of_price(margin: str) -> None:
    rate = RATE * Decimal(margin)
    for model, kind in [("openai/tts-1", "speech"), ("openai/whisper-1", "transcriptions")]:
        plain, marked = (price_from_usd(known(model), r) for r in (RATE, rate))
        assert plain is not None
        assert marked is not None
        exact = quote_msat(plain, CALLS[kind]) * Decimal(margin)  # type: ignore[index]
        assert exact <= quote_msat(marked, CALLS[kind]) <= exact + 10  # type: ignore[index]
