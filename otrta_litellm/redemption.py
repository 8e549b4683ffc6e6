"""From a token that was accepted to a payment that is certain."""

from collections.abc import Callable

import anyio
from sqlalchemy import Connection

from otrta_core import CallRequest, DleqInvalid, ModelPrice, OtrtaError, Settlement, Unit
from otrta_litellm import change, payments
from otrta_litellm.acceptance import Acceptance
from otrta_litellm.change_float import ChangeFloat
from otrta_litellm.lock_desk import LockDesk, Tender
from otrta_litellm.payments import AlreadyTaken, Offer, Payment
from otrta_litellm.refusals import as_refusal, journalled, mint_away, pending
from otrta_litellm.swap_queue import SwapQueue
from otrta_litellm.terms import Terms
from otrta_litellm.way import CHANGE
from otrta_wallet import MintUnreachable, Operation, OutcomeUnknown, Wallet
from otrta_wallet.wallet import Incoming

REDEEM_WITHIN_S = 30.0
"""How long a caller waits for a swap; recovery ends one that takes longer."""

Journal = Callable[[Connection, float, Payment], Operation]
_NO_CALL = CallRequest(kind="chat", model="", prompt_tokens=0)


class Redemption:
    """Takes payments for calls.

    ``running`` holds the ids of payments whose calls this process runs, and ``change_float`` what they count
    on; who takes a payment takes its id out of both again when the call has been settled.
    """

    def __init__(
        self,
        wallet: Wallet,
        acceptance: Acceptance,
        locks: LockDesk,
        queue: SwapQueue,
        change_float: ChangeFloat,
        running: set[str],
    ) -> None:
        self._wallet = wallet
        self._acceptance = acceptance
        self._locks = locks
        self._queue = queue
        self._float = change_float
        self._running = running

    async def take(self, terms: Terms, tender: Tender) -> Payment:
        """Claim the proofs, redeem them at the mint, and return the redeemed payment.

        What is locked to us is redeemed once its proofs are claimed: its swap goes on in the background.

        Raises:
            GateError, OtrtaError: the refusal. The token is untouched, but for the 503 that says that it
                is journalled: it is then claimable once recovery has ended its swap.

        Cancelled, the payment stays journalled, and its swap goes on; recovery settles it.
        """
        incoming = tender.incoming
        offer = _offer(incoming, terms.path, terms.call, terms.price)
        if tender.locked:
            return await self._claim_locked(offer, incoming)
        payment, operation = await self._claim(offer, incoming)
        return await self._swapped(payment, operation, incoming)

    async def give_back(self, incoming: Incoming) -> Payment:
        """Redeem a token for nothing, and return its settled payment: all but the input fee is change.

        Raises:
            as ``take``.
        """
        payment, operation = await self._claim(_offer(incoming, CHANGE, _NO_CALL, ModelPrice()), incoming)
        try:
            payment = await self._swapped(payment, operation, incoming)
            paid, fee = payment.paid_msat, payment.fee_msat
            settled = Settlement(paid, fee, charged=0, change=paid - fee)
            return await change.settle(self._wallet, payment, settled, "given_back", self._float)
        finally:
            self._running.discard(payment.id)
            self._float.let_go(payment.id)

    async def _claim(self, offer: Offer, incoming: Incoming) -> tuple[Payment, Operation]:
        """Write the payment with its claims and its swap, in one transaction; no byte has left then."""

        def journal(conn: Connection, now: float, payment: Payment) -> Operation:
            operation = self._wallet.queue_receive(conn, now, incoming, payment.id)
            payments.begin_redeeming(conn, now, payment.id)
            return operation

        return await self._write(offer, incoming, journal)

    async def _claim_locked(self, offer: Offer, incoming: Incoming) -> Payment:
        """Write the payment with its claims as redeemed, and have it swapped in the background."""
        if any(proof.dleq is None for proof in incoming.token.proofs):
            raise DleqInvalid("each proof of a locked token needs its DLEQ (NUT-12): the token is untouched")

        def journal(conn: Connection, now: float, payment: Payment) -> Operation:
            self._locks.check_room(conn, now, incoming)
            operation = self._wallet.queue_receive(conn, now, incoming, payment.id, offline=True)
            payments.claim_locked(conn, now, payment.id)
            return operation

        payment, operation = await self._write(offer, incoming, journal)
        self._locks.redeem(payment.id, operation)
        return payment

    async def _write(self, offer: Offer, incoming: Incoming, journal: Journal) -> tuple[Payment, Operation]:
        def write(conn: Connection, now: float) -> tuple[Payment, Operation]:
            payment = payments.receive(conn, now, offer)
            operation = journal(conn, now, payment)
            return payments.load(conn, payment.id), operation

        try:
            await self._wallet.check_dleq(incoming)
            payment, operation = await self._wallet.transactions.run(write)
        except AlreadyTaken:
            taken = await self._acceptance.taken_before(incoming.token)
            raise (pending() if taken is None else self._acceptance.refuse_taken(taken)) from None
        except OtrtaError as error:
            raise as_refusal(error) from None
        # before its swap can begin: recovery leaves running calls alone
        self._running.add(payment.id)
        self._float.count_on(payment.id, incoming.token.mint, incoming.token.unit, incoming.net)
        return payment, operation

    async def _swapped(self, payment: Payment, operation: Operation, incoming: Incoming) -> Payment:
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


def _offer(incoming: Incoming, path: str, call: CallRequest, price: ModelPrice) -> Offer:
    unit = Unit.parse(incoming.token.unit)
    paid, fee = unit.to_msat(incoming.token.amount), unit.to_msat(incoming.fee)
    return Offer(incoming.token, paid, fee, path, call, price)
