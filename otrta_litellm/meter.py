"""Reading from an answer, as it passes, what the call used and whether it failed."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from otrta_core import CallRequest, Usage, wire
from otrta_core.output_text import output_text
from otrta_core.sse import MAX_LINE, EventReader, data_of, is_done
from otrta_core.usage import UsageReader

KEPT_TEXT = 256 << 10
"""How much of the delivered text is kept to be counted; what is beyond counts in proportion."""

_OURS = re.compile(rb":[ \t]*(?:x-cashu|otrta)", re.IGNORECASE)
KEPT_TAIL = 64 << 10
"""How much is held of what comes behind the end of a stream; nobody needs the rest."""

BYTES_PER_TOKEN = 4
"""What is assumed where text cannot be counted."""

_CUE_END = re.compile(r"-->\s*(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})")


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer says.

    Attributes:
        usage: as stated by the answer, or None.
        text: the beginning of the delivered text.
        text_bytes: all of it, in bytes; of sound, the bytes of the sound.
        error: the error that it carried, or None.
        final: whether ``usage`` is that of the whole answer, not of what was known at its start.
    """

    usage: Usage | None
    text: str = field(repr=False)
    text_bytes: int
    error: Mapping[str, Any] | None = None
    final: bool = True

    @property
    def failed(self) -> bool:
        """Whether there was an error instead of an answer."""
        return self.error is not None and not self.text_bytes

    @property
    def delivered(self) -> bool:
        """Whether anything billable was handed over."""
        return not self.failed and (self.usage is not None or self.text_bytes > 0)


class StreamMeter:
    """Follows an event stream event by event and decides what of it goes on.

    A later ``usage: null`` does not erase an earlier usage. An event that carries only the usage goes on
    only to a caller who asked for it. ``[DONE]`` is held back in ``tail``, so that change can stand before
    it; streams of other makes end without a word that it would have to stand before.

    Attributes:
        tail: the held end of the stream.
    """

    def __init__(self, call: CallRequest, *, show_usage: bool) -> None:
        self.tail = b""
        self._events = 0
        self._kind = call.kind
        self._show_usage = show_usage
        self._reader = EventReader()
        self._event: list[bytes] = []
        self._event_bytes = 0
        self._usage = UsageReader(call.kind)
        self._parts: list[str] = []
        self._kept = self._bytes = 0
        self._error: Mapping[str, Any] | None = None

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
        return Reading(self._usage.usage, "".join(self._parts), self._bytes, self._error, self._usage.final)

    def _line(self, line: bytes) -> bytes:
        self._event.append(line)
        self._event_bytes += len(line)
        over = not line.strip(b"\r\n") or self._event_bytes >= MAX_LINE
        return self._end_event() if over else b""

    def _end_event(self) -> bytes:
        event, self._event, self._event_bytes = self._event, [], 0
        if any(is_done(line) for line in event) or self.tail:
            self.tail = (self.tail + _without_ours(event))[:KEPT_TAIL]
            return b""
        goes_on = True
        for line in event:
            data = data_of(line)
            if data is not None:
                goes_on = self._data(data) and goes_on
        return _without_ours(event) if goes_on else b""

    def _data(self, data: bytes) -> bool:
        try:
            chunk = wire.from_json(data)
        except ValueError:
            return True
        self._error = error_of(chunk) or self._error
        self._usage.feed(chunk)
        text = output_text(chunk)
        if text:
            self._parts += self._keep(text)
        size = _sound_bytes(chunk) if self._kind == "speech" else len(text.encode("utf-8", "surrogatepass"))
        self._events += size > 0
        self._bytes += size
        return self._show_usage or not _is_only_usage(chunk)

    def _keep(self, text: str) -> list[str]:
        if self._kept >= KEPT_TEXT:
            return []
        self._kept += len(text)
        return [text]


def _without_ours(event: Sequence[bytes]) -> bytes:
    """Join an event's lines but for comments of the kind that carries change: only the gate's own go out."""
    return b"".join(line for line in event if not _OURS.match(line))


def read_body(body: bytes, call: CallRequest) -> Reading:
    """Read a whole answer."""
    try:
        answer = wire.from_json(body)
    except ValueError:
        return _read_other(body, call)
    usage = UsageReader(call.kind)
    usage.feed(answer)
    text = output_text(answer)
    size = len(text.encode("utf-8", "surrogatepass"))
    return Reading(usage.usage, text[:KEPT_TEXT], size, error_of(answer))


def _read_other(body: bytes, call: CallRequest) -> Reading:
    """Read what is not JSON: sound, or a transcript as a text or with the times of its parts."""
    if call.kind == "speech":
        return Reading(None, "", len(body))
    if call.kind != "transcriptions":
        return Reading(None, "", 0)
    text = body.decode("utf-8", "replace")
    ends = [_seconds(*found.groups(default="0")) for found in _CUE_END.finditer(text)]
    usage = Usage(seconds=max(ends)) if any(ends) else None
    return Reading(usage, text[:KEPT_TEXT], len(body))


def error_of(chunk: object) -> Mapping[str, Any] | None:
    """Return the error that an answer or an event carries, whichever API's it is, or None."""
    if not isinstance(chunk, Mapping):
        return None
    if isinstance(chunk.get("error"), Mapping):
        found: Mapping[str, Any] = chunk["error"]
        return found
    if chunk.get("type") == "error":  # of Responses, whose error events are flat
        return {name: chunk[name] for name in ("message", "code", "param") if name in chunk}
    if chunk.get("type") == "response.failed":
        response = chunk.get("response")
        error = response.get("error") if isinstance(response, Mapping) else None
        return error if isinstance(error, Mapping) else {"message": "the response failed"}
    return None


def _is_only_usage(chunk: object) -> bool:
    if not isinstance(chunk, Mapping) or not isinstance(chunk.get("usage"), Mapping):
        return False
    choices = chunk.get("choices")
    if not isinstance(choices, list):
        return False
    said = ("finish_reason", "delta", "text")
    return not any(isinstance(choice, Mapping) and any(map(choice.get, said)) for choice in choices)


def _sound_bytes(chunk: object) -> int:
    sound = chunk.get("audio") if isinstance(chunk, Mapping) else None
    return len(sound) * 3 // 4 if isinstance(sound, str) else 0


def _seconds(hours: str, minutes: str, seconds: str, thousandths: str) -> int:
    return (int(hours) * 60 + int(minutes)) * 60 + int(seconds) + (int(thousandths) > 0)
