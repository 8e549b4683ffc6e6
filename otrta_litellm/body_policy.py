"""Which fields a stranger's body may have, and what the gate writes into it.

A field that is not listed could change the price, reach another upstream or switch off the gateway's own
callbacks, so it is refused before anything is paid. Fields of LiteLLM's own that only steer how it calls
are taken out without a word, as clients of LiteLLM send them by habit.
"""

from collections.abc import Callable, Mapping
from typing import Any

from otrta_core import UnsupportedParameter
from otrta_core.requests import Kind

_ALLOWED: Mapping[Kind, frozenset[str]] = {
    "chat": frozenset(
        {
            "audio",
            "frequency_penalty",
            "function_call",
            "functions",
            "logit_bias",
            "logprobs",
            "max_completion_tokens",
            "max_tokens",
            "messages",
            "modalities",
            "model",
            "n",
            "parallel_tool_calls",
            "presence_penalty",
            "prompt_cache_key",
            "reasoning_effort",
            "response_format",
            "safety_identifier",
            "seed",
            "stop",
            "store",
            "stream",
            "stream_options",
            "temperature",
            "tool_choice",
            "tools",
            "top_k",
            "top_logprobs",
            "top_p",
            "user",
            "verbosity",
        }
    ),
    "embeddings": frozenset({"model", "input", "encoding_format", "dimensions", "user", "input_type"}),
}

_TAKEN_OUT = frozenset(
    {
        "timeout",
        "stream_timeout",
        "request_timeout",
        "num_retries",
        "max_retries",
        "fallbacks",
        "metadata",
        "extra_headers",
        "no-log",
        "store",
    }
)

_RESPONSE_FORMATS = frozenset({"text", "json_object", "json_schema"})


def outbound_body(kind: Kind, body: Mapping[str, Any], output_cap: int | None) -> dict[str, Any]:
    """Return the body that LiteLLM gets.

    Args:
        kind: which API.
        body: as the caller sent it, already parsed as a ``CallRequest``.
        output_cap: output limit to set where the caller gave none, or None.
    """
    out = {name: value for name, value in body.items() if name not in _TAKEN_OUT}
    if kind == "chat":
        if output_cap is not None:
            out["max_tokens"] = output_cap
        if body.get("stream") is True:
            out["stream_options"] = {"include_usage": True}
        else:
            out.pop("stream_options", None)
    return out


def check_fields(kind: Kind, body: Mapping[str, Any]) -> None:
    """Refuse fields and values whose price cannot be bounded.

    Raises:
        UnsupportedParameter: names the first one.
    """
    for name in body:
        if name not in _ALLOWED[kind] and name not in _TAKEN_OUT:
            raise _unsupported(str(name)[:100])
    for name, check in _VALUES.items():
        if body.get(name) is not None and not check(body[name]):
            raise _unsupported(name)


def _unsupported(name: str) -> UnsupportedParameter:
    return UnsupportedParameter(f"{name} cannot be bought here: leave it out", param=name)


def _is_function_tools(tools: object) -> bool:
    if not isinstance(tools, list):
        return False
    return all(isinstance(tool, Mapping) and tool.get("type") == "function" for tool in tools)


def _is_plain_format(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and value.get("type") in _RESPONSE_FORMATS
        and value.keys() <= {"type", "json_schema"}
    )


_VALUES: Mapping[str, Callable[[Any], bool]] = {
    "tools": _is_function_tools,
    "response_format": _is_plain_format,
    "modalities": lambda value: value == ["text"],
    "audio": lambda _value: False,
    "stream_options": lambda value: isinstance(value, Mapping) and value.keys() <= {"include_usage"},
}
