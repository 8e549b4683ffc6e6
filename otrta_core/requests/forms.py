"""The parts of a multipart/form-data body, already taken apart: fields as text, files by their size."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from otrta_core.errors import InvalidRequest

_WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,18})?", re.ASCII)
MAX_FIELDS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class FormFile:
    """A file of a form, as far as its price goes.

    Attributes:
        name: the form field that it stands in.
        size: in bytes.
        filename: as the caller named it; readers go by its ending.
        head: its beginning: the first 64 kB are enough to see how long a WAV plays.
    """

    name: str
    size: int
    filename: str = ""
    head: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < len(self.head):
            raise InvalidRequest("a file's size must be the number of its bytes", param=self.name)


def typed_fields(
    pairs: Iterable[tuple[str, str]],
    *,
    whole: Collection[str] = (),
    numbers: Collection[str] = (),
    flags: Collection[str] = (),
) -> dict[str, Any]:
    """Turn a form's texts into what a JSON body would hold; names that end in ``[]`` become lists.

    An empty text counts as absent.

    Raises:
        InvalidRequest: too many fields, the same one twice, or a text that is not of its type.
    """
    body: dict[str, Any] = {}
    for at, (name, text) in enumerate(pairs):
        if at >= MAX_FIELDS:
            raise InvalidRequest("the form has too many fields")
        if not isinstance(text, str):
            raise InvalidRequest(f"{name[:64]} must be a text", param=name[:64])
        if name.endswith("[]"):
            body.setdefault(name, []).append(text)
        elif name in body:
            # readers differ in which of the two they take
            raise InvalidRequest(f"{name[:64]} stands twice in the form", param=name[:64])
        else:
            body[name] = text or None
    for name in {*whole, *numbers, *flags} & body.keys():
        if body[name] is not None:
            body[name] = _typed(name, body[name], name in whole, name in flags)
    return body


def _typed(name: str, text: str, is_whole: bool, is_flag: bool) -> int | float | bool:
    if is_flag and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if is_whole and _WHOLE.fullmatch(text):
        return int(text)
    if not is_whole and not is_flag and _NUMBER.fullmatch(text):
        return float(text)
    raise InvalidRequest(f"{name} has the wrong type", param=name)
