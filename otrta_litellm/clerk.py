"""Large bodies are read and written beside the event loop, so that all other calls go on meanwhile."""

from typing import Final

from anyio import CapacityLimiter, to_thread

from otrta_litellm.payments import Payment
from otrta_litellm.terms import Outbound, Quotes, Request, Sent, Terms, read_request

LARGE_BYTES: Final = 128 << 10
"""What is smaller takes less time than it would cost to hand it over."""

AT_ONCE: Final = 2


class Clerk:
    """Reads what callers send and writes what LiteLLM gets, a few large ones at a time."""

    def __init__(self) -> None:
        self._few = CapacityLimiter(AT_ONCE)

    async def read(self, sent: Sent) -> Request:
        """Take a request's body apart; raises as ``read_request``."""
        if len(sent.body) < LARGE_BYTES:
            return read_request(sent)
        return await to_thread.run_sync(read_request, sent, limiter=self._few)

    async def write(self, quotes: Quotes, terms: Terms, payment: Payment) -> Outbound:
        """Return what LiteLLM gets of a call."""
        if terms.size < LARGE_BYTES:
            return quotes.outbound(terms, payment)
        return await to_thread.run_sync(quotes.outbound, terms, payment, limiter=self._few)
