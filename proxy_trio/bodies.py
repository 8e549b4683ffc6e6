"""An app's request body: read once, and sent on as it came.

A payable body is read before anything is paid, so that what no gateway could read costs nothing. Reading
is bounded: deep nesting, huge numbers, NaN, repeated keys and forms of very many parts are refused, never
a traceback. Of what is read only the figures for its price stay; the one copy in memory is what goes out.
"""

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from otrta_core import CallRequest, multipart
from otrta_core.errors import InvalidRequest
from otrta_core.requests import PayablePath

REMOVED_FIELDS = ("user", "metadata", "safety_identifier", "prompt_cache_key")

# Far above what tool schemas need, and far below the interpreter's recursion limit, so that whoever
# walks the parsed body later (pricing does) cannot hit that limit either.
MAX_DEPTH = 128

_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Body:
    """A payable body: its meaning for pricing, and the bytes that go to the gateway.

    Attributes:
        model: the one that is bought.
        stream: whether the answer is to be a stream.
        outbound: what goes out.
        quoted: the call as its quote sees it, or why it has none.
    """

    model: str
    stream: bool
    outbound: bytes = field(repr=False)
    quoted: CallRequest | InvalidRequest = field(repr=False)

    def request(self) -> CallRequest:
        """Return the call as its quote sees it.

        Raises:
            InvalidRequest: its price cannot be bounded, or something in it is wrong.
        """
        if isinstance(self.quoted, CallRequest):
            return self.quoted
        raise type(self.quoted)(self.quoted.message, param=self.quoted.param)


def read_json(raw: bytes, path: PayablePath, *, removed: Collection[str] = REMOVED_FIELDS) -> Body:
    """Read the JSON body of a payable call. Nothing of its text is kept but the bytes that go out.

    Args:
        raw: The bytes that the app sent.
        path: What is bought.
        removed: Top-level fields that tell who is calling. Only where one of them stands is the body
            written anew, without it; otherwise ``outbound`` is ``raw``.

    Raises:
        InvalidRequest: It is not a JSON object with a model's name.
    """
    value = _load(raw)
    if not isinstance(value, dict):
        raise InvalidRequest("The body is not a JSON object.")
    _check_depth(value)
    if _ESCAPED_SURROGATE.search(raw):
        _check_unicode(value)
    kept = {key: item for key, item in value.items() if key not in removed}
    return Body(
        model=_model(value, path),
        stream=value.get("stream") is True,
        outbound=raw if len(kept) == len(value) else _dump(kept),
        quoted=_quoted(lambda: CallRequest.parse(path.kind, kept, model=path.model)),
    )


def read_form(
    content_type: str, raw: bytes, path: PayablePath, *, removed: Collection[str] = REMOVED_FIELDS
) -> Body:
    """Read the multipart/form-data body of a payable call.

    Args:
        content_type: The request's Content-Type, which goes out as it is.
        raw: The bytes that the app sent.
        path: What is bought.
        removed: Names of parts that tell who is calling. They are cut out; all other bytes stay.

    Raises:
        InvalidRequest: It is not such a form, or names no model.
    """
    form = multipart.read_form(content_type, raw)
    fields = [(name, text) for name, text in form.fields if name not in removed]
    files = [file for file in form.figures() if file.name not in removed]
    texts = dict(fields)
    return Body(
        model=_model(texts, path),
        stream=texts.get("stream", "").lower() == "true",
        outbound=multipart.without_parts(content_type, raw, form, removed),
        quoted=_quoted(lambda: CallRequest.parse_form(path.kind, fields, files, model=path.model)),
    )


def _quoted(read: Callable[[], CallRequest]) -> CallRequest | InvalidRequest:
    try:
        return read()
    except InvalidRequest as error:
        return error.with_traceback(None)  # its frames hold the body


def _model(fields: Mapping[str, Any], path: PayablePath) -> str:
    model = path.model or fields.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("The body names no model: `model` must be a non-empty string.", param="model")
    return model


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
