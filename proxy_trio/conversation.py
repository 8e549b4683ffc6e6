"""One attempt: a request to one gateway, its answer passed on, its change stored, its books closed."""

import logging
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import httpx
import trio

from otrta_core.errors import OtrtaError
from proxy_trio.answer import AnswerCopy
from proxy_trio.change_filter import ChangeFilter, Comment
from proxy_trio.decoding import Decoder, DecodingFailed
from proxy_trio.errors import (
    GatewayBrokeOff,
    GatewayFailure,
    GatewayRedirected,
    GatewayTimeout,
    GatewayUnreachable,
    InternalFailure,
    Stopping,
)
from proxy_trio.gateway import GatewayReply, broke_off, build_request
from proxy_trio.headers import inbound, with_payment
from proxy_trio.link import AppLink, Delivery, Failure, ReplyHead
from proxy_trio.payer import Attempt, Call, Ending, Head, Outcome, Payer
from proxy_trio.settings import ForwardSettings

_log: Final = logging.getLogger(__name__)

_ENDINGS: Final[Mapping[type[GatewayFailure], Ending]] = {
    GatewayUnreachable: Ending.UNREACHABLE,
    GatewayRedirected: Ending.REDIRECTED,
    GatewayBrokeOff: Ending.BROKE_OFF,
    GatewayTimeout: Ending.TIMEOUT,
}


