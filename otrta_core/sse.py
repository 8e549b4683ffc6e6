"""Server-sent events, read as their bytes come (WHATWG HTML, "Server-sent events")."""

import re

MAX_LINE = 1 << 20
_LINE_END = re.compile(rb"\r\n|\n|\r(?=[^\n])")


class EventReader:
    """Takes a stream's bytes as they come and gives its complete lines, with their line ends.

    A line longer than ``MAX_LINE`` is handed on in pieces, so that memory stays bounded.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._scanned = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that ``data`` completes. A CR at the very end waits for a possible LF."""
        self._held += data
        lines: list[bytes] = []
        start = 0
        for end in _LINE_END.finditer(self._held, self._scanned):
            lines.append(bytes(self._held[start : end.end()]))
            start = end.end()
        del self._held[:start]
        if len(self._held) > MAX_LINE:
            lines.append(bytes(self._held))
            self._held.clear()
        self._scanned = max(0, len(self._held) - 1)
        return lines

    def finish(self) -> bytes:
        """Return what is left when the stream ends: an unfinished line, or nothing."""
        rest = bytes(self._held)
        self._held.clear()
        self._scanned = 0
        return rest


def data_of(line: bytes) -> bytes | None:
    """Return the payload of a ``data:`` line, or None for any other line."""
    if not line.startswith(b"data:"):
        return None
    return line[5:].rstrip(b"\r\n").removeprefix(b" ")


def is_done(line: bytes) -> bool:
    """Tell whether a line is OpenAI's end of stream."""
    return data_of(line) == b"[DONE]"
