"""Lists of models that may be paid for: names, in which ``*`` stands for anything."""

import re
from collections.abc import Sequence

MAX_CHARACTERS = 200
_PATTERN = re.compile(r"[^\x00-\x1f\x7f]{1,200}")


def is_pattern(text: str) -> bool:
    """Tell whether this can be an entry of such a list."""
    return _PATTERN.fullmatch(text) is not None


def allows(models: Sequence[str] | None, model: str) -> bool:
    """Tell whether a list allows a model; None allows every one, an empty list none.

    Names are compared letter by letter. A name too long for a list is in none.
    """
    if models is None:
        return True
    return len(model) <= MAX_CHARACTERS and any(_matches(pattern, model) for pattern in models)


def _matches(pattern: str, model: str) -> bool:
    """Match from the left, each part between stars where it comes first: never slower than length squared."""
    first, *rest = pattern.split("*")
    if not rest:
        return model == pattern
    *middle, last = rest
    if not (model.startswith(first) and model.endswith(last) and len(model) >= len(first) + len(last)):
        return False
    at, end = len(first), len(model) - len(last)
    for part in middle:
        found = model.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
