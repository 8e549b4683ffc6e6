"""What the content of a stranger's call may be made of: shapes that its quote sees in full.

Each kind of call has its own. A key beyond these is in no quote, or would make LiteLLM or an upstream take a
file or a video for a text; an image that is not inline would make one of them fetch an address that a
stranger chose.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from otrta_core.requests.tools import is_anthropic_tool, is_flat_function_tool, is_function_tool

_INLINE_IMAGE = re.compile(r"data:image/(?:png|jpeg|jpg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}", re.ASCII)
_IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")

_CHAT_MESSAGE: Final = frozenset(
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
_ITEMS: Final[Mapping[object, frozenset[str]]] = {
    None: frozenset({"role", "content", "phase"}),
    "message": frozenset({"type", "role", "content", "id", "status", "phase"}),
    "function_call": frozenset({"type", "id", "call_id", "name", "arguments", "status"}),
    "function_call_output": frozenset({"type", "id", "call_id", "output", "status"}),
    "reasoning": frozenset({"type", "id", "summary", "content", "encrypted_content", "status"}),
}
"""Keys of the items of a Responses input, by their type."""

_ITEM_PARTS: Final[Mapping[object, frozenset[str]]] = {
    "input_text": frozenset({"type", "text"}),
    "output_text": frozenset({"type", "text", "annotations", "logprobs"}),
    "refusal": frozenset({"type", "refusal"}),
    "input_image": frozenset({"type", "image_url", "detail"}),
}
_BLOCKS: Final[Mapping[object, frozenset[str]]] = {
    "text": frozenset({"type", "text", "citations"}),
    "image": frozenset({"type", "source"}),
    "document": frozenset({"type", "source", "title", "context", "citations"}),
    "tool_use": frozenset({"type", "id", "name", "input", "caller"}),
    "tool_result": frozenset({"type", "tool_use_id", "content", "is_error"}),
    "thinking": frozenset({"type", "thinking", "signature"}),
    "redacted_thinking": frozenset({"type", "data"}),
}
"""Keys of the blocks of an Anthropic content, by their type."""


def are_chat_messages(messages: object) -> bool:
    """Tell whether these are messages of a chat completion."""
    return _all(messages, lambda message: message.keys() <= _CHAT_MESSAGE and _parts(message, _is_chat_part))


def _is_chat_part(part: Mapping[str, Any]) -> bool:
    kind = part.get("type")
    if not isinstance(kind, str) or not part.keys() <= {"type", kind, "cache_control"}:
        return False
    return kind != "image_url" or is_inline_image(part.get("image_url"))


def is_inline_image(image: object) -> bool:
    """Tell whether an ``image_url`` holds the picture itself."""
    if isinstance(image, Mapping):
        if not image.keys() <= {"url", "detail"}:
            return False
        image = image.get("url")
    return isinstance(image, str) and _INLINE_IMAGE.fullmatch(image) is not None


def is_responses_input(given: object) -> bool:
    """Tell whether this is an input of a Responses call: a text, or items."""
    return isinstance(given, str) or _all(given, _is_item)


def _is_item(item: Mapping[str, Any]) -> bool:
    return _has_keys(item, _ITEMS) and _parts(item, _is_item_part) and _parts(item, _is_item_part, "output")


def _is_item_part(part: Mapping[str, Any]) -> bool:
    # the summary and the content of reasoning have types of their own, and are texts
    if part.get("type") in ("summary_text", "reasoning_text"):
        return part.keys() == {"type", "text"} and isinstance(part["text"], str)
    if not _has_keys(part, _ITEM_PARTS):
        return False
    return part["type"] != "input_image" or is_inline_image(part.get("image_url"))


def are_anthropic_messages(messages: object) -> bool:
    """Tell whether these are messages of an Anthropic call."""
    return _all(
        messages, lambda message: message.keys() <= {"role", "content"} and _parts(message, _is_block)
    )


def is_anthropic_system(system: object) -> bool:
    """Tell whether this is the system prompt of an Anthropic call."""
    return isinstance(system, str) or _all(system, _is_block)


def _is_block(block: Mapping[str, Any]) -> bool:
    said = {key: value for key, value in block.items() if key != "cache_control"}
    if not _has_keys(said, _BLOCKS):
        return False
    match said["type"]:
        case "image":
            return _is_inline_source(said.get("source"))
        case "document":
            source = said.get("source")
            return isinstance(source, Mapping) and _parts(source, _is_block)
        case "tool_result":
            return _parts(said, _is_block)
        case "tool_use":
            return said.get("caller") in (None, {"type": "direct"})
        case _:
            return True


def _is_inline_source(source: object) -> bool:
    return (
        isinstance(source, Mapping)
        and source.get("type") == "base64"
        and source.get("media_type") in _IMAGE_TYPES
        and isinstance(source.get("data"), str)
        and _BASE64.fullmatch(source["data"]) is not None
    )


def is_moderation_input(given: object) -> bool:
    """Tell whether this is what a moderation reads: texts, and pictures that are inline."""
    if isinstance(given, str):
        return True
    return isinstance(given, list) and all(
        isinstance(part, str) or _is_moderation_part(part) for part in given
    )


def _is_moderation_part(part: object) -> bool:
    return isinstance(part, Mapping) and (
        part.get("type") != "image_url" or is_inline_image(part.get("image_url"))
    )


def are_documents(documents: object) -> bool:
    """Tell whether these are documents to be reranked: texts, or objects with nothing but one."""
    return isinstance(documents, list) and all(
        isinstance(document, str)
        or (
            isinstance(document, Mapping)
            and document.keys() == {"text"}
            and isinstance(document["text"], str)
        )
        for document in documents
    )


def are_function_tools(tools: object) -> bool:
    """Tell whether these are a chat completion's tools, none of which the upstream hosts."""
    return _all(tools, is_function_tool)


def are_flat_function_tools(tools: object) -> bool:
    """Tell whether these are a Responses call's tools, none of which the upstream hosts."""
    return _all(tools, is_flat_function_tool)


def are_anthropic_tools(tools: object) -> bool:
    """Tell whether these are an Anthropic call's tools, none of which the upstream hosts."""
    return _all(tools, is_anthropic_tool)


def _all(values: object, check: Callable[[Mapping[str, Any]], bool]) -> bool:
    return isinstance(values, list) and all(isinstance(value, Mapping) and check(value) for value in values)


def _parts(
    holder: Mapping[str, Any], check: Callable[[Mapping[str, Any]], bool], key: str = "content"
) -> bool:
    """Check what stands under a key where that is a list; a text or nothing is the quote's own to judge."""
    parts = holder.get(key)
    return not isinstance(parts, list) or _all(parts, check)


def _has_keys(holder: Mapping[str, Any], known: Mapping[object, Collection[str]]) -> bool:
    kind = holder.get("type")
    if not (kind is None or isinstance(kind, str)):
        return False
    return kind in known and holder.keys() <= set(known[kind])
