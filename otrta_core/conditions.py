"""Well-known secrets: the JSON form in which a secret states a spending condition (NUT-10).

Mints differ in what they take for a condition, and what one of them does not take for one, anybody who holds
the token can spend. So the grammar here is narrower than that of any mint: exactly two elements, exactly
the known fields, none repeated, only strings, nothing empty. What has the looks of JSON and is not that is
refused; a secret without these looks is an ordinary one.
"""

from dataclasses import dataclass, field
from typing import Any

from otrta_core import wire
from otrta_core.errors import LockError

MAX_SECRET = 1024
"""The longest secret, in characters, that Nutshell takes by default; a longer one might never be spent."""

_MAX_TAGS, _MAX_WORDS, _MAX_NONCE = 16, 16, 256
_FIELDS = ({"nonce", "data"}, {"nonce", "data", "tags"})
_SKIPPED = " \t\n\r\x00\ufeff"  # what one JSON reader or another passes over


@dataclass(frozen=True, slots=True)
class SpendingCondition:
    """A condition of any kind, as the secret states it (NUT-10)."""

    kind: str
    data: str
    tags: tuple[tuple[str, ...], ...] = ()
    nonce: str = field(default="", repr=False, compare=False)


def read_condition(secret: str) -> SpendingCondition | None:
    """Read the condition that a proof's secret states; None for an ordinary secret.

    The kind is not judged here: a reader of one kind must refuse all others.

    Raises:
        LockError: the secret looks like a condition but is not of the strict form of NUT-10.
    """
    if not _looks_like_json(secret):
        return None
    if len(secret) > MAX_SECRET:
        raise LockError("the token has a lock longer than mints accept")
    try:
        value = wire.from_json_unique(secret)
    except ValueError:
        raise LockError("the token has a lock that is not valid JSON") from None
    return _condition(value)


def write_condition(condition: SpendingCondition) -> str:
    """Write a condition as the text of a secret.

    Raises:
        LockError: it would not be read back as the same condition.
    """
    tags = [list(tag) for tag in condition.tags]
    text = wire.compact_json(
        [condition.kind, {"nonce": condition.nonce, "data": condition.data, "tags": tags}]
    )
    if read_condition(text) != condition:
        raise LockError("this lock cannot be written as a secret")
    return text


def _looks_like_json(secret: str) -> bool:
    return secret.lstrip(_SKIPPED)[:1] in {"[", "{"}


def _condition(value: Any) -> SpendingCondition:
    if not isinstance(value, list) or len(value) != 2:
        raise _malformed()
    kind, fields = value
    if not isinstance(fields, dict) or set(fields) not in _FIELDS:
        raise _malformed()
    tags = fields.get("tags", [])
    if not isinstance(tags, list) or len(tags) > _MAX_TAGS:
        raise _malformed()
    nonce = _word(fields["nonce"])
    if len(nonce) > _MAX_NONCE:
        raise _malformed()
    return SpendingCondition(_word(kind), _word(fields["data"]), tuple(_tag(tag) for tag in tags), nonce)


def _tag(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= _MAX_WORDS:
        raise _malformed()
    return tuple(_word(word) for word in value)


def _word(value: Any) -> str:
    if not isinstance(value, str) or not value or not wire.is_utf8(value):
        raise _malformed()
    return value


def _malformed() -> LockError:
    return LockError(
        "the token has a lock that is not of the form of NUT-10: mints differ in who may spend it"
    )
