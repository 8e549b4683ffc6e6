"""Passing LiteLLM's answer on: held back until its change is known, or live with the change in comments."""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum, auto

import anyio

from otrta_core import Settlement
from otrta_litellm.answers import Header, exposed, payment_headers
from otrta_litellm.asgi import Message, Send
from otrta_litellm.failures import error_body, error_status
from otrta_litellm.meter import Reading, StreamMeter, read_body
from otrta_litellm.payments import Payment
from otrta_litellm.till import Ending

_PASSED = frozenset(
    {
        b"content-type",
        b"content-security-policy",
        b"retry-after",
        b"vary",
        b"x-content-type-options",
        b"x-frame-options",
    }
)
"""LiteLLM's other headers name deployments, keys and upstreams."""

_PASSED_PREFIX = b"access-control-"
NOTE_EVERY_S = 3.0

SEND_WITHIN_S = 120.0
"""How long a caller may stop reading before it counts as gone: its call would stay open for ever."""


class HeldBytes:
    """Counts the bytes of all bodies that this process keeps: those of its calls, and answers held back."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0

    @property
    def full(self) -> bool:
        """Whether a new call has to be turned away."""
        return self.total >= self.limit

    @contextmanager
    def more(self, count: int) -> Iterator[None]:
        """Count so many more for a while."""
        self.total += count
        try:
            yield
        finally:
            self.total -= count


class _Mode(Enum):
    HELD = auto()  # until its change is known
    LIVE = auto()  # an event stream that is passed on; its change comes in comments
    SPILLED = auto()  # another answer over the bound; its change is to be fetched


class Relay:
    """One answer on its way. LiteLLM sends into ``receive``; ``finish`` ends it with the change."""

    def __init__(
        self,
        payment: Payment,
        send: Send,
        *,
        live: bool,
        show_usage: bool,
        origin: bytes | None,
        buffer_bytes: int,
        held: HeldBytes,
        note_live: Callable[[int], Awaitable[None]],
    ) -> None:
        self._payment = payment
        self._send = send
        self._wants_live = live
        self._origin = origin
        self._limit = buffer_bytes
        self._held = held
        self._note_live = note_live
        self._meter = StreamMeter(payment.call, show_usage=show_usage)
        self._gone = False
        self._mode = _Mode.HELD
        self._start: Message | None = None
        self._stream = self._cache_hit = False
        self._body = bytearray()
        self._noted_at = time.monotonic()
        self._spilled = 0
        self._complete = False
        self._at_line_start = True

    async def receive(self, message: Message) -> None:
        """Take one ASGI message of LiteLLM's answer."""
        if message["type"] == "http.response.start":
            self._start = message
            headers = dict(message.get("headers", ()))
            is_events = headers.get(b"content-type", b"").startswith(b"text/event-stream")
            self._stream = is_events and message["status"] < 400
            self._cache_hit = bool(headers.get(b"x-litellm-cache-key"))
            return
        if message["type"] != "http.response.body":
            return
        data = message.get("body", b"")
        self._complete = self._start is not None and not message.get("more_body", False)
        if self._stream:
            await self._stream_body(self._meter.feed(data))
        else:
            await self._plain_body(data)

    @property
    def outlives_caller(self) -> bool:
        """Whether the upstream's answer is read to its end, and paid for, when the caller is gone.

        LiteLLM lets Anthropic's go on. A model whose reasoning has a price may reason unseen: only the usage
        at the end tells how much, and who hung up before it would have that for nothing.
        """
        payment = self._payment
        return payment.call.kind == "messages" or payment.price.reasoning_msat_per_mtok is not None

    @property
    def whole(self) -> bool:
        """Whether what is held is an answer: a stream ends where it ends, another must be complete."""
        return self._complete or self._stream or self._mode is not _Mode.HELD

    def ending(self) -> Ending:
        """Say how the answer ended; call it once, when LiteLLM has returned.

        An error that LiteLLM sent as an answer, of which nothing has gone out yet, becomes an ordinary one.
        """
        stream, status = self._stream, 500
        if self._start is not None and self.whole:
            status = self._start["status"]
        if stream:
            self._hold(self._meter.finish())
            reading = self._meter.reading()
        elif self._mode is _Mode.HELD:
            reading = read_body(bytes(self._body), self._payment.call)
        else:
            reading = Reading(None, "", self._spilled)
        failed = reading.failed and status < 400
        if failed and self._mode is _Mode.HELD:
            error = reading.error or {}
            if stream or self._payment.call.kind == "messages":  # others may be answers that name an error
                status = error_status(error)
                self.replace(status, error_body(error, self._payment.call.kind))
        return Ending(status, stream, reading, self.whole, self._cache_hit, failed)

    async def finish(self, payment: Payment, settled: Settlement) -> None:
        """Send what is left, with the change.

        Args:
            payment: as it is after settling; without a change token where the change is still owed.
            settled: how it was divided.
        """
        paid, fee = settled.paid, settled.fee
        match self._mode:
            case _Mode.LIVE:
                comments = f": otrta paid={paid} cost={settled.charged} fee={fee} change={settled.change}\n"
                if payment.change_token is not None:
                    comments += f": x-cashu {payment.change_token}\n"
                # what is held now is an event that was cut off, and must not swallow these
                rest = bytes(self._take()) + self._meter.tail
                before = b"" if self._at_line_start else b"\n\n"
                await self._pass(before + comments.encode() + b"\n" + rest, last=True)
            case _Mode.SPILLED:
                await self._pass(b"", last=True)
            case _Mode.HELD:
                headers = payment_headers(paid, fee, settled.charged, settled.change, payment.change_token)
                await self._send_held(headers)

    async def give_up(self, status: int, body: bytes) -> None:
        """End the answer of a payment that could not be settled now; its change is to be fetched."""
        if self._mode is _Mode.HELD:
            self.replace(status, body)
            paid, fee = self._payment.paid_msat, self._payment.fee_msat
            await self._send_held(payment_headers(paid, fee, claim=True))
        else:
            await self._pass(b"", last=True)

    def replace(self, status: int, body: bytes) -> None:
        """Put an error of the gate's own in place of an answer that was not sent and must not go out."""
        if self._mode is _Mode.HELD:
            self._start = {"status": status, "headers": [(b"content-type", b"application/json")]}
            self._stream, self._complete = False, True
            self._take()
            self._hold(body)

    def drop(self) -> None:
        """Let go of what is held; for the end of the call, however it came."""
        self._take()

    async def _stream_body(self, data: bytes) -> None:
        self._hold(data)
        reading = self._meter.reading() if self._mode is _Mode.HELD and self._wants_live else None
        begins = reading is not None and (self._body or reading.delivered) and not reading.error
        if self._mode is _Mode.HELD and (begins or len(self._body) > self._limit):
            self._mode = _Mode.LIVE
            await self._begin(200, payment_headers(self._payment.paid_msat, self._payment.fee_msat))
        if self._mode is _Mode.LIVE:
            await self._pass(bytes(self._take()))
            if time.monotonic() - self._noted_at > NOTE_EVERY_S:
                self._noted_at = time.monotonic()
                await self._note_live(self._meter.tokens)

    async def _plain_body(self, data: bytes) -> None:
        if self._mode is _Mode.HELD and len(self._body) + len(data) <= self._limit:
            self._hold(data)
            return
        if self._mode is _Mode.HELD:
            self._mode = _Mode.SPILLED
            headers = payment_headers(self._payment.paid_msat, self._payment.fee_msat, claim=True)
            await self._begin(self._start["status"] if self._start else 500, headers)
            data = bytes(self._take()) + data
        self._spilled += len(data)
        await self._pass(data)

    async def _send_held(self, headers: Sequence[Header]) -> None:
        status = self._start["status"] if self._start is not None else 500
        body = bytes(self._take()) + (self._meter.tail if self._stream else b"")
        await self._begin(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self._pass(body, last=True)

    async def _begin(self, status: int, extra: Sequence[Header]) -> None:
        kept = [
            (name.lower(), value)
            for name, value in (self._start or {}).get("headers", ())
            if name.lower() in _PASSED or name.lower().startswith(_PASSED_PREFIX)
        ]
        headers = exposed([*kept, *extra], origin=self._origin)
        await self._emit({"type": "http.response.start", "status": status, "headers": headers})

    async def _pass(self, data: bytes, *, last: bool = False) -> None:
        if data or last:
            self._at_line_start = data.endswith((b"\n", b"\r")) if data else self._at_line_start
            await self._emit({"type": "http.response.body", "body": data, "more_body": not last})

    async def _emit(self, message: Message) -> None:
        if self._gone:
            return
        try:
            with anyio.fail_after(SEND_WITHIN_S):  # what it raises is an OSError, like a broken connection
                await self._send(message)
        except OSError:
            if not self.outlives_caller:
                raise
            self._gone = True

    def _hold(self, data: bytes) -> None:
        self._body += data
        self._held.total += len(data)

    def _take(self) -> bytearray:
        body, self._body = self._body, bytearray()
        self._held.total -= len(body)
        return body
