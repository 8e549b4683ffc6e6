"""Anthropic's Messages."""

from collections.abc import Mapping
from typing import Any, Final

from otrta_core.errors import InvalidRequest, RequestNotPriceable
from otrta_core.requests.fields import (
    Fields,
    check_fields,
    is_cache_control,
    is_flag,
    is_number,
    is_read,
    is_stop,
    keys_of,
)
from otrta_core.requests.figures import TOKENS_PER_MESSAGE, TOKENS_PER_REQUEST, Figures
from otrta_core.requests.images_in import is_anthropic_source
from otrta_core.requests.reading import is_word, items_of, json_bytes, output_limit, schema_bytes, utf8
from otrta_core.requests.tools import check_tools, is_anthropic_tool, is_anthropic_tool_choice

HIDDEN_PROMPT_TOKENS: Final = 1024
"""Bound of the prompt that Anthropic adds where tools, or an answer in JSON, are asked for.

Its documentation lists up to 804 tokens, by model and tool choice.
"""

MAX_DEPTH: Final = 4
"""Content in a document in a tool result in a message."""


def _is_output_config(value: object) -> bool:
    if not isinstance(value, Mapping) or not value.keys() <= {"effort", "format"}:
        return False
    wanted = value.get("format")
    if wanted is None:
        return True
    return (
        isinstance(wanted, Mapping)
        and wanted.keys() == {"type", "schema"}
        and wanted["type"] == "json_schema"
    )


FIELDS: Final[Fields] = {
    "model": is_read,
    "messages": is_read,
    "system": is_read,
    "max_tokens": is_read,
    "thinking": keys_of("type", "budget_tokens", "display"),
    "tools": is_read,
    "tool_choice": is_anthropic_tool_choice,
    "output_config": _is_output_config,
    "cache_control": is_cache_control,
    "temperature": is_number,
    "top_p": is_number,
    "top_k": is_number,
    "stop_sequences": is_stop,
    "stream": is_flag,
}


def read(body: Mapping[str, Any]) -> Figures:
    """Read the figures of an Anthropic call.

    Raises:
        InvalidRequest: a wrong shape, type or sign.
        UnsupportedParameter: a field whose price cannot be bounded, hosted tools.
        RequestNotPriceable: content that has no bound: files, PDFs, citations.
    """
    messages = items_of(body.get("messages"), "messages must be a list of at least one message", "messages")
    tokens, images = _content(body.get("system") or "", "system", MAX_DEPTH)
    for message in messages:
        if not isinstance(message, Mapping) or not is_word(message.get("role")):
            raise InvalidRequest("each message must be an object with a role", param="messages")
        if not message.keys() <= {"role", "content"}:
            raise RequestNotPriceable("a message has a role and a content here", param="messages")
        more, pictures = _content(message.get("content"), "messages", MAX_DEPTH)
        tokens += TOKENS_PER_MESSAGE + more
        images += pictures
    check_tools(body.get("tools"), is_anthropic_tool)
    check_fields(body, FIELDS)
    tokens += schema_bytes(body, "tools", "tool_choice", "output_config")
    if body.get("tools") or body.get("output_config"):
        tokens += HIDDEN_PROMPT_TOKENS
    return Figures(
        prompt_tokens=TOKENS_PER_REQUEST + tokens,
        images=images,
        output_limit=_limit(body),
    )


def _limit(body: Mapping[str, Any]) -> int | None:
    limit = output_limit(body, "max_tokens")
    budget = output_limit(body.get("thinking") or {}, "budget_tokens")
    if budget is not None and limit is None:
        # LiteLLM would make a limit of its own from the budget, which the payment does not cap
        raise InvalidRequest("a thinking budget needs max_tokens beside it", param="max_tokens")
    return limit if limit is None else max(limit, budget or 0)


def _content(content: object, param: str, depth: int) -> tuple[int, int]:
    if isinstance(content, str):
        return utf8(content), 0
    if not isinstance(content, list):
        raise InvalidRequest("content must be a text or a list of blocks", param=param)
    if not depth:
        raise RequestNotPriceable("content is nested too deep", param=param)
    tokens, images = 0, 0
    for block in content:
        if not isinstance(block, Mapping):
            raise InvalidRequest("a block of content must be an object", param=param)
        more, pictures = _block(block, param, depth - 1)
        tokens += more
        images += pictures
    return tokens, images


def _block(block: Mapping[str, Any], param: str, depth: int) -> tuple[int, int]:
    if block.get("cache_control") is not None and not is_cache_control(block["cache_control"]):
        raise RequestNotPriceable("this cache_control has no price here", param=param)
    said = {key: value for key, value in block.items() if key != "cache_control" and value is not None}
    match block.get("type"):
        case "text" if isinstance(said.get("text"), str):
            return utf8(said.pop("text")) + _rest(said), 0
        case "image" if said.keys() == {"type", "source"} and is_anthropic_source(said["source"]):
            return 0, 1
        case "document":
            return _document(said, param, depth)
        case "tool_result":
            tokens, images = _content(said.pop("content", ""), param, depth)
            return tokens + json_bytes(said), images
        case "tool_use" | "thinking" | "redacted_thinking":
            return json_bytes(said), 0
        case _:
            raise RequestNotPriceable("this kind of content has no price here", param=param)


def _rest(said: Mapping[str, Any]) -> int:
    extras = {key: value for key, value in said.items() if key != "type" and value}
    return json_bytes(extras) if extras else 0


def _document(said: dict[str, Any], param: str, depth: int) -> tuple[int, int]:
    """Count a document of text; pages of a PDF have no bound by their bytes."""
    source = said.pop("source", None)
    citations = said.pop("citations", None)
    if not isinstance(source, Mapping) or citations not in (None, {}, {"enabled": False}):
        raise RequestNotPriceable("documents have a price here only as text without citations", param=param)
    match source.get("type"):
        case "text" if isinstance(source.get("data"), str) and source.get("media_type") == "text/plain":
            return json_bytes(said) + json_bytes(source), 0
        case "content" if source.keys() == {"type", "content"}:
            tokens, images = _content(source["content"], param, depth)
            return tokens + json_bytes(said), images
        case _:
            raise RequestNotPriceable("documents have a price here only as text", param=param)
