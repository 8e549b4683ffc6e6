"""Which fields a stranger's body may have, and what the gate writes into it.

A field that is not listed could change the price, reach another upstream or switch off the gateway's own
callbacks, so it is refused before anything is paid. Fields that clients send by habit and that only steer how
LiteLLM calls, or name the caller to it, are taken out without a word.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from otrta_core import InvalidRequest, UnsupportedParameter, wire
from otrta_core.requests import Kind

Check = Callable[[Any], bool]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_stop(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(map(_is_text, value)))


def _is_any(_value: object) -> bool:
    return True


def _is_function_tools(tools: object) -> bool:
    return isinstance(tools, list) and all(_is_function_tool(tool) for tool in tools)


def _is_function_tool(tool: object) -> bool:
    # by any other key LiteLLM takes a tool for one that the upstream hosts, and bills apart
    if not isinstance(tool, Mapping) or not tool.keys() <= {"type", "function", "cache_control"}:
        return False
    return tool.get("type") == "function" and _is_function(tool.get("function"))


def _are_functions(functions: object) -> bool:
    return isinstance(functions, list) and all(_is_function(function) for function in functions)


def _is_function(function: object) -> bool:
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        return False
    return function.keys() <= {"name", "description", "parameters", "strict"}


def _is_plain_format(value: object) -> bool:
    if not isinstance(value, Mapping) or not value.keys() <= {"type", "json_schema"}:
        return False
    schema = value.get("json_schema")
    if not (schema is None or isinstance(schema, Mapping)):
        return False
    if schema is not None and not schema.keys() <= {"name", "description", "schema", "strict"}:
        return False
    return value.get("type") in ("text", "json_object", "json_schema")


def _is_tool_choice(value: object) -> bool:
    if isinstance(value, str):
        return value in ("auto", "none", "required")
    return isinstance(value, Mapping) and value.keys() == {"type", "function"} and value["type"] == "function"


def _is_function_choice(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, Mapping) and value.keys() == {"name"})


def _is_stream_options(value: object) -> bool:
    return isinstance(value, Mapping) and value.keys() <= {"include_usage", "include_obfuscation"}


_MESSAGE_FIELDS = frozenset(
    {
        "role",
        "content",
        "name",
        "tool_call_id",
        "tool_calls",
        "function_call",
        "refusal",
        "reasoning_content",
        "cache_control",
    }
)


def _are_plain_messages(messages: object) -> bool:
    return isinstance(messages, list) and all(_is_plain_message(message) for message in messages)


def _is_plain_message(message: object) -> bool:
    if not isinstance(message, Mapping) or not message.keys() <= _MESSAGE_FIELDS:
        return False
    content = message.get("content")
    if not isinstance(content, list):
        return True  # a text or nothing: the request's own checks have seen to that
    return all(_is_plain_part(part) for part in content)


def _is_plain_part(part: Mapping[str, Any]) -> bool:
    # keys beyond these are in no quote, and some would pass a file or a video off as an image
    kind = part["type"]
    if not part.keys() <= {"type", kind, "cache_control"}:
        return False
    return kind != "image_url" or _is_inline_image(part.get("image_url"))


def _is_inline_image(image: object) -> bool:
    # anything else would make LiteLLM or the upstream fetch an address that a stranger chose
    if isinstance(image, Mapping):
        if not image.keys() <= {"url", "detail"}:
            return False
        image = image.get("url")
    return isinstance(image, str) and _INLINE_IMAGE.fullmatch(image) is not None


_INLINE_IMAGE = re.compile(r"data:image/(?:png|jpeg|jpg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}", re.ASCII)


_FIELDS: Mapping[Kind, Mapping[str, Check]] = {
    "chat": {
        "model": _is_text,
        "messages": _are_plain_messages,
        "stream": _is_bool,
        "stream_options": _is_stream_options,
        "max_tokens": _is_any,  # checked when the request was parsed
        "max_completion_tokens": _is_any,
        "n": _is_any,
        "temperature": _is_number,
        "top_p": _is_number,
        "presence_penalty": _is_number,
        "frequency_penalty": _is_number,
        "stop": _is_stop,
        "seed": _is_number,
        "logit_bias": lambda value: isinstance(value, Mapping) and all(map(_is_number, value.values())),
        "logprobs": _is_bool,
        "top_logprobs": _is_number,
        "tools": _is_function_tools,
        "tool_choice": _is_tool_choice,
        "parallel_tool_calls": _is_bool,
        "functions": _are_functions,
        "function_call": _is_function_choice,
        "response_format": _is_plain_format,
        "reasoning_effort": _is_text,
        "verbosity": _is_text,
        "modalities": lambda value: value == ["text"],
        "prompt_cache_key": _is_text,
        "top_k": _is_number,
    },
    "embeddings": {
        "model": _is_text,
        "input": _is_any,
        "encoding_format": lambda value: value in ("float", "base64"),
        "dimensions": _is_number,
        "input_type": _is_text,
    },
}

_TAKEN_OUT = frozenset(
    {
        "cache",
        "caching",
        "fallbacks",
        "litellm_metadata",
        "max_retries",
        "metadata",
        "no-log",
        "num_retries",
        "prompt_cache_retention",
        "request_timeout",
        "safety_identifier",
        "store",
        "stream_timeout",
        "tags",
        "timeout",
        "ttl",
        "user",
    }
)


MAX_CONTAINERS = 100_000
MAX_ITEMS = 1_000_000


def parse_body(raw: bytes) -> Any:
    """Decode a stranger's JSON.

    Raises:
        InvalidRequest: it is not JSON, or of so many parts that decoding it would take far more memory than
            it has bytes.
    """
    if raw.count(b"{") + raw.count(b"[") > MAX_CONTAINERS or raw.count(b",") > MAX_ITEMS:
        raise InvalidRequest("the body has too many parts: send it in several calls")
    try:
        return wire.from_json(raw)
    except ValueError:
        raise InvalidRequest("the body must be a JSON object") from None


def has_token_numbers(kind: Kind, body: Mapping[str, Any]) -> bool:
    """Tell whether the input of embeddings is lists of token numbers instead of texts."""
    given = body.get("input") if kind == "embeddings" else None
    return isinstance(given, list) and any(isinstance(item, list) for item in given)


def check_fields(kind: Kind, body: Mapping[str, Any]) -> None:
    """Refuse fields and values whose price cannot be bounded.

    Raises:
        UnsupportedParameter: a field that is not sold, or a value of one that is not.
        InvalidRequest: a value of a wrong type.
    """
    for name, value in body.items():
        check = _FIELDS[kind].get(name)
        if name in _TAKEN_OUT or (check is not None and (value is None or check(value))):
            continue
        shown = str(name)[:64]
        if check in (_is_bool, _is_number, _is_text):
            raise InvalidRequest(f"{shown} has the wrong type", param=shown)
        raise UnsupportedParameter(f"{shown} cannot be bought here in this form", param=shown)


def outbound_body(kind: Kind, body: Mapping[str, Any], output_cap: int | None) -> dict[str, Any]:
    """Return the body that LiteLLM gets: the allowed fields, and nothing else.

    Args:
        kind: which API.
        body: as the caller sent it, after ``check_fields``.
        output_cap: output limit to set where the caller gave none, or None.
    """
    out = {name: value for name, value in body.items() if name in _FIELDS[kind] and value is not None}
    out.pop("stream_options", None)
    if kind == "chat":
        if output_cap is not None:
            out["max_tokens"] = output_cap
        if body.get("stream") is True:
            # without it LiteLLM takes the usage out of the stream
            out["stream_options"] = {"include_usage": True}
    return out
