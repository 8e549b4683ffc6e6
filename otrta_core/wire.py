"""Bounded readers for base64, CBOR and JSON that strangers send.

Every reader is linear in its input, refuses deep nesting (CBOR beyond ``MAX_DEPTH``, JSON beyond what the
interpreter's recursion limit allows), and raises ``ValueError`` only.
"""

import base64
import binascii
import json
import math
import re
from collections.abc import Callable
from typing import Any, Final, NoReturn

import cbor2

MAX_DEPTH: Final = 16
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}", re.ASCII)
_BREAK: Final = 0xFF


def from_base64(text: str) -> bytes:
    """Decode base64 of either alphabet, padded or not (NUT-00, NUT-18)."""
    if _BASE64.fullmatch(text) is None:
        raise ValueError("not base64")
    bare = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except binascii.Error:
        raise ValueError("truncated base64") from None


def to_base64(data: bytes, *, padded: bool) -> str:
    """Encode as base64_urlsafe."""
    text = base64.urlsafe_b64encode(data).decode()
    return text if padded else text.rstrip("=")


def from_cbor(data: bytes) -> Any:
    """Decode exactly one CBOR item after walking its structure, so that no length is believed unseen.

    Tags are refused (they can share or build values); ``undefined`` reads as None.
    """
    end = _walk(data, 0, MAX_DEPTH)
    if end != len(data):
        raise ValueError("CBOR with trailing bytes")
    try:
        return _without_undefined(cbor2.loads(data))
    except (cbor2.CBORError, RecursionError, OverflowError, TypeError, UnicodeError) as error:
        raise ValueError("malformed CBOR") from error


def _without_undefined(value: Any) -> Any:
    if value is cbor2.undefined:
        return None
    if isinstance(value, dict):
        return {k: _without_undefined(v) for k, v in value.items() if v is not cbor2.undefined}
    if isinstance(value, list):
        return [_without_undefined(v) for v in value]
    return value


def _walk(data: bytes, at: int, depth: int) -> int:
    """Return the offset behind the item at ``at``."""
    if depth < 0:
        raise ValueError("CBOR nested too deep")
    if at >= len(data):
        raise ValueError("truncated CBOR")
    major, info = data[at] >> 5, data[at] & 31
    at += 1
    if major == 6:
        raise ValueError("CBOR tags are not allowed")
    if major == 7:
        if info > 27 or (info < 20 and info != 24):
            raise ValueError("unknown CBOR simple value")
        return _bounded(data, at + ({24: 1, 25: 2, 26: 4, 27: 8}.get(info, 0)))
    if info == 31:
        return _walk_indefinite(data, at, major, depth)
    length, at = _argument(data, at, info)
    if major <= 1:
        return at
    if major <= 3:
        return _bounded(data, at + length)
    for item in range(length * (2 if major == 5 else 1)):
        if major == 5 and item % 2 == 0:
            _check_key(data, at)
        at = _walk(data, at, depth - 1)
    return at


def _check_key(data: bytes, at: int) -> None:
    # arrays, maps and floats as keys can be made to collide: Python hashes them without a seed
    if at < len(data) and data[at] >> 5 > 3:
        raise ValueError("a CBOR map key must be a number or a string")


def _walk_indefinite(data: bytes, at: int, major: int, depth: int) -> int:
    if major < 2:
        raise ValueError("malformed CBOR length")
    items = 0
    while at < len(data) and data[at] != _BREAK:
        if major <= 3 and (data[at] >> 5 != major or data[at] & 31 == 31):
            raise ValueError("malformed CBOR string")
        if major == 5 and items % 2 == 0:
            _check_key(data, at)
        at = _walk(data, at, depth - 1)
        items += 1
    if at >= len(data) or (major == 5 and items % 2):
        raise ValueError("truncated CBOR")
    return at + 1


def _argument(data: bytes, at: int, info: int) -> tuple[int, int]:
    if info < 24:
        return info, at
    if info > 27:
        raise ValueError("malformed CBOR length")
    end = _bounded(data, at + (1 << (info - 24)))
    return int.from_bytes(data[at:end], "big"), end


def _bounded(data: bytes, at: int) -> int:
    if at > len(data):
        raise ValueError("truncated CBOR")
    return at


def from_json(data: str | bytes, *, parse_float: Callable[[str], Any] | None = None) -> Any:
    """Decode JSON; NaN, infinities (1e999 too), huge integers and deep nesting raise ValueError.

    Args:
        data: text, or bytes in a Unicode encoding.
        parse_float: what to make of a number with a point or an exponent.
    """
    try:
        return json.loads(data, parse_constant=_refuse_constant, parse_float=parse_float or _finite)
    except RecursionError:
        raise ValueError("JSON nested too deep") from None


def from_json_unique(text: str) -> Any:
    """Decode JSON in which no object repeats a key, since readers differ on which of the two counts."""
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("JSON nested too deep") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a JSON object repeats a key")
    return fields


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError("a number in the JSON is too large")
    return value


def _refuse_constant(_word: str) -> NoReturn:
    raise ValueError("NaN and infinities are not JSON")


def is_utf8(text: str) -> bool:
    """Tell whether ``text`` can be written as UTF-8: JSON can smuggle in half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def compact_json(value: Any) -> str:
    """Encode JSON without spaces and without escaping, so that its UTF-8 length is the shortest."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def to_cbor(value: Any) -> bytes:
    """Encode CBOR with definite lengths, keys in the order given."""
    return cbor2.dumps(value)
