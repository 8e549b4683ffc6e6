"""LiteLLM's USD prices in msat, for what can be bounded and measured; the rest is not sold.

What a model is for (its ``mode``) decides which of its prices count: LiteLLM often lists two meters for the
same thing, such as images by the piece and by their tokens. The dearest tier counts, and everything is
rounded up.
"""

import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Final

from otrta_core import ModelPrice
from otrta_core.requests.images import SIZES
from otrta_litellm.router_view import Deployment, UsdPrices

_MILLION = Decimal(1_000_000)
_ZERO = Decimal(0)

_TEXT_MODES: Final = frozenset({"chat", "completion", "responses"})
_PROMPT_MODES: Final = frozenset({"embedding", "rerank", "moderation"})
_IMAGE_MODES: Final = frozenset({"image_generation", "image_edit"})

_SEARCHES_UNASKED = re.compile(r"sonar|search|compound", re.IGNORECASE)
"""Models that search the web by themselves, each search for a fee. Others need a tool, which is not sold."""

_MOST_PIXELS = max(
    int(width) * int(height)
    for width, x, height in (s.partition("x") for s in SIZES)
    if x and width.isdigit()
)

_Rates = Mapping[str, Decimal | None]


def price_from_usd(deployment: Deployment, msat_per_usd: Decimal) -> ModelPrice | None:
    """Return a deployment's price in msat, its limits included, or None where it is not sold.

    Not sold is what has no price, what has a price that the request does not bound, and what LiteLLM lists
    as free, as it does for models on the operator's own machines: what is free has to be in the operator's
    table.

    Args:
        deployment: with its USD prices, each the dearest of its tiers.
        msat_per_usd: what one USD is charged, the margin included.
    """
    rates = _rates(deployment)
    if rates is None:
        return None
    values = {name: _msat(name, usd, msat_per_usd) for name, usd in rates.items() if usd is not None}
    for name in ("max_input_tokens", "max_output_tokens"):
        limit = getattr(deployment, name)
        if limit is not None:
            values[name] = limit
    if "image_msat" in values and not values.get("input_msat_per_mtok"):
        values["image_input_tokens"] = 0  # an input image costs nothing where no token does
    return ModelPrice.from_dict(values)


def _msat(name: str, usd: Decimal, msat_per_usd: Decimal) -> int:
    scale = _MILLION if name.endswith(("_per_mtok", "_per_million")) else 1
    return int((usd * scale * msat_per_usd).to_integral_value(ROUND_CEILING))


def _rates(deployment: Deployment) -> _Rates | None:
    """Return the USD prices that count, by the msat field that they fill."""
    usd = deployment.prices
    if usd.per_search and _SEARCHES_UNASKED.search(deployment.litellm_model):
        return None
    mode = deployment.mode or _likely_mode(usd)
    if mode in _TEXT_MODES:
        return _text(usd)
    if mode in _PROMPT_MODES:
        return _prompt(usd)
    if mode in _IMAGE_MODES:
        return _images(usd, deployment)
    if mode == "audio_speech":
        return _speech(usd)
    if mode == "audio_transcription":
        return _transcription(usd, deployment)
    return None


def _likely_mode(usd: UsdPrices) -> str:
    """What a model is for that an operator has priced and LiteLLM's map does not know."""
    if usd.per_output_image is not None:
        return "image_generation"
    if usd.per_character is not None:
        return "audio_speech"
    if usd.per_second is not None:
        return "audio_transcription"
    return "chat" if usd.output_per_token is not None else "embedding"


def _text(usd: UsdPrices) -> _Rates | None:
    """Price what writes text. Compute by the second, and images by the piece, have no bound there."""
    if usd.input_per_token is None or usd.per_second:
        return None
    if usd.input_per_token and not usd.output_per_token:
        return None
    if usd.per_output_image and not usd.output_per_image_token:
        return None
    if not (usd.input_per_token or usd.output_per_token or usd.per_request):
        return None
    return {
        **_prompt_rates(usd),
        "output_msat_per_mtok": usd.output_per_token,
        "reasoning_msat_per_mtok": usd.reasoning_per_token,
        "request_msat": usd.per_request,
    }


def _prompt(usd: UsdPrices) -> _Rates | None:
    """Price what only reads."""
    if usd.input_per_token is None or not (usd.input_per_token or usd.per_request):
        return None
    return {**_prompt_rates(usd), "request_msat": usd.per_request}


def _images(usd: UsdPrices, deployment: Deployment) -> _Rates | None:
    """Price images by the piece, else by their tokens where those have a bound."""
    pieces = [usd.per_output_image, usd.per_pixel and usd.per_pixel * _MOST_PIXELS]
    if usd.input_per_token is None and usd.per_output_image is None:
        pieces.append(usd.per_input_image)  # some entries name the price of what is made so
    piece = max((p for p in pieces if p), default=None)
    if piece is None:
        if not usd.output_per_token or deployment.max_output_tokens is None:
            return None
        return {
            **_prompt_rates(usd),
            "output_msat_per_mtok": usd.output_per_token,
            "reasoning_msat_per_mtok": usd.reasoning_per_token,
            "image_msat": _ZERO,
        }
    text = max(usd.output_per_text_token or _ZERO, usd.reasoning_per_token or _ZERO)
    if text and deployment.max_output_tokens is None:
        return None
    prompt = {} if usd.input_per_token is None else _prompt_rates(usd)
    return {
        **prompt,
        "output_msat_per_mtok": text or None,
        "image_msat": piece,
        "request_msat": usd.per_request,
    }


def _speech(usd: UsdPrices) -> _Rates | None:
    """Price speech by the character; audio states no tokens, so those could not be charged."""
    if not usd.per_character or usd.input_per_token or usd.output_per_token or usd.output_per_audio_token:
        return None
    return {"character_msat_per_million": usd.per_character, "request_msat": usd.per_request}


def _transcription(usd: UsdPrices, deployment: Deployment) -> _Rates | None:
    """Price a transcript by its tokens where they have bounds, else by the second.

    Where a model lists both, the seconds only say what its tokens usually come to.
    """
    heard = max((p for p in (usd.input_per_token, usd.input_per_audio_token) if p), default=None)
    if heard is None and not usd.output_per_token:
        return {"second_msat": usd.per_second, "request_msat": usd.per_request} if usd.per_second else None
    if heard is None or deployment.max_input_tokens is None or deployment.max_output_tokens is None:
        return None
    return {
        "input_msat_per_mtok": heard,
        "output_msat_per_mtok": usd.output_per_token,
        "second_msat": _ZERO,
        "request_msat": usd.per_request,
    }


def _prompt_rates(usd: UsdPrices) -> dict[str, Decimal | None]:
    return {
        "input_msat_per_mtok": usd.input_per_token,
        "cached_input_msat_per_mtok": usd.cached_input_per_token,
        "cache_write_msat_per_mtok": usd.cache_write_per_token,
    }