class Conversation:
    """The state of one attempt, from the request to its ``on_end``."""

    def __init__(
        self,
        call: Call,
        attempt: Attempt,
        payer: Payer,
        transport: httpx.AsyncBaseTransport,
        settings: ForwardSettings,
        link: AppLink,
    ) -> None:
        self._call = call
        self._attempt = attempt
        self._payer = payer
        self._transport = transport
        self._settings = settings
        self._link = link
        self._may_have_left = False
        self._head: Head | None = None
        self._body_bytes = 0
        self._drain_until_bytes = 0
        self._copy = AnswerCopy(0, tail=False)
        self._events: ChangeFilter | None = None
        self._delivery: Delivery | None = None
        self._error: OtrtaError | None = None

    async def run(self) -> Outcome:
        """Send the request and read the answer to its end.

        Bytes go on to the app meanwhile, the last ones in ``deliver``. If cancelled, the connection is
        closed and the attempt's ``on_end`` has been called with ``STOPPED``.
        """
        ending = Ending.FAILED
        try:
            ending = await self._talk()
        except GatewayFailure as error:
            self._error = error
            ending = _ENDINGS[type(error)]
        except trio.Cancelled:
            ending = Ending.STOPPED
            raise
        except Exception as error:
            log_failure("an exchange with a gateway", error)
            self._error = internal_failure()
        finally:
            outcome = self._outcome(ending)
            await self._close_books(outcome)
        return outcome

    def may_retry(self, outcome: Outcome) -> bool:
        """Tell whether another attempt could still take this one's place in front of the app."""
        if self._link.gone or (self._delivery is not None and self._delivery.begun):
            return False
        if outcome.ending is Ending.COMPLETE:
            return outcome.status is not None and outcome.status >= 400
        return outcome.ending in _ENDINGS.values()

    async def deliver(self) -> None:
        """Give the app the end of the answer, or the error."""
        if self._error is not None:
            await self._link.put(Failure(self._error))
        elif self._delivery is not None:
            await self._delivery.finish()

    async def _talk(self) -> Ending:
        if self._link.gone:
            return Ending.NOT_SENT
        request = build_request(
            self._call.method,
            self._attempt.gateway_url,
            self._call.path,
            self._call.query,
            with_payment(
                self._call.headers,
                self._attempt.token,
                change_in_stream=self._attempt.change_in_stream,
            ),
            self._call.body.outbound if self._call.body else None,
            connect_s=self._settings.connect_s,
            idle_s=self._settings.idle_s,
        )
        self._may_have_left = True
        reply = await GatewayReply.ask(self._transport, request)
        try:
            return await self._receive(reply)
        finally:
            await reply.close()

    async def _receive(self, reply: GatewayReply) -> Ending:
        head = self._head = Head(reply.status, reply.headers)
        with self._storing():
            await self._payer.on_head(self._attempt, head)
        if 300 <= head.status < 400:
            raise GatewayRedirected(
                "The gateway answered with a redirect, which a payment never follows. "
                "Add the gateway under its final address."
            )
        try:
            decoder = Decoder(head.get("content-encoding") or "")
        except DecodingFailed:
            raise broke_off() from None
        delivery = self._delivery = self._prepare(head, decoded=decoder.decodes)
        with trio.CancelScope() as reading:
            while (raw := await reply.next_piece()) is not None:
                self._body_bytes += len(raw)
                await self._pass_on(decoder, raw, delivery)
                if self._link.gone and not self._drains_on(reading):
                    return Ending.ABANDONED
        if reading.cancelled_caught:
            return Ending.ABANDONED
        await self._finish(decoder, delivery)
        return Ending.COMPLETE

    def _prepare(self, head: Head, *, decoded: bool) -> Delivery:
        if head.is_event_stream:
            self._events = ChangeFilter()
            self._copy = AnswerCopy(self._settings.stream_tail_bytes, tail=True)
        else:
            self._copy = AnswerCopy(self._settings.answer_bytes, tail=False)
        as_it_came = not decoded and self._events is None
        length = head.get("content-length") if as_it_came else None
        return Delivery(
            self._link,
            ReplyHead(head.status, tuple(inbound(head.headers, decoded=decoded, keep_length=as_it_came))),
            hold_bytes=self._settings.max_refusal_bytes if head.status >= 400 else 0,
            length=int(length) if length is not None and length.isdecimal() else None,
        )

    async def _pass_on(self, decoder: Decoder, raw: bytes, delivery: Delivery) -> None:
        try:
            for data in decoder.feed(raw):
                comments: list[Comment] = []
                kept = data
                if self._events is not None:
                    kept, comments = self._events.feed(data)
                await self._store(comments)
                self._copy.feed(kept)
                await delivery.pass_on(kept)
        except DecodingFailed:
            raise broke_off() from None

    async def _finish(self, decoder: Decoder, delivery: Delivery) -> None:
        if self._events is not None:
            kept, comments = self._events.finish()
            await self._store(comments)
            self._copy.feed(kept)
            await delivery.pass_on(kept)
        try:
            decoder.finish()
        except DecodingFailed:
            raise broke_off() from None

    def _drains_on(self, reading: trio.CancelScope) -> bool:
        if reading.deadline == float("inf"):
            reading.deadline = trio.current_time() + self._settings.drain_s
            self._drain_until_bytes = self._body_bytes + self._settings.drain_bytes
        return self._body_bytes <= self._drain_until_bytes

    async def _store(self, comments: list[Comment]) -> None:
        for comment in comments:
            with self._storing():
                await self._payer.on_comment(self._attempt, comment)

    @contextmanager
    def _storing(self) -> Iterator[None]:
        with trio.fail_after(self._settings.store_s) as scope:
            scope.shield = True
            yield

    def _outcome(self, ending: Ending) -> Outcome:
        if ending is Ending.STOPPED:
            self._error = Stopping("The proxy is being stopped.")
        return Outcome(
            ending=ending,
            may_have_left=self._may_have_left and ending is not Ending.UNREACHABLE,
            head=self._head,
            app_gone=self._link.gone,
            body_bytes=self._body_bytes,
            answer=self._copy.content(),
            answer_whole=ending is Ending.COMPLETE and self._copy.whole,
        )

    async def _close_books(self, outcome: Outcome) -> None:
        # The answer is there, and the payment's row stays open: recovery closes it later.
        try:
            with self._storing():
                await self._payer.on_end(self._attempt, outcome)
        except Exception as error:
            log_failure("closing the books of a call", error)


def internal_failure() -> InternalFailure:
    """The error for the app when the proxy itself failed."""
    return InternalFailure(
        "The proxy failed; its log says where. A payment that was made is kept: see `otrta pending`."
    )


def log_failure(what: str, error: BaseException) -> None:
    """Log where an error came from; its text is left out, because it could quote what it met."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].name}, line {frames[-1].lineno}" if frames else "an unknown place"
    _log.error("%s failed: %s in %s", what, type(error).__name__, place)
