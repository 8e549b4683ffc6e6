"""Chat completions."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from otrta_core.errors import InvalidRequest, RequestNotPriceable, UnsupportedParameter
from otrta_core.requests.fields import (
    SAMPLING,
    STREAM,
    Fields,
    check_fields,
    is_cache_control,
    is_flag,
    is_number,
    is_read,
    is_text,
)
from otrta_core.requests.figures import TOKENS_PER_MESSAGE, TOKENS_PER_REQUEST, Figures
from otrta_core.requests.images_in import is_image_url
from otrta_core.requests.reading import (
    choices,
    is_word,
    items_of,
    json_bytes,
    output_limit,
    schema_bytes,
    utf8,
)
from otrta_core.requests.tools import (
    are_functions,
    check_tools,
    is_function_choice,
    is_function_tool,
    is_tool_choice,
)

_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_IN_PROMPT = ("tools", "functions", "tool_choice", "function_call", "response_format")


def is_plain_format(value: object) -> bool:
    """Tell whether this asks for text or JSON and nothing else.

    Under other keys LiteLLM checks the answer, and repeats it whole in the text of an error.
    """
    if not isinstance(value, Mapping) or not value.keys() <= {"type", "json_schema"}:
        return False
    schema = value.get("json_schema")
    if not (schema is None or isinstance(schema, Mapping)):
        return False
    if schema is not None and not schema.keys() <= {"name", "description", "schema", "strict"}:
        return False
    return value.get("type") in ("text", "json_object", "json_schema")


FIELDS: Final[Fields] = {
    **SAMPLING,
    **STREAM,
    "model": is_read,
    "messages": is_read,
    "max_tokens": is_read,
    "max_completion_tokens": is_read,
    "max_output_tokens": is_read,
    "n": is_read,
    "logprobs": is_flag,
    "top_logprobs": is_number,
    "tools": is_read,
    "tool_choice": is_tool_choice,
    "parallel_tool_calls": is_flag,
    "functions": are_functions,
    "function_call": is_function_choice,
    "response_format": is_plain_format,
    "reasoning_effort": is_text,
    "verbosity": is_text,
    "modalities": lambda value: value == ["text"],
    "prompt_cache_key": is_text,
    "top_k": is_number,
}


def read(body: Mapping[str, Any]) -> Figures:
    """Read the figures of a chat completion.

    Raises:
        InvalidRequest: a wrong shape, type or sign.
        UnsupportedParameter: a field whose price cannot be bounded.
        RequestNotPriceable: content that has no bound.
    """
    messages = items_of(body.get("messages"), "messages must be a list of at least one message", "messages")
    tokens, images = TOKENS_PER_REQUEST, 0
    for message in messages:
        more, pictures = _message(message)
        tokens += TOKENS_PER_MESSAGE + more
        images += pictures
    check_tools(body.get("tools"), is_function_tool)
    check_fields(body, FIELDS)
    return Figures(
        prompt_tokens=tokens + schema_bytes(body, *_IN_PROMPT),
        images=images,
        output_limit=output_limit(body, *_LIMITS),
        choices=choices(body),
    )


def _message(message: object) -> tuple[int, int]:
    if not isinstance(message, Mapping) or not is_word(message.get("role")):
        raise InvalidRequest("each message must be an object with a role", param="messages")
    if message.get("audio") is not None:
        raise UnsupportedParameter("stored audio has no price here", param="messages")
    tokens, images = _content(message.get("content"))
    for key, value in message.items():
        unpriced = (
            key in ("role", "content")
            or (key == "type" and is_word(value))
            or (key == "cache_control" and is_cache_control(value))
        )
        if value is not None and not unpriced:
            tokens += json_bytes(value)
    return tokens, images


def _content(content: object) -> tuple[int, int]:
    if content is None:
        return 0, 0
    if isinstance(content, str):
        return utf8(content), 0
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise InvalidRequest("a message's content must be a text or a list of parts", param="messages")
    tokens, images = 0, 0
    for part in content:
        if not isinstance(part, Mapping):
            raise InvalidRequest("a part of a message's content must be an object", param="messages")
        more, pictures = _part(part)
        tokens += more
        images += pictures
    return tokens, images


def _part(part: Mapping[str, Any]) -> tuple[int, int]:
    kind = part.get("type")
    if kind not in ("text", "refusal", "image_url"):
        raise RequestNotPriceable("only text and image_url parts have a price here", param="messages")
    if not part.keys() <= {"type", kind, "cache_control"}:
        # some of them would pass a file or a video off as an image
        raise RequestNotPriceable(f"a {kind} part has a field without a price", param="messages")
    if kind == "image_url":
        if not is_image_url(part.get("image_url")):
            raise RequestNotPriceable("an image must be inline or an https address", param="messages")
        return 0, 1
    text = part.get(kind)
    if not isinstance(text, str):
        raise InvalidRequest("a text part must have a text", param="messages")
    return utf8(text), 0
