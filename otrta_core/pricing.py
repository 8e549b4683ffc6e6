"""Prices of models in msat, what a call used, and its exact cost.

Prices are whole msat per million tokens, so a cost is a fraction with denominator 10**6 that is rounded
up once, at the end.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any, Self

from otrta_core.amounts import MAX_AMOUNT
from otrta_core.errors import PriceError

PER_MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrice:
    """What a model costs, in whole msat; an absent optional price means "as the plain rate" or "not sold".

    Attributes:
        input_msat_per_mtok: per million prompt tokens.
        output_msat_per_mtok: per million completion tokens.
        cached_input_msat_per_mtok: per million prompt tokens read from a cache; None: as input.
        cache_write_msat_per_mtok: per million prompt tokens written to a cache; None: as input.
        reasoning_msat_per_mtok: per million reasoning tokens; None: as output.
        request_msat: per call; of a rerank, per search unit.
        image_msat: per image made; None: not sold, 0: billed by its tokens alone.
        image_input_tokens: prompt tokens that an input image counts as at most; None: images are refused.
        character_msat_per_million: per million characters (speech); None: not sold, 0: by its tokens.
        second_msat: per second of audio; None: not sold, 0: by its tokens.
        max_input_tokens: the model's context, or None; bounds audio that is priced by the token.
        max_output_tokens: the most that one choice, image, speech or transcript can have, or None.
        min_msat: the least that a charged call costs, or None.
        max_msat: the most that a call costs, or None.
    """

    input_msat_per_mtok: int = 0
    output_msat_per_mtok: int = 0
    cached_input_msat_per_mtok: int | None = None
    cache_write_msat_per_mtok: int | None = None
    reasoning_msat_per_mtok: int | None = None
    request_msat: int = 0
    image_msat: int | None = None
    image_input_tokens: int | None = None
    character_msat_per_million: int | None = None
    second_msat: int | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    min_msat: int | None = None
    max_msat: int | None = None

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = getattr(self, spec.name)
            if value is not None and not _is_count(value):
                raise PriceError(f"{spec.name} must be a whole number of msat or tokens, zero or more")

    @property
    def dearest_input(self) -> int:
        """The dearest of input, cached input and cache write, per million tokens."""
        rates = (self.input_msat_per_mtok, self.cached_input_msat_per_mtok, self.cache_write_msat_per_mtok)
        return max(rate for rate in rates if rate is not None)

    @property
    def dearest_output(self) -> int:
        """The dearer of output and reasoning, per million tokens."""
        return max(self.output_msat_per_mtok, self.reasoning_msat_per_mtok or 0)

    def to_dict(self) -> dict[str, int]:
        """Return the fields that are set, by name, as ``/v1/cashu/info`` shows them."""
        values = ((spec.name, getattr(self, spec.name)) for spec in fields(self))
        return {name: value for name, value in values if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the known price fields of a mapping; other keys are passed over.

        Raises:
            PriceError: a known field is not a whole number, zero or more.
        """
        known = {spec.name for spec in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known and value is not None})

    def within_bounds(self, amount_msat: int) -> int:
        """Lift an amount to ``min_msat`` and cut it to ``max_msat``, or to what a ledger can hold."""
        most = MAX_AMOUNT if self.max_msat is None else self.max_msat
        return min(max(amount_msat, self.min_msat or 0), most)

    def narrowed(self, min_msat: int | None, max_msat: int | None) -> Self:
        """Return this price with other bounds beside its own: the higher least and the lower most count."""
        least = [m for m in (self.min_msat, min_msat) if m is not None]
        most = [m for m in (self.max_msat, max_msat) if m is not None]
        return replace(self, min_msat=max(least, default=None), max_msat=min(most, default=None))


def dearest(prices: Iterable[ModelPrice]) -> ModelPrice:
    """Return a price that no call can exceed under any of ``prices``.

    Rates take their maximum; what one of them does not sell is not sold; limits on output take the largest.
    """
    several = list(prices)
    if len(several) == 1:
        return several[0]
    if not several:
        raise PriceError("the dearest of no prices is not defined")
    merged: dict[str, int | None] = {}
    for spec in fields(ModelPrice):
        values = [_resolved(price, spec.name) for price in several]
        merged[spec.name] = (
            None
            if any(v is None for v in values) and spec.name != "min_msat"
            else max(v or 0 for v in values)
        )
    return ModelPrice(**merged)  # type: ignore[arg-type]  # plain rates are never None


