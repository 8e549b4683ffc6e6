"""What the HTTP side asks of the wallet side: the ``Payer`` and the values that pass between them.

The order for one call of an app::

    open ─→ attempt ─→ on_head ─→ on_comment* ─→ on_end ─┬→ the app has its answer
               ↑                                          └→ retry ─→ None: the app has its answer
               └──────────────────── a new attempt ←──────────┘

Every attempt gets exactly one ``on_end``, whatever happens after it was returned, short of the death of
the process. ``on_head`` comes at most once, and not at all where no answer began. Calls for one attempt
never overlap; calls for different attempts do.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from proxy_trio.app_keys import AppKey
from proxy_trio.bodies import Body
from proxy_trio.change_filter import Comment
from proxy_trio.headers import Header, media_type, values


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of an app, checked and ready to be sent.

    ``headers`` are those that go to the gateway; ``key`` is the app's, which never does.
    """

    method: str
    path: str
    payable: bool
    query: bytes = field(default=b"", repr=False)
    headers: tuple[Header, ...] = field(default=(), repr=False)
    body: Body | None = None
    key: AppKey | None = None

    @property
    def key_id(self) -> str | None:
        """The id of the app's key; None where it gave none."""
        return self.key.id if self.key else None

    @property
    def model(self) -> str | None:
        """The model that the body names; None for a call without a body."""
        return self.body.model if self.body else None

    @property
    def stream(self) -> bool:
        """Whether the app asked for a stream."""
        return self.body is not None and self.body.stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request to one gateway. A payer may subclass it to carry what it needs later.

    ``gateway_url`` is the gateway's address without ``/v1``. ``token`` is the encoded payment, already
    journalled; None for a call that is free. ``change_in_stream`` says whether change inside a stream is
    asked for.
    """

    payment_id: str
    gateway_url: str
    token: str | None = field(default=None, repr=False)
    change_in_stream: bool = True


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of the gateway's answer, as they came; the headers may hold change."""

    status: int
    headers: tuple[Header, ...] = field(repr=False)

    def get(self, name: str) -> str | None:
        """The first value of a header, or None."""
        found = values(self.headers, name.lower().encode("ascii"))
        return found[0] if found else None

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is ``text/event-stream``."""
        return media_type(self.headers) == "text/event-stream"


class Ending(Enum):
    """How an attempt ended."""

    COMPLETE = "complete"
    NOT_SENT = "not_sent"
    """Given up before a connection was asked for: the app had gone, or the address cannot be used."""
    UNREACHABLE = "unreachable"
    """No connection: no byte of the payment has left."""
    REDIRECTED = "redirected"
    BROKE_OFF = "broke_off"
    TIMEOUT = "timeout"
    ABANDONED = "abandoned"
    """The app had gone, and the rest of the answer was not worth waiting for."""
    STOPPED = "stopped"
    """The proxy is being stopped."""
    FAILED = "failed"
    """The proxy, or the payer, failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is known when an attempt has ended.

    ``may_have_left`` is False only if no byte of the request can have reached the gateway. ``head`` is
    None where no answer began. ``answer`` is what the payer may read the usage from: of an event stream
    the last lines (change comments taken out), else the whole body, up to a bound; ``answer_whole`` says
    whether anything is missing from it. ``body_bytes`` counts what the gateway sent as body.
    """

    ending: Ending
    may_have_left: bool
    head: Head | None = None
    app_gone: bool = False
    body_bytes: int = 0
    answer: bytes = field(default=b"", repr=False)
    answer_whole: bool = False

    @property
    def status(self) -> int | None:
        """The gateway's status, or None where no answer began."""
        return self.head.status if self.head else None


class Payer(Protocol):
    """Pays for calls and keeps the change.

    ``on_head``, ``on_comment`` and ``on_end`` run shielded from cancellation, each for at most
    ``ForwardSettings.store_s``. If one of the first two raises, the exchange stops, the app gets
    ``internal_error`` or a cut answer, and ``on_end`` still comes (``FAILED``). An error from ``on_end``
    is logged by its type alone.
    """

    async def open(self, call: Call) -> Attempt:
        """Choose a gateway, price the call, reserve the budget, pick proofs and journal the payment.

        For a call with ``payable`` False only a gateway is chosen and the attempt carries no token.

        Raises:
            OtrtaError: Answered to the app in its own error shape; nothing was sent.
            trio.Cancelled: The proxy is being stopped; what was journalled is the payer's to undo.
        """
        ...

    async def on_head(self, attempt: Attempt, head: Head) -> None:
        """Store the change of an ``X-Cashu`` header. No byte of the answer goes on before this returns."""
        ...

    async def on_comment(self, attempt: Attempt, comment: Comment) -> None:
        """Store the change of a stream. No byte that came after it goes on before this returns."""
        ...

    async def on_end(self, attempt: Attempt, outcome: Outcome) -> None:
        """Close the books of the attempt. The app cannot see its answer's end before this returns."""
        ...

    async def retry(self, call: Call, attempt: Attempt, outcome: Outcome) -> Attempt | None:
        """Decide whether a failed attempt is followed by another one, after its ``on_end``.

        Asked only while the app is there and has got nothing yet: the gateway refused (status ≥ 400,
        the body is in ``outcome.answer``) or gave no whole answer. The number of attempts for one call
        is bounded by ``ForwardSettings.max_attempts``.

        Returns:
            The next attempt, journalled like that of ``open``; None to answer the app with what is
            there: the gateway's refusal, or the local error.

        Raises:
            OtrtaError: Answered to the app instead.
        """
        ...
