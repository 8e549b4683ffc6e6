"""OpenAI's Responses, without what the upstream keeps or runs: stored conversations, hosted tools."""

from collections.abc import Mapping
from typing import Any, Final

from otrta_core.errors import InvalidRequest, RequestNotPriceable
from otrta_core.requests.fields import (
    Fields,
    check_fields,
    is_flag,
    is_number,
    is_off,
    is_read,
    is_text,
    keys_of,
    one_of,
)
from otrta_core.requests.figures import TOKENS_PER_MESSAGE, TOKENS_PER_REQUEST, Figures
from otrta_core.requests.images_in import is_picture_address
from otrta_core.requests.reading import (
    is_word,
    items_of,
    json_bytes,
    output_limit,
    schema_bytes,
    text_bytes,
    utf8,
)
from otrta_core.requests.tools import check_tools, is_flat_function_tool, is_flat_tool_choice

_INCLUDED = ("reasoning.encrypted_content", "message.output_text.logprobs")
_TEXT_PARTS: Final[Mapping[object, str]] = {
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
}
_IMAGE_KEYS = {"type", "image_url", "detail", "file_id"}


_FORMAT_KEYS = {"type", "name", "description", "schema", "strict"}


def _is_text_config(value: object) -> bool:
    if not isinstance(value, Mapping) or not value.keys() <= {"format", "verbosity"}:
        return False
    wanted = value.get("format")
    if wanted is None:
        return True
    if not isinstance(wanted, Mapping) or not wanted.keys() <= _FORMAT_KEYS:
        return False
    return wanted.get("type") in ("text", "json_object", "json_schema")


def _are_included(value: object) -> bool:
    return isinstance(value, list) and all(item in _INCLUDED for item in value)


FIELDS: Final[Fields] = {
    "model": is_read,
    "input": is_read,
    "instructions": is_read,
    "max_output_tokens": is_read,
    "max_tool_calls": is_number,
    "tools": is_read,
    "tool_choice": is_flat_tool_choice,
    "parallel_tool_calls": is_flag,
    "text": _is_text_config,
    "reasoning": keys_of("effort", "summary", "generate_summary"),
    "include": _are_included,
    "stream": is_flag,
    "stream_options": keys_of("include_obfuscation"),
    "temperature": is_number,
    "top_p": is_number,
    "top_logprobs": is_number,
    "truncation": one_of("auto", "disabled"),
    "background": is_off,
    "prompt_cache_key": is_text,
}


def read(body: Mapping[str, Any]) -> Figures:
    """Read the figures of a Responses call.

    Raises:
        InvalidRequest: a wrong shape, type or sign.
        UnsupportedParameter: a field whose price cannot be bounded: what the upstream stored, hosted tools.
        RequestNotPriceable: an input item that has no bound.
    """
    given = body.get("input")
    tokens, images = TOKENS_PER_REQUEST, 0
    if isinstance(given, str):
        tokens += TOKENS_PER_MESSAGE + utf8(given)
    else:
        for item in items_of(given, "input must be a text or a list of items", "input"):
            more, pictures = _item(item)
            tokens += TOKENS_PER_MESSAGE + more
            images += pictures
    check_tools(body.get("tools"), is_flat_function_tool)
    check_fields(body, FIELDS)
    tokens += text_bytes(body, "instructions") + schema_bytes(body, "tools", "tool_choice", "text")
    return Figures(
        prompt_tokens=tokens,
        images=images,
        output_limit=output_limit(body, "max_output_tokens"),
    )


def _item(item: object) -> tuple[int, int]:
    if not isinstance(item, Mapping):
        raise InvalidRequest("each input item must be an object", param="input")
    match item.get("type"):
        case None | "message":
            if not is_word(item.get("role")):
                raise InvalidRequest("each message must have a role", param="input")
            return _counted(item, "content", ("role", "type"))
        case "function_call":
            return json_bytes(item), 0
        case "function_call_output":
            return _counted(item, "output", ())
        case "reasoning" if isinstance(item.get("encrypted_content"), str):
            return json_bytes(item), 0
        case "reasoning":
            raise RequestNotPriceable(
                "a reasoning item has a price here only with its encrypted_content", param="input"
            )
        case _:
            raise RequestNotPriceable(
                "only messages, function calls and reasoning have a price here", param="input"
            )


def _counted(item: Mapping[str, Any], content: str, free: tuple[str, ...]) -> tuple[int, int]:
    """Count a content by its parts, and what else an item says by the byte."""
    tokens, images = _content(item.get(content))
    tokens += sum(
        json_bytes(value)
        for key, value in item.items()
        if key != content and key not in free and value is not None
    )
    return tokens, images


def _content(content: object) -> tuple[int, int]:
    if isinstance(content, str):
        return utf8(content), 0
    if not isinstance(content, list):
        raise InvalidRequest("an item's content must be a text or a list of parts", param="input")
    parts = [_part(part) for part in content]
    return sum(tokens for tokens, _ in parts), sum(images for _, images in parts)


def _part(part: object) -> tuple[int, int]:
    if not isinstance(part, Mapping):
        raise InvalidRequest("a part of an item's content must be an object", param="input")
    kind = part.get("type")
    if kind == "input_image":
        if not part.keys() <= _IMAGE_KEYS or part.get("file_id") is not None:
            raise RequestNotPriceable("an image must be inline or an https address", param="input")
        if not is_picture_address(part.get("image_url")):
            raise RequestNotPriceable("an image must be inline or an https address", param="input")
        return 0, 1
    name = _TEXT_PARTS.get(kind) if isinstance(kind, str) else None
    if name is None:
        raise RequestNotPriceable("only text and image parts have a price here", param="input")
    text = part.get(name)
    if not isinstance(text, str):
        raise InvalidRequest("a text part must have a text", param="input")
    extras = (value for key, value in part.items() if key not in ("type", name) and value)
    return utf8(text) + sum(map(json_bytes, extras)), 0
