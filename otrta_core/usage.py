"""Reading what a call used from the answer itself."""

from collections.abc import Mapping
from typing import Any

from otrta_core.errors import PriceError
from otrta_core.pricing import Usage


def usage_from_body(body: object) -> Usage | None:
    """Return the usage that an OpenAI answer or stream chunk states, or None where it states none.

    A usage that is null, of another shape, or negative counts as not stated; so does one whose every
    count is zero, since no answer takes nothing.
    """
    if not isinstance(body, Mapping) or not isinstance(stated := body.get("usage"), Mapping):
        return None
    prompt = _mapping(stated.get("prompt_tokens_details"))
    completion = _mapping(stated.get("completion_tokens_details"))
    try:
        usage = Usage(
            prompt_tokens=_count(stated, "prompt_tokens"),
            completion_tokens=_count(stated, "completion_tokens"),
            cached_tokens=_count(prompt, "cached_tokens"),
            cache_write_tokens=_count(prompt, "cache_creation_tokens"),
            reasoning_tokens=_count(completion, "reasoning_tokens"),
        )
    except PriceError:
        return None
    return usage if usage.prompt_tokens or usage.completion_tokens else None


def output_text(body: object) -> str:
    """Return all text that an answer or stream chunk hands over: content, reasoning, tool calls, refusals."""
    if not isinstance(body, Mapping) or not isinstance(choices := body.get("choices"), list):
        return ""
    parts: list[str] = []
    for choice in choices:
        said = _mapping(_mapping(choice).get("delta") or _mapping(choice).get("message"))
        parts += [v for k in ("reasoning_content", "content", "refusal") if isinstance(v := said.get(k), str)]
        for call in [*_list(said.get("tool_calls")), {"function": said.get("function_call")}]:
            function = _mapping(_mapping(call).get("function"))
            parts += [v for k in ("name", "arguments") if isinstance(v := function.get(k), str)]
    return "".join(parts)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _count(values: Mapping[str, Any], name: str) -> int:
    value = values.get(name)
    return 0 if value is None else value
