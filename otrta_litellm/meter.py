"""Reading from an answer, as it passes, what the call used and whether it failed."""

from dataclasses import dataclass, field

from otrta_core import Usage, wire
from otrta_core.output_text import output_text
from otrta_core.sse import MAX_LINE, EventReader, data_of, is_done
from otrta_core.usage import usage_from_body

KEPT_TEXT = 256 << 10
"""How much of the delivered text is kept to be counted; what is beyond counts in proportion."""

BYTES_PER_TOKEN = 4
"""What is assumed where text cannot be counted."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer says.

    Attributes:
        usage: as stated by the answer, or None.
        text: the beginning of the delivered text.
        text_bytes: all of it, in bytes.
        error: the error that an event stream carried, or None.
    """

    usage: Usage | None
    text: str = field(repr=False)
    text_bytes: int
    error: dict[str, object] | None = None

    @property
    def delivered(self) -> bool:
        """Whether anything billable was handed over."""
        return self.usage is not None or self.text_bytes > 0


class StreamMeter:
    """Follows an event stream event by event and decides what of it goes on.

    A later ``usage: null`` does not erase an earlier usage. An event that carries only the usage goes on
    only to a caller who asked for it. ``[DONE]`` is held back in ``tail``, so that change can stand before
    it.

    Attributes:
        tail: the held end of the stream.
    """

    def __init__(self, *, show_usage: bool) -> None:
        self.tail = b""
        self._events = 0
        self._show_usage = show_usage
        self._reader = EventReader()
        self._event: list[bytes] = []
        self._usage: Usage | None = None
        self._parts: list[str] = []
        self._kept = self._bytes = 0
        self._error: dict[str, object] | None = None

    def feed(self, data: bytes) -> bytes:
        """Take in bytes and return those that go on now."""
        return b"".join(self._line(line) for line in self._reader.feed(data))

    def finish(self) -> bytes:
        """Return what goes on when the stream has ended."""
        rest = self._reader.finish()
        return (self._line(rest) if rest else b"") + self._end_event()

    @property
    def tokens(self) -> int:
        """Roughly how many tokens of text have been delivered, for where nobody can count them later."""
        return max(self._events, self._bytes // BYTES_PER_TOKEN)

    def reading(self) -> Reading:
        """Say what has been seen so far."""
        return Reading(self._usage, "".join(self._parts), self._bytes, self._error)

    def _line(self, line: bytes) -> bytes:
        self._event.append(line)
        return self._end_event() if not line.strip(b"\r\n") or len(line) >= MAX_LINE else b""

    def _end_event(self) -> bytes:
        event, self._event = self._event, []
        if any(is_done(line) for line in event) or self.tail:
            self.tail += b"".join(event)
            return b""
        goes_on = True
        for line in event:
            data = data_of(line)
            if data is not None:
                goes_on = self._data(data) and goes_on
        return b"".join(event) if goes_on else b""

    def _data(self, data: bytes) -> bool:
        try:
            chunk = wire.from_json(data)
        except ValueError:
            return True
        if isinstance(chunk, dict) and isinstance(chunk.get("error"), dict):
            self._error = chunk["error"]
        self._usage = usage_from_body(chunk) or self._usage
        text = output_text(chunk)
        if text:
            self._events += 1
            self._bytes += len(text.encode("utf-8", "surrogatepass"))
            if self._kept < KEPT_TEXT:
                self._parts.append(text)
                self._kept += len(text)
        return self._show_usage or not _is_only_usage(chunk)


def _is_only_usage(chunk: object) -> bool:
    if not isinstance(chunk, dict) or not isinstance(chunk.get("usage"), dict):
        return False
    choices = chunk.get("choices")
    if not isinstance(choices, list):
        return False
    return not any(isinstance(c, dict) and (c.get("finish_reason") or c.get("delta")) for c in choices)


def read_body(body: bytes) -> Reading:
    """Read a whole JSON answer."""
    try:
        answer = wire.from_json(body)
    except ValueError:
        return Reading(None, "", 0)
    text = output_text(answer)
    return Reading(usage_from_body(answer), text[:KEPT_TEXT], len(text.encode("utf-8", "surrogatepass")))
