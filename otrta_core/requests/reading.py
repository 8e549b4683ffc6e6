"""Reading single fields of a body that anyone may have sent."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

from otrta_core import wire
from otrta_core.errors import InvalidRequest

MAX_CHOICES: Final = 128
_MAX_LIMIT: Final = 100_000_000
_MAX_WORD: Final = 16


def whole(body: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    """Return a whole number, or None where there is none.

    Raises:
        InvalidRequest: it is not a whole number from ``low`` to ``high``.
    """
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidRequest(f"{name} must be a whole number from {low} to {high}", param=name)
    return value


def choices(body: Mapping[str, Any]) -> int:
    """Return how many answers are asked for.

    Raises:
        InvalidRequest: ``n`` is not such a number.
    """
    return whole(body, "n", 1, MAX_CHOICES) or 1


def output_limit(body: Mapping[str, Any], *names: str) -> int | None:
    """Return the largest of the output limits given, or None.

    Raises:
        InvalidRequest: one of them is not a whole number above zero.
    """
    limits = [limit for name in names if (limit := whole(body, name, 1, _MAX_LIMIT)) is not None]
    return max(limits, default=None)


def required_text(body: Mapping[str, Any], name: str) -> str:
    """Return a text that has to be there.

    Raises:
        InvalidRequest: it is missing, empty, or no text.
    """
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{name} must be a text", param=name)
    return value


def text_bytes(body: Mapping[str, Any], *names: str) -> int:
    """Return the bytes of all texts under these names; absent ones have none.

    Raises:
        InvalidRequest: one of them is not a text.
    """
    total = 0
    for name in names:
        value = body.get(name)
        if value is not None and not isinstance(value, str):
            raise InvalidRequest(f"{name} must be a text", param=name)
        total += utf8(value or "")
    return total


def schema_bytes(body: Mapping[str, Any], *names: str) -> int:
    """Return the bytes of all JSON values under these names."""
    return sum(json_bytes(body[name]) for name in names if body.get(name) is not None)


def items_of(value: object, message: str, param: str) -> Sequence[Any]:
    """Return a list that is not empty.

    Raises:
        InvalidRequest: it is something else.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not value:
        raise InvalidRequest(message, param=param)
    return value


def is_word(value: object) -> bool:
    """Tell whether this is a role or a type.

    Those are paid for by the tokens per message, and templates copy roles into the prompt: so they are short.
    """
    return isinstance(value, str) and utf8(value) <= _MAX_WORD


def are_token_ids(value: object) -> TypeGuard[Sequence[int]]:
    """Tell whether this is a list of token numbers that is not empty."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not value:
        return False
    return all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in value)


def json_bytes(value: object) -> int:
    """Return how many bytes a value has: of a text its own, of anything else those of its compact JSON.

    Raises:
        InvalidRequest: it is nested deeper than can be written.
    """
    if isinstance(value, str):
        return utf8(value)
    try:
        return utf8(wire.compact_json(value))
    except RecursionError:
        raise InvalidRequest("the body is nested too deep") from None


def utf8(text: str) -> int:
    """Return how many bytes a text has in UTF-8."""
    return len(text.encode("utf-8", "surrogatepass"))
