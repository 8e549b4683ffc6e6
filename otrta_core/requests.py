"""What the body of an LLM call says that bears on its price.

``CallRequest.parse`` reads a body that anyone may have sent, refuses wrong types and signs, and keeps only
the figures that a quote needs. Both sides parse the same body, so both come to the same quote.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from otrta_core import wire
from otrta_core.errors import InvalidRequest, RequestNotPriceable

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
_MESSAGE_OVERHEAD = {"role", "type"}  # a fixed word each, within TOKENS_PER_MESSAGE


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
            RequestNotPriceable: it holds something whose price has no bound.
        """
        if not isinstance(body, Mapping):
            raise InvalidRequest("the body must be a JSON object")
        model = body.get("model")
        if not isinstance(model, str) or not model or len(model) > 256:
            raise InvalidRequest("model must be the name of one model", param="model")
        if "," in model:
            raise InvalidRequest("model must name one model: several cannot be bought at once", param="model")
        stream = body.get("stream")
        if not (stream is None or isinstance(stream, bool)):
            raise InvalidRequest("stream must be true or false", param="stream")
        if kind == "embeddings":
            return cls(kind=kind, model=model, prompt_tokens=_embedding_tokens(body.get("input")))
        text, images = _chat_tokens(body)
        return cls(
            kind=kind,
            model=model,
            prompt_tokens=text,
            images=images,
            output_limit=_output_limit(body),
            choices=_whole(body, "n", 1, _MAX_CHOICES) or 1,
            stream=bool(stream),
        )


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
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise InvalidRequest("each message must be an object with a role", param="messages")
        more, pictures = _content_tokens(message.get("content"))
        extras = {
            k: v
            for k, v in message.items()
            if k not in _MESSAGE_OVERHEAD and k != "content" and v is not None
        }
        tokens += TOKENS_PER_MESSAGE + more + sum(_json_bytes(value) for value in extras.values())
        images += pictures
    for name in ("tools", "functions", "tool_choice", "function_call", "response_format"):
        if body.get(name) is not None:
            tokens += _json_bytes(body[name])
    return tokens, images


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
    return _utf8(value) if isinstance(value, str) else _utf8(wire.compact_json(value))


def _utf8(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
