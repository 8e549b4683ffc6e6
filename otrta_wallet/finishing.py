"""Storing what the mint has signed: signatures become proofs, and the operation is done."""

from collections.abc import Sequence
from functools import partial

from anyio import to_thread
from sqlalchemy import Connection

from otrta_core import Proof, input_fee
from otrta_wallet import closing, journal
from otrta_wallet.closing import Payment
from otrta_wallet.errors import OutcomeUnknown
from otrta_wallet.melt_evidence import MeltEvidence, Signed
from otrta_wallet.mint_book import MintBook
from otrta_wallet.mint_client import BlindSignature
from otrta_wallet.outputs import make_change, make_proofs
from otrta_wallet.records import Operation, Output
from otrta_wallet.transactions import Transactions


class Finishing:
    """Ends operations that have happened. Whoever saw it happen may do so, once; a second time is nothing."""

    def __init__(
        self,
        transactions: Transactions,
        mints: MintBook,
        seed: bytes,
        participants: Sequence[journal.Participant],
    ) -> None:
        self._db = transactions
        self._mints = mints
        self._seed = seed
        self._participants = participants

    async def finish(
        self, operation: Operation, planned: Sequence[Output], signatures: Sequence[BlindSignature]
    ) -> Operation:
        """Store the proofs of all outputs, and return the operation as it ended.

        Raises:
            OutcomeUnknown: the signatures do not hold; nothing is stored.
        """
        keysets = self._mints.keysets(operation.mint)
        try:
            made = await to_thread.run_sync(make_proofs, self._seed, keysets, planned, signatures)
        except OutcomeUnknown as error:
            raise OutcomeUnknown(error.message, operation.id) from None
        return await self._store(operation, planned, made, None)

    async def finish_paid(
        self, operation: Operation, inputs: Sequence[Proof], evidence: MeltEvidence
    ) -> Operation:
        """Store the change of a payment that the mint says was made; more of it may come. As ``finish``."""
        fee = input_fee(inputs, self._mints.fee_ppk(operation.mint))
        payment = Payment(evidence.preimage, fee, change_is_all=False)
        return await self.finish_melt(operation, inputs, evidence.change, payment)

    async def finish_melt(
        self, operation: Operation, inputs: Sequence[Proof], signed: Signed, payment: Payment
    ) -> Operation:
        """Store the change of a payment. As ``finish``."""
        at_most = sum(p.amount for p in inputs) - operation.amount - payment.input_fee
        change, made = await self._make_change(operation, signed, at_most)
        return await self._store(operation, change, made, payment)

    async def add_late_change(self, operation: Operation, inputs: Sequence[Proof], signed: Signed) -> int:
        """Store change that came after the payment was done, and return what is new of it. As ``finish``."""
        at_most = operation.fee - input_fee(inputs, self._mints.fee_ppk(operation.mint))
        change, made = await self._make_change(operation, signed, at_most)
        return await self._db.run(
            lambda conn, now: closing.add_late_change(conn, operation, change, made, now)
        )

    async def _store(
        self,
        operation: Operation,
        planned: Sequence[Output],
        made: Sequence[Proof],
        payment: Payment | None,
    ) -> Operation:
        def finish(conn: Connection, now: float) -> Operation:
            closing.finish_late_too(conn, operation.id, planned, made, self._participants, now, payment)
            return journal.load(conn, operation.id)

        return await self._db.run(finish)

    async def _make_change(
        self, operation: Operation, signed: Signed, at_most: int
    ) -> tuple[list[Output], list[Proof]]:
        keysets = self._mints.keysets(operation.mint)
        make = partial(make_change, self._seed, keysets, signed, at_most=at_most)
        try:
            return await to_thread.run_sync(make)
        except OutcomeUnknown as error:
            raise OutcomeUnknown(error.message, operation.id) from None