def cheapest(prices: Iterable[ModelPrice]) -> ModelPrice:
    """Return a price under which no call costs more than under any of ``prices`` that sells it.

    Rates, limits and least amounts take their minimum; what one of them sells is sold.
    """
    several = list(prices)
    if len(several) == 1:
        return several[0]
    if not several:
        raise PriceError("the cheapest of no prices is not defined")
    merged: dict[str, int | None] = {}
    for spec in fields(ModelPrice):
        named = any(getattr(price, spec.name) is not None for price in several)
        values = [_resolved(price, spec.name) for price in several] if named else []
        given = [value for value in values if value is not None]
        merged[spec.name] = (
            None if not given or (spec.name == "min_msat" and len(given) < len(values)) else min(given)
        )
    return ModelPrice(**merged)  # type: ignore[arg-type]  # plain rates are never None


def _resolved(price: ModelPrice, name: str) -> int | None:
    value: int | None = getattr(price, name)
    if value is None and name in _FALLBACK:
        value = getattr(price, _FALLBACK[name])
    return value


_FALLBACK = {
    "cached_input_msat_per_mtok": "input_msat_per_mtok",
    "cache_write_msat_per_mtok": "input_msat_per_mtok",
    "reasoning_msat_per_mtok": "output_msat_per_mtok",
}


class PriceTable:
    """Prices by name: a deployment's own id, then the model's exact name, then the longest glob that fits.

    Globs are matched by model names alone, case counting.
    """

    def __init__(self, prices: Mapping[str, ModelPrice]) -> None:
        self._exact = {name: price for name, price in prices.items() if not _is_glob(name)}
        globs = [(name, price) for name, price in prices.items() if _is_glob(name)]
        self._globs = sorted(globs, key=lambda item: (-len(item[0]), item[0]))

    def get(self, model: str, deployment: str | None = None) -> ModelPrice | None:
        """Return the price of a model, or of one deployment of it, or None where the table has none."""
        for name in (deployment, model):
            exact = None if name is None else self._exact.get(name)
            if exact is not None:
                return exact
        return next((price for glob, price in self._globs if fnmatchcase(model, glob)), None)


def _is_glob(name: str) -> bool:
    return any(sign in name for sign in "*?[")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a call used. Counts are whole and inclusive, as in OpenAI's ``usage``.

    Attributes:
        prompt_tokens: all prompt tokens, cached and written to a cache included.
        completion_tokens: all output tokens, reasoning included.
        cached_tokens: the part of the prompt that was read from a cache.
        cache_write_tokens: the part of the prompt that was written to a cache.
        reasoning_tokens: the part of the output that was reasoning.
        images: images made.
        characters: characters spoken.
        seconds: audio seconds, rounded up.
        search_units: units that a rerank was billed as; 0 for what is no rerank.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    images: int = 0
    characters: int = 0
    seconds: int = 0
    search_units: int = 0

    def __post_init__(self) -> None:
        for spec in fields(self):
            if not _is_count(getattr(self, spec.name)):
                raise PriceError(f"{spec.name} must be a whole number, zero or more")


def cost_msat(price: ModelPrice, usage: Usage) -> int:
    """Return the exact cost of a call in msat, rounded up once.

    Parts that exceed their whole (more cached than prompt tokens) are charged as the parts say, and the
    remainder as zero.
    """
    plain_input = max(0, usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens)
    plain_output = max(0, usage.completion_tokens - usage.reasoning_tokens)
    millionths = (
        plain_input * price.input_msat_per_mtok
        + usage.cached_tokens * _or(price.cached_input_msat_per_mtok, price.input_msat_per_mtok)
        + usage.cache_write_tokens * _or(price.cache_write_msat_per_mtok, price.input_msat_per_mtok)
        + plain_output * price.output_msat_per_mtok
        + usage.reasoning_tokens * _or(price.reasoning_msat_per_mtok, price.output_msat_per_mtok)
        + usage.characters * (price.character_msat_per_million or 0)
    )
    whole = (
        price.request_msat * max(1, usage.search_units)
        + usage.images * (price.image_msat or 0)
        + usage.seconds * (price.second_msat or 0)
    )
    return price.within_bounds(whole - (-millionths // PER_MILLION))


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_AMOUNT
