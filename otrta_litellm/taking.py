"""A payment being taken: certain, or with its swap under way while its call runs already."""

from collections.abc import Awaitable, Callable

import anyio

from otrta_core import OtrtaError
from otrta_litellm.asgi import Message, Send
from otrta_litellm.payments import Payment


class PaymentLost(ConnectionError):
    """Nothing of the answer goes out: LiteLLM takes that for a caller who hung up."""


class Taking:
    """A payment, and what is known of its redemption.

    Attributes:
        payment: as it was when it was read last.
    """

    def __init__(self, payment: Payment, redeemed: Callable[[], Awaitable[Payment]] | None = None) -> None:
        """Begin with a payment.

        Args:
            payment: redeemed, or with its swap queued.
            redeemed: waits for that swap and returns the redeemed payment, or raises the refusal; None where
                the payment is redeemed.
        """
        self.payment = payment
        self._redeemed = redeemed
        self._refusal: OtrtaError | None = None
        self._lock = anyio.Lock()

    @property
    def is_certain(self) -> bool:
        """Whether the payment is redeemed."""
        return self._redeemed is None and self._refusal is None

    async def certain(self) -> Payment:
        """Return the redeemed payment, as soon as it is.

        Raises:
            OtrtaError: the refusal; it stays the same.
        """
        if self.is_certain:
            return self.payment
        async with self._lock:
            if self._redeemed is not None:
                try:
                    self.payment = await self._redeemed()
                except OtrtaError as error:
                    self._refusal = error
                self._redeemed = None
        if self._refusal is not None:
            raise self._refusal
        return self.payment

    async def watch(self, call: anyio.CancelScope) -> None:
        """Cancel a call whose payment is lost."""
        try:
            await self.certain()
        except OtrtaError:
            call.cancel()

    def guarded(self, send: Send) -> Send:
        """Return ``send`` so that nothing goes out before the payment is certain.

        What it returns raises PaymentLost where it is not to be.
        """
        if self.is_certain:
            return send

        async def send_when_certain(message: Message) -> None:
            try:
                await self.certain()
            except OtrtaError:
                raise PaymentLost from None
            await send(message)

        return send_when_certain
