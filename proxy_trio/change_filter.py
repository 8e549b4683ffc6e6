"""Takes the gateway's change out of an event stream, without I/O.

A gateway ends a live stream with comment lines (``: otrta paid=…``, ``: x-cashu cashuB…``). They are
for the proxy: the app gets the stream without them and without the blank line that ends them. All
other bytes go on at once; held back is only what could still become such a line.

Lines end with LF, CR LF or CR (WHATWG HTML §9.2.5). How the bytes are cut into pieces makes no
difference to what comes out.
"""

import re
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

MAX_COMMENT_BYTES: Final = 64 * 1024

_MARKS: Final = {b": x-cashu": "x-cashu", b": otrta": "otrta"}
_LINE_END: Final = re.compile(rb"[\r\n]")
_CR, _LF, _SPACE = b"\r\n "


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment line of the gateway.

    ``name`` is ``x-cashu`` or ``otrta``. ``complete`` is False when the stream ended inside the line or
    the line was over the bound; then the value may be cut.
    """

    name: str
    value: str = field(repr=False)
    complete: bool = True


class _Place(Enum):
    LINE_START = auto()
    PASSING = auto()
    COMMENT = auto()


class ChangeFilter:
    """Incremental filter of one event stream. Memory is bounded by ``MAX_COMMENT_BYTES``."""

    def __init__(self) -> None:
        self._place = _Place.LINE_START
        self._held = b""
        # After a CR: whether an LF that follows, being part of the same line end, is passed on.
        self._lf_passes: bool | None = None
        self._event_has_passed = False
        self._event_was_cut = False
        self._name = ""
        self._value = bytearray()
        self._over_bound = False

    def feed(self, data: bytes) -> tuple[bytes, list[Comment]]:
        """Take the next bytes of the stream.

        Returns:
            The bytes for the app, and the comments that ended within ``data``.
        """
        passed = bytearray()
        comments: list[Comment] = []
        position = 0
        while position < len(data):
            if self._lf_passes is not None:
                position += self._skip_line_feed(data[position], passed)
            elif self._place is _Place.LINE_START:
                self._start_line(data[position], passed, comments)
                position += 1
            else:
                position = self._continue_line(data, position, passed, comments)
        return bytes(passed), comments

    def finish(self) -> tuple[bytes, list[Comment]]:
        """Say that the stream has ended, whole or broken off.

        Returns:
            What was held back and is no comment; the comment that the end cut, if there is one.
        """
        held, self._held = self._held, b""
        if self._place is _Place.COMMENT:
            return b"", [self._close_comment(complete=False)]
        if held in _MARKS:
            return b"", [Comment(_MARKS[held], "", complete=False)]
        return held, []

    def _skip_line_feed(self, byte: int, passed: bytearray) -> int:
        passes, self._lf_passes = self._lf_passes, None
        if byte != _LF:
            return 0
        if passes:
            passed.append(byte)
        return 1

    def _start_line(self, byte: int, passed: bytearray, comments: list[Comment]) -> None:
        if byte in (_CR, _LF):
            self._end_short_line(byte, passed, comments)
            return
        line = self._held + bytes([byte])
        if self._held in _MARKS and byte == _SPACE:
            self._place, self._name, self._held = _Place.COMMENT, _MARKS[self._held], b""
        elif any(mark.startswith(line) for mark in _MARKS):
            self._held = line
        else:
            passed += line
            self._place, self._held, self._event_has_passed = _Place.PASSING, b"", True

    def _end_short_line(self, byte: int, passed: bytearray, comments: list[Comment]) -> None:
        line, self._held = self._held, b""
        if line in _MARKS:
            comments.append(Comment(_MARKS[line], ""))
            self._event_was_cut = True
            passes = False
        elif line:
            self._event_has_passed = passes = True
        else:
            # The blank line ends an event: it goes with the comments only if nothing else was in it.
            passes = self._event_has_passed or not self._event_was_cut
            self._event_has_passed = self._event_was_cut = False
        if passes:
            passed += line
            passed.append(byte)
        self._note_line_end(byte, passes)

    def _continue_line(self, data: bytes, start: int, passed: bytearray, comments: list[Comment]) -> int:
        found = _LINE_END.search(data, start)
        passes = self._place is _Place.PASSING
        if passes:
            end = found.end() if found else len(data)
            passed += data[start:end]
        else:
            end = found.start() if found else len(data)
            self._grow_comment(data[start:end])
        if found is None:
            return end
        if not passes:
            comments.append(self._close_comment(complete=True))
        self._place = _Place.LINE_START
        self._note_line_end(data[found.start()], passes)
        return found.end()

    def _note_line_end(self, byte: int, passes: bool) -> None:
        self._lf_passes = passes if byte == _CR else None

    def _grow_comment(self, piece: bytes) -> None:
        room = MAX_COMMENT_BYTES - len(self._value)
        self._value += piece[:room]
        self._over_bound = self._over_bound or len(piece) > room

    def _close_comment(self, *, complete: bool) -> Comment:
        comment = Comment(
            self._name, self._value.decode("ascii", "replace"), complete and not self._over_bound
        )
        self._value.clear()
        self._over_bound = False
        self._event_was_cut = True
        return comment
