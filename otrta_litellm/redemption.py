"""From a token that was accepted to a payment that is certain."""

import anyio
from sqlalchemy import Connection

from otrta_core import OtrtaError, Unit
from otrta_litellm import payments
from otrta_litellm.acceptance import Acceptance
from otrta_litellm.change_float import ChangeFloat
from otrta_litellm.payments import AlreadyTaken, Offer, Payment
from otrta_litellm.refusals import as_refusal, journalled, mint_away, pending
from otrta_litellm.swap_queue import SwapQueue
from otrta_litellm.terms import Terms
from otrta_wallet import MintUnreachable, Operation, OutcomeUnknown, Wallet
from otrta_wallet.wallet import Incoming

REDEEM_WITHIN_S = 30.0
"""How long a caller waits for a swap; recovery ends one that takes longer."""


class Redemption:
    """Takes payments for calls.

    ``running`` holds the ids of payments whose calls this process runs, and ``change_float`` what they count
    on; who takes a payment takes its id out of both again when the call has been settled.
    """

    def __init__(
        self,
        wallet: Wallet,
        acceptance: Acceptance,
        queue: SwapQueue,
        change_float: ChangeFloat,
        running: set[str],
    ) -> None:
        self._wallet = wallet
        self._acceptance = acceptance
        self._queue = queue
        self._float = change_float
        self._running = running

    async def take(self, terms: Terms, incoming: Incoming) -> Payment:
        """Claim the proofs, redeem them at the mint, and return the redeemed payment.

        Raises:
            GateError, OtrtaError: the refusal. The token is untouched, but for the 503 that says that it
                is journalled: it is then claimable once recovery has ended its swap.

        Cancelled, the payment stays journalled, and its swap goes on; recovery settles it.
        """
        payment, operation = await self._claim(terms, incoming)
        try:
            ticket = self._queue.put(operation)
            with anyio.fail_after(REDEEM_WITHIN_S):
                await ticket.wait()
            return await self._wallet.transactions.run(lambda conn, _now: payments.load(conn, payment.id))
        except BaseException as error:
            self._running.discard(payment.id)
            self._float.let_go(payment.id)
            if isinstance(error, MintUnreachable):
                raise mint_away() from None
            if isinstance(error, OutcomeUnknown | TimeoutError):
                raise journalled() from None
            if isinstance(error, OtrtaError):
                taken = await self._acceptance.taken_before(incoming.token)
                raise (error if taken is None else self._acceptance.refuse_taken(taken)) from None
            raise

    async def _claim(self, terms: Terms, incoming: Incoming) -> tuple[Payment, Operation]:
        """Write the payment with its claims and its swap, in one transaction; no byte has left then."""
        unit = Unit.parse(incoming.token.unit)
        offer = Offer(
            incoming.token,
            unit.to_msat(incoming.token.amount),
            unit.to_msat(incoming.fee),
            terms.path,
            terms.call,
            terms.price,
        )

        def claim(conn: Connection, now: float) -> tuple[Payment, Operation]:
            payment = payments.receive(conn, now, offer)
            operation = self._wallet.queue_receive(conn, now, incoming, payment.id)
            payments.begin_redeeming(conn, now, payment.id)
            return payment, operation

        try:
            await self._wallet.check_dleq(incoming)
            payment, operation = await self._wallet.transactions.run(claim)
        except AlreadyTaken:
            taken = await self._acceptance.taken_before(incoming.token)
            raise (pending() if taken is None else self._acceptance.refuse_taken(taken)) from None
        except OtrtaError as error:
            raise as_refusal(error) from None
        # before its swap can begin: recovery leaves running calls alone
        self._running.add(payment.id)
        self._float.count_on(payment.id, incoming.token.mint, incoming.token.unit, incoming.net)
        return payment, operation
