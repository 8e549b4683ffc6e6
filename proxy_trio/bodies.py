"""An app's request body: read once, and sent on as it came.

A payable body is parsed before anything is paid, so that what no gateway could read costs nothing.
Parsing is bounded: deep nesting, huge numbers, NaN and repeated keys are refused, never a traceback.
"""

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from otrta_core.errors import InvalidRequest

REMOVED_FIELDS = ("user", "metadata", "safety_identifier", "prompt_cache_key")

# Far above what tool schemas need, and far below the interpreter's recursion limit, so that whoever
# walks the parsed body later (pricing does) cannot hit that limit either.
MAX_DEPTH = 128

_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Body:
    """A payable body: its meaning for pricing, and the bytes that go to the gateway."""

    model: str
    stream: bool
    json: Mapping[str, Any] = field(repr=False)
    outbound: bytes = field(repr=False)


def parse(raw: bytes, *, removed: Collection[str] = REMOVED_FIELDS) -> Body:
    """Read the body of a payable call.

    Args:
        raw: The bytes that the app sent.
        removed: Top-level fields that tell who is calling. Only where one of them stands is the body
            written anew, without it; otherwise ``outbound`` is ``raw``.

    Returns:
        The body; ``json`` is what goes out, without the removed fields.

    Raises:
        InvalidRequest: It is not a JSON object with a model's name.
    """
    value = _load(raw)
    if not isinstance(value, dict):
        raise InvalidRequest("The body is not a JSON object.")
    _check_depth(value)
    if _ESCAPED_SURROGATE.search(raw):
        _check_unicode(value)
    model = value.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("The body names no model: `model` must be a non-empty string.", param="model")
    kept = {key: item for key, item in value.items() if key not in removed}
    outbound = raw if len(kept) == len(value) else _dump(kept)
    return Body(model=model, stream=value.get("stream") is True, json=kept, outbound=outbound)


def _load(raw: bytes) -> Any:
    try:
        return json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON ({error.msg}, character {error.pos}).") from None
    except ValueError:
        raise InvalidRequest("The body holds a number that is too long.") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two readers may pick different ones of a repeated key, and one of them sets the price.
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidRequest("The body has an object with the same key twice.")
    return found


def _refuse_constant(_name: str) -> NoReturn:
    raise InvalidRequest("The body holds NaN or Infinity, which JSON does not have.")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise InvalidRequest("The body holds a number that is too large.")
    return number


def _check_depth(value: dict[str, Any]) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise InvalidRequest(f"The body is nested more than {MAX_DEPTH} levels deep.")


def _check_unicode(value: dict[str, Any]) -> None:
    try:
        _dump(value)
    except UnicodeEncodeError:
        raise InvalidRequest("The body holds half of a UTF-16 surrogate pair, which is no text.") from None


def _dump(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
