"""What the body of an LLM call says that bears on its price.

``CallRequest.parse`` reads a body that anyone may have sent, refuses wrong types and signs, and keeps only
the figures that a quote needs. Both sides parse the same body, so both come to the same quote.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from otrta_core import wire
from otrta_core.errors import InvalidRequest, RequestNotPriceable, UnsupportedParameter

Kind = Literal["chat", "embeddings"]

PAYABLE_PATHS: Mapping[str, Kind] = {
    "/v1/chat/completions": "chat",
    "/chat/completions": "chat",
    "/v1/embeddings": "embeddings",
    "/embeddings": "embeddings",
}
"""The paths that can be bought, by the kind of call that they take."""

TOKENS_PER_MESSAGE = 16
TOKENS_PER_REQUEST = 32
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_MAX_LIMIT = 100_000_000
_MAX_CHOICES = 128
_MAX_WORD = 16  # roles and types are paid for by TOKENS_PER_MESSAGE, and templates copy roles into the prompt
_UNBOUNDED = (
    "audio",
    "background",
    "conversation",
    "enforce_validation",
    "extra_body",
    "prediction",
    "previous_response_id",
    "response_schema",
    "service_tier",
    "web_search_options",
)
"""Fields that add to a call's price, or replace what was priced, by more than the body shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """A call as its quote sees it.

    Attributes:
        kind: which API.
        model: the model's name.
        prompt_tokens: upper bound of the prompt, images not counted.
        images: input images.
        output_limit: the largest output limit given, per choice, or None where none is given.
        choices: how many answers are asked for.
        stream: whether the answer is a stream.
    """

    kind: Kind
    model: str
    prompt_tokens: int
    images: int = 0
    output_limit: int | None = None
    choices: int = 1
    stream: bool = False

    @classmethod
    def parse(cls, kind: Kind, body: object) -> Self:
        """Read a decoded JSON body.

        Raises:
            InvalidRequest: not an object, or a field has the wrong type or sign.
            UnsupportedParameter: a field whose price cannot be bounded.
            RequestNotPriceable: it holds something whose price has no bound.
        """
        if not isinstance(body, Mapping):
            raise InvalidRequest("the body must be a JSON object")
        model = body.get("model")
        if not isinstance(model, str) or not model or len(model) > 256 or not model.isprintable():
            raise InvalidRequest("model must be the name of one model", param="model")
        if "," in model:
            raise InvalidRequest("model must name one model: several cannot be bought at once", param="model")
        stream = body.get("stream")
        if not (stream is None or isinstance(stream, bool)):
            raise InvalidRequest("stream must be true or false", param="stream")
        if kind == "embeddings":
            return cls(kind=kind, model=model, prompt_tokens=_embedding_tokens(body.get("input")))
        text, images = _chat_tokens(body)
        _refuse_unbounded(body)
        return cls(
            kind=kind,
            model=model,
            prompt_tokens=text,
            images=images,
            output_limit=_output_limit(body),
            choices=_whole(body, "n", 1, _MAX_CHOICES) or 1,
            stream=bool(stream),
        )


def _refuse_unbounded(body: Mapping[str, Any]) -> None:
    for name in _UNBOUNDED:
        if body.get(name) is not None:
            raise UnsupportedParameter(f"{name} has no price here: leave it out", param=name)
    if body.get("modalities") not in (None, ["text"]):
        raise UnsupportedParameter("only text output has a price here", param="modalities")
    tools = body.get("tools")
    if tools is None:
        return
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise InvalidRequest("tools must be a list of objects", param="tools")
    if any(tool.get("type") != "function" for tool in tools):
        raise UnsupportedParameter("only tools of type function have a price here", param="tools")


def _whole(body: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidRequest(f"{name} must be a whole number from {low} to {high}", param=name)
    return value


def _output_limit(body: Mapping[str, Any]) -> int | None:
    limits = [limit for name in _LIMITS if (limit := _whole(body, name, 1, _MAX_LIMIT)) is not None]
    return max(limits, default=None)


def _chat_tokens(body: Mapping[str, Any]) -> tuple[int, int]:
    messages = body.get("messages")
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes) or not messages:
        raise InvalidRequest("messages must be a list of at least one message", param="messages")
    tokens, images = TOKENS_PER_REQUEST, 0
    for message in messages:
        if not isinstance(message, Mapping) or not _is_word(message.get("role")):
            raise InvalidRequest("each message must be an object with a role", param="messages")
        more, pictures = _content_tokens(message.get("content"))
        extras = [
            value
            for key, value in message.items()
            if value is not None
            and key not in ("role", "content")
            and not (key == "type" and _is_word(value))
        ]
        tokens += TOKENS_PER_MESSAGE + more + sum(_json_bytes(value) for value in extras)
        images += pictures
    for name in ("tools", "functions", "tool_choice", "function_call", "response_format"):
        if body.get(name) is not None:
            tokens += _json_bytes(body[name])
    return tokens, images


def _is_word(value: object) -> bool:
    return isinstance(value, str) and _utf8(value) <= _MAX_WORD


def _content_tokens(content: object) -> tuple[int, int]:
    if content is None:
        return 0, 0
    if isinstance(content, str):
        return _utf8(content), 0
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise InvalidRequest("a message's content must be a text or a list of parts", param="messages")
    tokens, images = 0, 0
    for part in content:
        if not isinstance(part, Mapping):
            raise InvalidRequest("a part of a message's content must be an object", param="messages")
        match part.get("type"):
            case "text" | "refusal" as kind:
                text = part.get(kind)
                if not isinstance(text, str):
                    raise InvalidRequest("a text part must have a text", param="messages")
                tokens += _utf8(text)
            case "image_url":
                images += 1
            case _:
                raise RequestNotPriceable("only text and image_url parts have a price here", param="messages")
    return tokens, images


def _embedding_tokens(value: object) -> int:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, Sequence) or isinstance(items, bytes) or not items:
        raise InvalidRequest("input must be a text, or a list of texts or of tokens", param="input")
    if all(_is_token(item) for item in items):
        return TOKENS_PER_REQUEST + TOKENS_PER_MESSAGE + len(items)
    tokens = TOKENS_PER_REQUEST
    for item in items:
        if isinstance(item, str):
            tokens += TOKENS_PER_MESSAGE + _utf8(item)
        elif (
            isinstance(item, Sequence)
            and not isinstance(item, bytes)
            and item
            and all(_is_token(t) for t in item)
        ):
            tokens += TOKENS_PER_MESSAGE + len(item)
        else:
            raise InvalidRequest("input must be a text, or a list of texts or of tokens", param="input")
    return tokens


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _json_bytes(value: object) -> int:
    if isinstance(value, str):
        return _utf8(value)
    try:
        return _utf8(wire.compact_json(value))
    except RecursionError:
        raise InvalidRequest("the body is nested too deep") from None


def _utf8(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
