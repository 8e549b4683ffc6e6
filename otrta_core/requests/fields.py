"""Which fields a body may have, as tables of name and check.

A field that no table lists could change the price, or reach something that the quote does not see. A field
that is listed with a check has no price effect beyond what the quote counts, as long as the check holds.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from otrta_core.errors import InvalidRequest, UnsupportedParameter

Check = Callable[[Any], bool]
Fields = Mapping[str, Check]

STEERING: Final = frozenset(
    {
        "cache",
        "caching",
        "fallbacks",
        "litellm_metadata",
        "max_retries",
        "metadata",
        "no-log",
        "num_retries",
        "prompt_cache_retention",
        "request_timeout",
        "safety_identifier",
        "store",
        "stream_timeout",
        "tags",
        "timeout",
        "ttl",
        "user",
    }
)
"""Fields that any body may have, since no seller acts on them: they are taken out before the upstream."""


def is_number(value: object) -> bool:
    """Tell whether this is a JSON number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_flag(value: object) -> bool:
    """Tell whether this is true or false."""
    return isinstance(value, bool)


def is_text(value: object) -> bool:
    """Tell whether this is a text."""
    return isinstance(value, str)


def is_off(value: object) -> bool:
    """Tell whether this switches off what has no price."""
    return value is False


def is_stop(value: object) -> bool:
    """Tell whether this is a text or a list of texts."""
    return isinstance(value, str) or (isinstance(value, list) and all(map(is_text, value)))


def is_bias(value: object) -> bool:
    """Tell whether this is an object of numbers."""
    return isinstance(value, Mapping) and all(map(is_number, value.values()))


def is_read(_value: object) -> bool:
    """Let pass what the kind's own reader checks and counts."""
    return True


def one_of(*allowed: object) -> Check:
    """Return a check for one of some values."""
    return lambda value: value in allowed and not isinstance(value, bool)


def keys_of(*names: str) -> Check:
    """Return a check for an object that has no other keys."""
    return lambda value: isinstance(value, Mapping) and value.keys() <= set(names)


def is_cache_control(value: object) -> bool:
    """Tell whether this marks a prompt for the cache in a way that the cache write price covers."""
    if not isinstance(value, Mapping) or not value.keys() <= {"type", "ttl"}:
        return False
    return value.get("type") == "ephemeral" and value.get("ttl") in (None, "5m", "1h")


SAMPLING: Final[Fields] = {
    "temperature": is_number,
    "top_p": is_number,
    "presence_penalty": is_number,
    "frequency_penalty": is_number,
    "stop": is_stop,
    "seed": is_number,
    "logit_bias": is_bias,
}
"""How words are drawn: no effect on the price."""

STREAM: Final[Fields] = {
    "stream": is_flag,
    "stream_options": keys_of("include_usage", "include_obfuscation"),
}

_PLAIN: Final = (is_number, is_flag, is_text)


def check_fields(body: Mapping[str, Any], fields: Fields) -> None:
    """Refuse every field and value that the table does not allow; a null says nothing.

    Raises:
        UnsupportedParameter: a field, or a form of one, whose price cannot be bounded.
        InvalidRequest: a value of a wrong type.
    """
    for name, value in body.items():
        check = fields.get(name)
        if value is None or name in STEERING or (check is not None and check(value)):
            continue
        shown = str(name)[:64]
        if check in _PLAIN:
            raise InvalidRequest(f"{shown} has the wrong type", param=shown)
        why = "has no price here: leave it out" if check is None else "cannot be bought in this form"
        raise UnsupportedParameter(f"{shown} {why}", param=shown)
