"""multipart/form-data as strangers send it, taken apart whole.

Both sides read a form here, so that both come to the same figures. This module alone needs python-multipart,
which comes with the extras of gateway and client.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from otrta_core.errors import InvalidRequest
from otrta_core.requests.forms import FormFile

MAX_PARTS: Final = 256
MAX_HEADERS: Final = 8
MAX_HEADER_BYTES: Final = 4096
MAX_FIELD_BYTES: Final = 1 << 20
"""The longest text: LiteLLM's own form parser takes no longer one."""

HEAD_BYTES: Final = 64 << 10
MAX_CONTENT_TYPE: Final = 1024

_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_ENDING = re.compile(r"\.([A-Za-z0-9]{1,8})\Z", re.ASCII)
_MEDIA_TYPE = re.compile(r"(?:audio|image|video)/[A-Za-z0-9.+-]{1,40}", re.ASCII)


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file of a form.

    Attributes:
        name: the field that it stands in.
        filename: a plain name with the ending that the caller's had, in small letters.
        media_type: as stated, where that is sound, a picture or a film; else of no certain kind.
        content: its bytes, within the body that was read.
    """

    name: str
    filename: str
    media_type: str
    content: bytes | memoryview = field(repr=False)


@dataclass(frozen=True, slots=True)
class Form:
    """The texts, by name, and the files of a form, each in the order in which they came.

    ``names`` are those of all parts, in their order.
    """

    fields: tuple[tuple[str, str], ...] = field(repr=False)
    files: tuple[SentFile, ...]
    names: tuple[str, ...] = field(default=(), compare=False)

    def figures(self) -> list[FormFile]:
        """Return the files as far as their price goes."""
        return [
            FormFile(
                name=file.name,
                size=len(file.content),
                filename=file.filename,
                head=bytes(file.content[:HEAD_BYTES]),
            )
            for file in self.files
        ]


def read_form(content_type: str, body: bytes) -> Form:
    """Take a form apart; its files are not copied.

    Args:
        content_type: of the request; it names the boundary.
        body: all of it.

    Raises:
        InvalidRequest: it is no such form, is cut off, has too many or too large parts, names that are not
            UTF-8, or an empty file.
    """
    boundary = _boundary(content_type)
    if body.count(b"\r\n--" + boundary) > MAX_PARTS + 1:
        # the parser goes through what follows each of them byte by byte
        raise InvalidRequest(f"send at most {MAX_PARTS} parts in a form")
    parts = _Parts(body)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": parts.begin,
                "on_header_field": parts.header_field,
                "on_header_value": parts.header_value,
                "on_header_end": parts.header_end,
                "on_headers_finished": parts.headers_finished,
                "on_part_data": parts.data,
                "on_part_end": parts.end,
                "on_end": parts.finish,
            },
            max_header_count=MAX_HEADERS,
            max_header_size=MAX_HEADER_BYTES,
        )
        parser.write(body)
    except FormParserError:
        raise InvalidRequest("the body is not well-formed multipart/form-data") from None
    if not parts.finished:
        raise InvalidRequest("the form ends before its last boundary")
    return Form(tuple(parts.fields), tuple(parts.files), tuple(parts.names))


def without_parts(content_type: str, body: bytes, form: Form, removed: Collection[str]) -> bytes:
    """Return a form without the parts of some names; all others stay byte for byte.

    Args:
        content_type: of the request.
        body: the form.
        form: what ``read_form`` made of it.
        removed: the names.

    Raises:
        InvalidRequest: its boundary also stands inside a part.
    """
    if not any(name in removed for name in form.names):
        return body
    delimiter = b"--" + _boundary(content_type)
    starts = [body.find(delimiter)]
    while (found := body.find(b"\r\n" + delimiter, starts[-1] + len(delimiter))) >= 0:
        starts.append(found + 2)
    if len(starts) != len(form.names) + 1:
        raise InvalidRequest("the boundary of the form also stands inside one of its parts")
    view = memoryview(body)
    kept = [
        view[start:end]
        for name, start, end in zip(form.names, starts, starts[1:], strict=False)
        if name not in removed
    ]
    return b"".join([*kept, view[starts[-1] :]])


def _boundary(content_type: str) -> bytes:
    if len(content_type) > MAX_CONTENT_TYPE:
        raise InvalidRequest("the Content-Type header is too long")
    try:
        kind, options = parse_options_header(content_type)
    except UnicodeEncodeError:
        kind, options = b"", {}
    if kind != b"multipart/form-data":
        raise InvalidRequest("the body must be multipart/form-data")
    boundary = options.get(b"boundary", b"")
    if not _BOUNDARY.fullmatch(boundary):
        raise InvalidRequest("the Content-Type header names no boundary of the form")
    return boundary


class _Parts:
    """Collects what the parser finds in a body that it gets whole."""

    def __init__(self, body: bytes) -> None:
        self.fields: list[tuple[str, str]] = []
        self.files: list[SentFile] = []
        self.names: list[str] = []
        self.finished = False
        self._body = memoryview(body)
        self._header, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._filename: str | None = None
        self._start = self._end = 0

    def begin(self) -> None:
        if len(self.fields) + len(self.files) >= MAX_PARTS:
            raise InvalidRequest(f"send at most {MAX_PARTS} parts in a form")
        self._headers = {}
        self._start = self._end = 0

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        name = self._header.lower()
        if name in self._headers:
            raise InvalidRequest("a part of the form has the same header twice")
        self._headers[name] = self._value
        self._header, self._value = b"", b""

    def headers_finished(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if kind != b"form-data" or not options.get(b"name"):
            raise InvalidRequest("each part of a form must be named form-data")
        self._name = _utf8(options[b"name"], "a part's name")
        self._filename = None
        if b"filename" in options:
            self._filename = _safe_name(_utf8(options[b"filename"], "a file's name"))

    def data(self, _data: bytes, start: int, end: int) -> None:
        # offsets in the body, because the parser got it whole
        self._start, self._end = self._start or start, end
        if self._filename is None and end - self._start > MAX_FIELD_BYTES:
            raise InvalidRequest(f"a text of the form is longer than {MAX_FIELD_BYTES} bytes")

    def end(self) -> None:
        content = self._body[self._start : self._end]
        self.names.append(self._name)
        if self._filename is None:
            self.fields.append((self._name, _utf8(bytes(content), "each text")))
            return
        if not content:
            raise InvalidRequest("a file of the form is empty")
        stated = self._headers.get(b"content-type", b"").decode("latin-1")
        media_type = stated if _MEDIA_TYPE.fullmatch(stated) else "application/octet-stream"
        self.files.append(SentFile(self._name, self._filename, media_type, content))

    def finish(self) -> None:
        self.finished = True


def _utf8(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"{what} in a form must be UTF-8") from None


def _safe_name(filename: str) -> str:
    ending = _ENDING.search(filename)
    return "file" if ending is None else f"file.{ending[1].lower()}"
