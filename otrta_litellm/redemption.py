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
from otrta_litellm.refusals import as_refusal, journalled, lock_not_accepted, mint_away, pending
from otrta_litellm.risk import Risk
from otrta_litellm.swap_queue import SwapQueue, Ticket
from otrta_litellm.taking import Taking
from otrta_litellm.terms import Terms
from otrta_litellm.way import CHANGE
from otrta_wallet import MintError, MintUnreachable, Operation, OutcomeUnknown, Wallet
from otrta_wallet.incoming import refuse_early
from otrta_wallet.wallet import Incoming

REDEEM_WITHIN_S = 30.0
"""How long a caller waits for a swap; recovery ends one that takes longer."""

CHECK_WITHIN_S = 10.0
"""How long a caller waits for the mint's word that a token is unspent."""

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
        risk: Risk | None = None,
    ) -> None:
        """Make a till for tokens.

        Args:
            wallet: the gateway's.
            acceptance: knows what was taken before.
            locks: sees to locked tokens.
            queue: swaps the others.
            change_float: what running calls count on.
            running: the ids of payments whose calls this process runs.
            risk: of calls that run before their payment is certain; None to let none.
        """
        self._wallet = wallet
        self._risk = risk
        self._acceptance = acceptance
        self._locks = locks
        self._queue = queue
        self._float = change_float
        self._running = running

    async def take(self, terms: Terms, tender: Tender) -> Taking:
        """Claim the proofs and redeem them at the mint.

        What is locked to us is redeemed once its proofs are claimed: its swap goes on in the background.
        Where that may be risked, the payment comes back with its swap under way.

        Raises:
            GateError, OtrtaError: the refusal. The token is untouched, but for the 503 that says that it
                is journalled: it is then claimable once recovery has ended its swap.

        Cancelled, the payment stays journalled, and its swap goes on; recovery settles it.
        """
        incoming = tender.incoming
        offer = _offer(incoming, terms.path, terms.call, terms.price)
        if tender.locked:
            return Taking(await self._claim_locked(offer, tender))
        worth_msat = offer.paid_msat - offer.fee_msat
        if self._risk is not None and self._risk.take(worth_msat, anyio.current_time()):
            return await self._take_with_call(offer, incoming, worth_msat, self._risk)
        payment, operation = await self._claim(offer, incoming)
        return await self._wait(payment, operation, incoming)

    async def _wait(self, payment: Payment, operation: Operation, incoming: Incoming) -> Taking:
        try:
            return Taking(await self._swapped(payment, self._queue.put(operation), incoming))
        except BaseException:
            self._forget(payment)
            raise

    async def _take_with_call(self, offer: Offer, incoming: Incoming, worth_msat: int, risk: Risk) -> Taking:
        """Look whether the mint holds the token for unspent, and let its swap begin."""
        try:
            await self._wallet.check_dleq(incoming)
            await self._refuse_spent(incoming)
            payment, operation, risked = await self._claim_at_risk(offer, incoming, worth_msat, risk)
        except BaseException:
            risk.won(worth_msat, anyio.current_time())  # nothing was risked
            raise
        if not risked:
            risk.won(worth_msat, anyio.current_time())
            return await self._wait(payment, operation, incoming)
        ticket = self._queue.put(operation)
        until = anyio.current_time() + REDEEM_WITHIN_S

        async def redeemed() -> Payment:
            try:
                within_s = max(0.0, until - anyio.current_time())
                payment_now = await self._swapped(payment, ticket, incoming, within_s)
            except OtrtaError:
                risk.lost(worth_msat, anyio.current_time())
                raise
            risk.won(worth_msat, anyio.current_time())
            return payment_now

        return Taking(payment, redeemed)

    async def _refuse_spent(self, incoming: Incoming) -> None:
        ys = [proof.Y for proof in incoming.token.proofs]
        try:
            with anyio.fail_after(CHECK_WITHIN_S):
                refuse_early(await self._wallet.mints.client(incoming.token.mint).check_state(ys))
        except (MintError, TimeoutError):
            raise mint_away() from None

    async def give_back(self, incoming: Incoming) -> Payment:
        """Redeem a token for nothing, and return its settled payment: all but the input fee is change.

        Raises:
            as ``take``.
        """
        offer = _offer(incoming, CHANGE, _NO_CALL, ModelPrice())
        payment, operation = await self._claim(offer, incoming, opens_locks=True)
        try:
            payment = await self._swapped(payment, self._queue.put(operation), incoming)
            paid, fee = payment.paid_msat, payment.fee_msat
            settled = Settlement(paid, fee, charged=0, change=paid - fee)
            return await change.settle(self._wallet, payment, settled, "given_back", self._float)
        finally:
            self._forget(payment)

    async def _claim(
        self, offer: Offer, incoming: Incoming, *, opens_locks: bool = False
    ) -> tuple[Payment, Operation]:
        """Write the payment with its claims and its swap, in one transaction; no byte has left then."""

        def journal(conn: Connection, now: float, payment: Payment) -> Operation:
            if opens_locks:
                payments.note_opened_locks(conn, [proof.Y for proof in incoming.token.proofs])
            operation = self._wallet.queue_receive(conn, now, incoming, payment.id)
            payments.begin_redeeming(conn, now, payment.id)
            return operation

        return await self._write(offer, incoming, journal)

    async def _claim_at_risk(
        self, offer: Offer, incoming: Incoming, worth_msat: int, risk: Risk
    ) -> tuple[Payment, Operation, bool]:
        """As ``_claim``, and put the payment at risk, if it is not too much with what other workers risk."""
        risked = False

        def journal(conn: Connection, now: float, payment: Payment) -> Operation:
            nonlocal risked
            operation = self._wallet.queue_receive(conn, now, incoming, payment.id)
            payments.begin_redeeming(conn, now, payment.id)
            risked = risk.risked_by_all(conn, now, payment.id, worth_msat)
            return operation

        payment, operation = await self._write(offer, incoming, journal)
        return payment, operation, risked

    async def _claim_locked(self, offer: Offer, tender: Tender) -> Payment:
        """Write the payment with its claims as redeemed, and have it swapped in the background."""
        incoming = tender.incoming
        if any(proof.dleq is None for proof in incoming.token.proofs):
            raise DleqInvalid("each proof of a locked token needs its DLEQ (NUT-12): the token is untouched")

        def journal(conn: Connection, now: float, payment: Payment) -> Operation:
            if payments.any_lock_opened(conn, [proof.Y for proof in incoming.token.proofs]):
                raise lock_not_accepted("this token was to be given back: fetch it from /v1/cashu/change")
            self._locks.check_room(conn, now, incoming)
            due_at = tender.due_at(now)
            operation = self._wallet.queue_receive(
                conn, now, incoming, payment.id, offline=True, due_at=due_at
            )
            payments.claim_locked(conn, now, payment.id)
            return operation

        payment, operation = await self._write(offer, incoming, journal)
        self._locks.redeem(payment.id, operation)
        return payment

    async def _write(self, offer: Offer, incoming: Incoming, journal: Journal) -> tuple[Payment, Operation]:
        payment_id = payments.new_id()
        self._running.add(payment_id)  # before its row is there: recovery leaves running calls alone

        def write(conn: Connection, now: float) -> tuple[Payment, Operation]:
            payment = payments.receive(conn, now, offer, payment_id)
            operation = journal(conn, now, payment)
            return payments.load(conn, payment.id), operation

        try:
            await self._wallet.check_dleq(incoming)
            payment, operation = await self._wallet.transactions.run(write)
        except BaseException as error:
            self._running.discard(payment_id)
            if isinstance(error, AlreadyTaken):
                taken = await self._acceptance.taken_before(incoming.token)
                raise (pending() if taken is None else self._acceptance.refuse_taken(taken)) from None
            if isinstance(error, OtrtaError):
                raise as_refusal(error) from None
            raise
        self._float.count_on(payment.id, incoming.token.mint, incoming.token.unit, incoming.net)
        return payment, operation

    async def _swapped(
        self, payment: Payment, ticket: Ticket, incoming: Incoming, within_s: float | None = None
    ) -> Payment:
        try:
            with anyio.fail_after(REDEEM_WITHIN_S if within_s is None else within_s):
                await ticket.wait()
            return await self._wallet.transactions.run(lambda conn, _now: payments.load(conn, payment.id))
        except MintUnreachable:
            raise mint_away() from None
        except (OutcomeUnknown, TimeoutError):
            raise journalled() from None
        except OtrtaError as error:
            taken = await self._acceptance.taken_before(incoming.token)
            raise (error if taken is None else self._acceptance.refuse_taken(taken)) from None

    def _forget(self, payment: Payment) -> None:
        self._running.discard(payment.id)
        self._float.let_go(payment.id)


def _offer(incoming: Incoming, path: str, call: CallRequest, price: ModelPrice) -> Offer:
    unit = Unit.parse(incoming.token.unit)
    paid, fee = unit.to_msat(incoming.token.amount), unit.to_msat(incoming.fee)
    return Offer(incoming.token, paid, fee, path, call, price)
