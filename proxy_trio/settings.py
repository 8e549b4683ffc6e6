"""The settings of the HTTP side, with their defaults."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from proxy_trio.app_keys import AppKey
from proxy_trio.bodies import REMOVED_FIELDS
from proxy_trio.headers import Header

Identify = Callable[[Iterable[Header]], AppKey | None]

MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardSettings:
    """Bounds of one forwarded call; times in seconds, sizes in bytes."""

    connect_s: float = 10
    idle_s: float = 120
    """Silence of the gateway, or of its network, that ends a call. There is no total timeout."""
    store_s: float = 30
    """How long the payer may take to store change or to close the books."""
    stall_s: float = 60
    """An app that takes no byte for this long counts as gone."""
    drain_s: float = 10
    """After the app has gone: how long the rest of the answer is read, for the change at its end. Longer
    costs the user output that nobody reads; the change of what is cut comes from the change route."""
    drain_bytes: int = 16 * MIB
    stop_s: float = 3
    """When the proxy is stopped: how long running calls may still end by themselves."""
    max_body_bytes: int = 64 * MIB
    max_query_bytes: int = 16 * 1024
    max_attempts: int = 5
    max_refusal_bytes: int = MIB
    """A refusal up to this size is read whole before anything of it goes on, so that a retry is possible."""
    answer_bytes: int = MIB
    """How much of a plain answer is kept for the usage in it."""
    stream_tail_bytes: int = 64 * 1024
    """How much of a stream's end is kept for the usage in it."""
    removed_fields: tuple[str, ...] = REMOVED_FIELDS


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings:
    """Who may call.

    ``extra_hosts`` are further names of this machine, with or without a port; ``extra_origins`` are whole
    origins, such as ``http://localhost:3000``. ``identify`` tells from the headers of a call which app's key
    it comes with, or raises ``KeyRefused``.
    """

    extra_hosts: frozenset[str] = frozenset()
    extra_origins: frozenset[str] = frozenset()
    identify: Identify | None = None
    local_token: str | None = field(default=None, repr=False)
    """The secret of ``local.token``; without one no wallet action is served."""
