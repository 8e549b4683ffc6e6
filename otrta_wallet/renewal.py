"""New outputs for an operation whose planned ones the mint will never sign."""

from collections.abc import Sequence

from sqlalchemy import Connection

from otrta_core import Keyset
from otrta_wallet import journal, store
from otrta_wallet.errors import OutcomeUnknown
from otrta_wallet.mint_book import MintBook
from otrta_wallet.outputs import given_secrets
from otrta_wallet.records import Operation, Output
from otrta_wallet.scanning import BATCH, signed_in_batch
from otrta_wallet.transactions import Transactions

EMPTY_BATCHES = 3
MAX_BATCHES = 300


def _skip(conn: Connection, _now: float, keyset_id: str, free: int) -> None:
    store.skip_counters(conn, keyset_id, free)


class Renewal:
    """Plans the outputs of prepared operations anew."""

    def __init__(self, transactions: Transactions, mints: MintBook, seed: bytes) -> None:
        self._db = transactions
        self._mints = mints
        self._seed = seed

    async def on_active_keyset(
        self, operation: Operation, planned: Sequence[Output], *, replan: bool
    ) -> Sequence[Output] | None:
        """Plan the same amounts on the active keyset, where the mint has retired the planned one.

        Refusals are told from one another by the mint's own list of keysets, since mints differ in the
        error codes they give.

        Args:
            operation: prepared, refused, its inputs unspent.
            planned: its outputs.
            replan: whether to plan anew; where not, only the list of keysets is brought up to date.

        Returns:
            The new outputs, or None where the keyset is not the reason.

        Raises:
            MintError, KeysetError: the mint's keysets could not be had.
        """
        await self._mints.refresh_if_old(operation.mint)
        used = planned[0].keyset_id
        if not replan or self._mints.keysets(operation.mint)[used].active:
            return None
        keyset = await self._mints.active_keyset(operation.mint, operation.unit)
        if any(output.amount and output.amount not in keyset.keys for output in planned):
            return None
        return await self._planned_anew(operation, planned, keyset)

    async def past_used_counters(self, operation: Operation, planned: Sequence[Output]) -> Sequence[Output]:
        """Move the counter behind all that the mint has signed before, and plan anew (NUT-09, NUT-13).

        A wallet that was put back from a copy of its database counts from where the copy was made: the
        mint knows the outputs of these counters.

        Raises:
            OutcomeUnknown: there are more of them than are looked through at once; trying again goes on.
            MintError: the mint could not be asked.
        """
        keyset = self._mints.keysets(operation.mint)[planned[0].keyset_id]
        taken = [output.counter for output in planned if output.counter is not None]
        at, empty, batches = max(taken, default=-1) + 1, 0, 0
        while empty < EMPTY_BATCHES and batches < MAX_BATCHES:
            client = self._mints.client(operation.mint)
            signed = await signed_in_batch(client, self._seed, keyset, at)
            empty = 0 if signed else empty + 1
            at, batches = at + BATCH, batches + 1
            if signed:
                await self._db.run(_skip, keyset.id, at)
        if empty < EMPTY_BATCHES:
            raise OutcomeUnknown("the wallet's counters are far behind: try again to go on", operation.id)
        return await self._planned_anew(operation, planned, keyset)

    async def _planned_anew(
        self, operation: Operation, planned: Sequence[Output], keyset: Keyset
    ) -> Sequence[Output]:
        amounts = [(output.amount, output.holder) for output in planned if output.counter is not None]
        given = given_secrets(planned)

        def plan(conn: Connection, _now: float) -> list[Output]:
            if not journal.hold(conn, operation.id):
                raise OutcomeUnknown("the operation was closed or taken over meanwhile", operation.id)
            return journal.plan_outputs(conn, self._seed, operation.id, keyset, amounts, given)

        return await self._db.run(plan)
