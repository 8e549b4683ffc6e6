"""A running call's hold on its payment: whoever loses it delivers nothing more.

A payment is its owner's as long as that worker is alive (``otrta_wallet.workers``). A worker that cannot say
so any more may have been taken for dead, and its payments settled by others; so it stops passing on what
would not be paid. What it does not pass on before it settles needs no such care: it cannot settle then.
"""

from contextlib import suppress

from otrta_litellm import payments
from otrta_litellm.asgi import Message, Send
from otrta_litellm.payments import Payment
from otrta_wallet import StoreUnavailable, Wallet


class DeliveryEnded(ConnectionError):
    """This worker may have been taken for dead: the rest of the answer is not passed on."""


class Lease:
    """One call's hold on its payment, from its redemption to its settlement."""

    def __init__(self, wallet: Wallet, payment: Payment) -> None:
        self._wallet = wallet
        self._payment = payment
        self._lost = False
        self._running = True

    def guarded(self, send: Send) -> Send:
        """Return ``send`` so that it passes nothing on while the call runs and its payment may be lost.

        What it returns raises DeliveryEnded then; LiteLLM takes that for a caller who hung up.
        """

        async def send_while_held(message: Message) -> None:
            if self._running and (self._lost or not self._wallet.worker.is_current()):
                raise DeliveryEnded
            await send(message)

        return send_while_held

    async def note_live(self, tokens: int) -> None:
        """Write down how far a live stream has come, for whoever settles after a crash."""
        with suppress(StoreUnavailable):  # the worker itself grows stale if this goes on
            kept = await self._wallet.transactions.run(payments.note_live, self._payment, tokens)
            self._lost = self._lost or not kept

    def end(self) -> None:
        """Say that the call has ended: from here on the settlement decides what goes out."""
        self._running = False
