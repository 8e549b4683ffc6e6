"""From a token that was accepted to a payment that is certain."""

import anyio

from otrta_core import OtrtaError, Unit
from otrta_litellm import payments
from otrta_litellm.acceptance import Acceptance
from otrta_litellm.payments import AlreadyTaken, Offer, Payment
from otrta_litellm.refusals import as_refusal, journalled, mint_away, pending
from otrta_litellm.terms import Terms
from otrta_wallet import MintUnreachable, OutcomeUnknown, Wallet
from otrta_wallet.wallet import Incoming

REDEEM_WITHIN_S = 30.0
"""How long a caller waits for a swap; recovery ends one that takes longer."""


class Redemption:
    """Takes payments for calls.

    ``running`` holds the ids of payments whose calls this process runs; who takes a payment takes its id out
    of it again when the call has been settled.
    """

    def __init__(self, wallet: Wallet, acceptance: Acceptance, running: set[str]) -> None:
        self._wallet = wallet
        self._acceptance = acceptance
        self._running = running

    async def take(self, terms: Terms, incoming: Incoming) -> Payment:
        """Claim the proofs, redeem them at the mint, and return the redeemed payment.

        Raises:
            GateError, OtrtaError: the refusal. The token is untouched, but for the 503 that says that it
                is journalled: it is then claimable once recovery has ended its swap.

        Cancelled, the payment stays journalled; recovery ends it.
        """
        unit = Unit.parse(incoming.token.unit)
        offer = Offer(
            incoming.token,
            unit.to_msat(incoming.token.amount),
            unit.to_msat(incoming.fee),
            terms.path,
            terms.call,
            terms.price,
        )
        run = self._wallet.transactions.run
        try:
            payment = await run(payments.receive, offer)
        except AlreadyTaken:
            taken = await self._acceptance.taken_before(incoming.token)
            raise (pending() if taken is None else self._acceptance.refuse_taken(taken)) from None
        self._running.add(payment.id)  # before it can be redeemed: recovery leaves running calls alone
        try:
            return await self._redeem(payment, incoming)
        except BaseException:
            self._running.discard(payment.id)
            raise

    async def _redeem(self, payment: Payment, incoming: Incoming) -> Payment:
        run = self._wallet.transactions.run
        try:
            await self._wallet.check_dleq(incoming)
            operation = await self._wallet.prepare_receive(
                incoming,
                reference=payment.id,
                also=lambda conn, now, _operation: payments.begin_redeeming(conn, now, payment.id),
            )
        except OtrtaError as error:
            await run(payments.reject, payment.id)
            raise as_refusal(error) from None
        try:
            with anyio.fail_after(REDEEM_WITHIN_S):
                await self._wallet.carry_out(operation)
        except MintUnreachable:
            raise mint_away() from None
        except (OutcomeUnknown, TimeoutError):
            raise journalled() from None
        except OtrtaError as error:
            taken = await self._acceptance.taken_before(incoming.token)
            raise (error if taken is None else self._acceptance.refuse_taken(taken)) from None
        return await run(lambda conn, _now: payments.load(conn, payment.id))
