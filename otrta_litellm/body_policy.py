"""Which fields a stranger's body may have, and what the gate writes into it.

A field that is not listed could change the price, reach another upstream or switch off the gateway's own
callbacks, so it is refused before anything is paid. Fields that clients send by habit and that only steer how
LiteLLM calls, or name the caller to it, are taken out without a word.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from otrta_core import InvalidRequest, wire
from otrta_core.requests import Kind, chat, embeddings
from otrta_core.requests.fields import Fields
from otrta_core.requests.fields import check_fields as check_against
from otrta_core.requests.tools import is_function_tool

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


def _are_function_tools(tools: object) -> bool:
    return isinstance(tools, list) and all(isinstance(t, Mapping) and is_function_tool(t) for t in tools)


_FIELDS: Final[Mapping[Kind, Fields]] = {
    "chat": {name: check for name, check in chat.FIELDS.items() if name != "max_output_tokens"}
    | {"messages": _are_plain_messages, "tools": _are_function_tools},
    "embeddings": embeddings.FIELDS,
}

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
    check_against(body, _FIELDS[kind])


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
