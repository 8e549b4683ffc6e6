"""Reading what a call used from the answer itself.

Providers count differently: OpenAI's prompt tokens hold the cached ones, Anthropic's input tokens leave them
out. ``Usage`` is always inclusive.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from otrta_core.errors import PriceError
from otrta_core.pricing import Usage
from otrta_core.requests.call import CallRequest
from otrta_core.requests.kinds import Kind

_ANTHROPIC_COUNTS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)


def usage_from_body(body: object, kind: Kind = "chat") -> Usage | None:
    """Return the usage that an answer or a stream's event states, or None where it states none.

    A usage that is null, of another shape, or negative counts as not stated; so does one whose every
    count is zero, since no answer takes nothing. Of an Anthropic stream one event states only a part:
    ``UsageReader`` puts the parts together.
    """
    if not isinstance(body, Mapping):
        return None
    try:
        match kind:
            case "messages":
                return _stated(_anthropic(_anthropic_counts(body)))
            case "responses":
                return _stated(_openai(_mapping((_mapping(body.get("response")) or body).get("usage"))))
            case "rerank":
                return _stated(_rerank(body))
            case "transcriptions":
                return _stated(_transcription(body))
            case "images" | "image_edits":
                return _stated(_images(body))
            case _:
                return _stated(_openai(_mapping(body.get("usage"))))
    except PriceError:
        return None


class UsageReader:
    """Follows the events of one answer and keeps the last usage that they state.

    A later event without a usage does not erase an earlier one.
    """

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._counts: dict[str, Any] = {}
        self._final = kind != "messages"
        self.usage: Usage | None = None

    def feed(self, body: object) -> None:
        """Take in an answer, or one event of a stream."""
        if self._kind == "messages" and isinstance(body, Mapping):
            # each count is cumulative, and a later event repeats only some of them
            self._counts |= _anthropic_counts(body)
            self._final = self._final or bool(_mapping(body.get("usage")).get("output_tokens"))
            body = {"usage": self._counts}
        self.usage = usage_from_body(body, self._kind) or self.usage

    @property
    def final(self) -> bool:
        """Whether ``usage`` is that of a whole stream, not of what was known at its start."""
        return self._final


def with_pieces(usage: Usage, call: CallRequest) -> Usage:
    """Add what is priced by the piece and what the request alone decides, where the answer did not say."""
    return replace(
        usage,
        images=usage.images or call.images_made,
        characters=usage.characters or call.characters,
        seconds=usage.seconds or call.seconds,
        search_units=usage.search_units or call.search_units,
    )


def _stated(usage: Usage) -> Usage | None:
    said = (usage.prompt_tokens, usage.completion_tokens, usage.images, usage.seconds, usage.search_units)
    return usage if any(said) else None


def _openai(stated: Mapping[str, Any]) -> Usage:
    """Read OpenAI's usage, under the names of chat completions or of Responses and images."""
    prompt = _first(stated, "prompt_tokens_details", "input_tokens_details", "input_token_details")
    output = _first(stated, "completion_tokens_details", "output_tokens_details")
    return Usage(
        prompt_tokens=_count(stated, "prompt_tokens", "input_tokens"),
        completion_tokens=_count(stated, "completion_tokens", "output_tokens"),
        cached_tokens=_count(prompt, "cached_tokens"),
        cache_write_tokens=_count(prompt, "cache_creation_tokens", "cache_write_tokens"),
        reasoning_tokens=_count(output, "reasoning_tokens"),
    )


def _anthropic_counts(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts of a message, or of a stream's message_start or message_delta."""
    usage = _mapping((_mapping(body.get("message")) or body).get("usage"))
    counts = {name: usage[name] for name in _ANTHROPIC_COUNTS if usage.get(name) is not None}
    details = usage.get("output_tokens_details")
    return counts | ({"output_tokens_details": details} if isinstance(details, Mapping) else {})


def _anthropic(counts: Mapping[str, Any]) -> Usage:
    read, written = _count(counts, "cache_read_input_tokens"), _count(counts, "cache_creation_input_tokens")
    parts = Usage(
        prompt_tokens=_count(counts, "input_tokens"), cached_tokens=read, cache_write_tokens=written
    )
    return Usage(
        prompt_tokens=parts.prompt_tokens + parts.cached_tokens + parts.cache_write_tokens,
        completion_tokens=_count(counts, "output_tokens"),
        cached_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=_count(_mapping(counts.get("output_tokens_details")), "thinking_tokens"),
    )


def _images(body: Mapping[str, Any]) -> Usage:
    tokens = _openai(_mapping(body.get("usage")))
    made = body.get("data")
    return Usage(
        prompt_tokens=tokens.prompt_tokens,
        completion_tokens=tokens.completion_tokens,
        cached_tokens=tokens.cached_tokens,
        images=len(made) if isinstance(made, list) else 0,
    )


def _transcription(body: Mapping[str, Any]) -> Usage:
    stated = _mapping(body.get("usage"))
    seconds = _seconds(stated.get("seconds")) or _seconds(body.get("duration"))
    tokens = _openai(stated)
    return Usage(
        prompt_tokens=tokens.prompt_tokens,
        completion_tokens=tokens.completion_tokens,
        seconds=seconds,
    )


def _rerank(body: Mapping[str, Any]) -> Usage:
    """Read Cohere's billed units and tokens, or the usage of those who count by the token alone."""
    meta = _mapping(body.get("meta"))
    billed, tokens = _mapping(meta.get("billed_units")), _mapping(meta.get("tokens"))
    stated = _mapping(body.get("usage"))
    names = ("prompt_tokens", "input_tokens", "total_tokens")
    counted = next((found for found in (stated, billed, tokens) if _count(found, *names)), {})
    return Usage(prompt_tokens=_count(counted, *names), search_units=_count(billed, "search_units"))


def _seconds(value: object) -> int:
    """Return seconds rounded up; some write them as a text."""
    if isinstance(value, str):
        try:
            value = float(value[:32])
        except ValueError:
            return 0
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return math.ceil(value) if math.isfinite(value) else 0


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _first(values: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    return next((found for name in names if (found := _mapping(values.get(name)))), {})


def _count(values: Mapping[str, Any], *names: str) -> Any:
    return next((value for name in names if (value := values.get(name)) is not None), 0)
