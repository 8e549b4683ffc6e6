"""Many tokens taken by one swap: a mint takes one swap of eight tokens sooner than eight swaps of one.

Each token keeps an operation of its own, with its own amount, fee and reference. A batch is a further
operation that spends the inputs of all::

    waiting ──▶ joined ──the batch is done──▶ done
     │ ▲          │
     │ └dissolved─┼──a proof of it is spent──▶ failed
     └──alone──▶ prepared ──▶ …

What an operation's amount and fee add up to is what its inputs are worth. A batch has no inputs that are
not another operation's: its amount is what sharing a swap saves of the fees, each rounded up by itself, and
its fee is minus that. So the sums over all operations hold with a batch as without.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import anyio
from sqlalchemy import Connection

from otrta_core import Keyset, OtrtaError, input_fee
from otrta_wallet import at_hand, closing, journal
from otrta_wallet.closing import Failure
from otrta_wallet.decisions import Verdict
from otrta_wallet.errors import MintUnreachable, OutcomeUnknown, TokenSpent
from otrta_wallet.executor import Executor
from otrta_wallet.mint_book import MintBook
from otrta_wallet.reach import plan_for_token
from otrta_wallet.records import Operation, new_operation
from otrta_wallet.stock import parts_of
from otrta_wallet.transactions import Transactions

MAX_TOKENS = 8
"""Larger batches are hardly faster for each token, and each token waits longer."""
MAX_INPUTS = 500
"""Of one swap; mints take no more than 1,000."""

Ended = Operation | OtrtaError
Wanted = Callable[[], Mapping[int, int]] | None
"""Says how many proofs of each denomination there should be after a swap (``otrta_wallet.stock``).

It is asked in a thread, in the transaction that plans the swap."""


class Batches:
    """Carries out operations that wait, together where there are several."""

    def __init__(self, transactions: Transactions, mints: MintBook, seed: bytes, executor: Executor) -> None:
        self._db = transactions
        self._mints = mints
        self._seed = seed
        self._executor = executor
        self._turns: dict[tuple[str, str], anyio.Lock] = defaultdict(anyio.Lock)

    async def carry_out(
        self,
        waiting: Sequence[Operation],
        *,
        recovering: bool = False,
        wanted: Wanted = None,
    ) -> list[Ended]:
        """Take tokens that are journalled as waiting, in the fewest swaps; one after the other at a mint.

        A batch that its mint refuses is dissolved: tokens with a spent proof have failed, and each of the
        others is posted alone, with outputs of its own.

        Args:
            waiting: of any mints and units.
            recovering: whether whoever gave the tokens was told that they are journalled.
            wanted: how many proofs of each denomination there should be afterwards (``otrta_wallet.stock``).

        Returns:
            For each how it ended, or the error as of ``Executor.carry_out``, in the same order.
        """
        places: dict[tuple[str, str], list[Operation]] = defaultdict(list)
        for operation in waiting:
            places[operation.mint, operation.unit].append(operation)
        ended: dict[str, Ended] = {}

        async def at(place: tuple[str, str], operations: Sequence[Operation]) -> None:
            async with self._turns[place]:
                try:
                    for group in grouped(await self._db.run(_sized, operations)):
                        ended.update(await self._carry_out_group(group, recovering, wanted))
                except OtrtaError as error:  # such as a database that was lost
                    for operation in operations:
                        ended.setdefault(operation.id, error)

        async with anyio.create_task_group() as tasks:
            for place, operations in places.items():
                tasks.start_soon(at, place, operations)
        return [ended[operation.id] for operation in waiting]

    async def _carry_out_group(
        self, group: Sequence[Operation], recovering: bool, wanted: Wanted
    ) -> dict[str, Ended]:
        now_are = await self._db.run(_load_all, group)
        waiting = [operation for operation in now_are if operation.state == "waiting"]
        trouble: OtrtaError | None = None
        if len(waiting) > 1:
            trouble = await self._carry_out_together(waiting, recovering, wanted)
            now_are = await self._db.run(_load_all, group)
        return {op.id: await self._end(op, trouble, recovering, wanted) for op in now_are}

    async def _carry_out_together(
        self, waiting: Sequence[Operation], recovering: bool, wanted: Wanted
    ) -> OtrtaError | None:
        """Post one swap for all; returns the reason where no byte of it has left."""
        try:
            keyset = await self._mints.active_keyset(waiting[0].mint, waiting[0].unit)
        except OtrtaError as error:
            return _nothing_sent(error)
        batch = await self._db.run(self._join, waiting, keyset, wanted)
        if batch is None:
            return None
        try:
            await self._executor.carry_out(batch, ambiguous=recovering)
        except MintUnreachable as error:
            return error
        except OtrtaError:
            return None  # what became of each is in its row
        return None

    def _join(
        self,
        conn: Connection,
        now: float,
        found: Sequence[Operation],
        keyset: Keyset,
        wanted: Wanted,
    ) -> Operation | None:
        """Journal a batch of what still waits; None where that are too few."""
        waiting = [
            op for op in found if journal.set_state(conn, op.id, was="waiting", now_is="joined", now=now)
        ]
        if len(waiting) < 2:
            for operation in waiting:
                journal.set_state(conn, operation.id, was="joined", now_is="waiting", now=now)
            return None
        of_each = journal.inputs(conn, [operation.id for operation in waiting])
        inputs = [proof for proofs in of_each.values() for proof in proofs]
        fee = input_fee(inputs, at_hand.fees(conn, waiting[0].mint))
        saved = sum(operation.fee for operation in waiting) - fee
        batch = new_operation("batch", waiting[0].mint, waiting[0].unit, saved, -saved, now)
        net = sum(operation.amount for operation in waiting) + saved
        amounts = parts_of(conn, batch.mint, batch.unit, keyset.keys, net, wanted and wanted())
        journal.create(conn, batch, inputs)
        journal.note_members(conn, batch.id, [operation.id for operation in waiting])
        plan_for_token(conn, self._seed, batch.id, keyset, [(amount, None) for amount in amounts])
        return batch

    async def _end(
        self,
        operation: Operation,
        trouble: OtrtaError | None,
        recovering: bool,
        wanted: Wanted,
    ) -> Ended:
        match operation.state:
            case "done":
                return operation
            case "failed":
                return TokenSpent(operation.error or "the token has been spent already")
            case "joined":
                return _not_known(operation)
        if operation.state == "waiting" and trouble is None:
            trouble = await self._set_out_alone(operation, wanted)
        if trouble is not None:
            if recovering:  # its giver was told that it is journalled: it waits on
                return _not_known(operation)
            await self._db.run(self._refuse, operation, trouble)
            return trouble
        try:
            return await self._executor.carry_out(operation, ambiguous=recovering)
        except OtrtaError as error:
            return error

    async def _set_out_alone(self, operation: Operation, wanted: Wanted) -> OtrtaError | None:
        """Plan a swap for one token; returns why that cannot be."""
        try:
            keyset = await self._mints.active_keyset(operation.mint, operation.unit)
        except OtrtaError as error:
            return _nothing_sent(error)

        def plan(conn: Connection, now: float) -> None:
            if journal.set_state(conn, operation.id, was="waiting", now_is="prepared", now=now):
                place = operation.mint, operation.unit
                amounts = parts_of(conn, *place, keyset.keys, operation.amount, wanted and wanted())
                planned = [(amount, None) for amount in amounts]
                plan_for_token(conn, self._seed, operation.id, keyset, planned)

        await self._db.run(plan)
        return None

    def _refuse(self, conn: Connection, now: float, operation: Operation, reason: OtrtaError) -> None:
        failure = Failure(Verdict.FAIL_REFUSED, reason.message, {})
        closing.fail(conn, operation, failure, self._executor.participants, now)


def grouped(sized: Iterable[tuple[Operation, int]]) -> list[list[Operation]]:
    """Divide operations, each with the number of its inputs, into groups that fit one swap, in order."""
    groups: list[list[Operation]] = []
    room = 0
    for operation, inputs in sized:
        if not groups or len(groups[-1]) == MAX_TOKENS or inputs > room:
            groups.append([])
            room = MAX_INPUTS
        groups[-1].append(operation)
        room -= inputs
    return groups


def _sized(conn: Connection, _now: float, operations: Sequence[Operation]) -> list[tuple[Operation, int]]:
    """Return each operation with the inputs that it adds to a swap; one that must be alone fills it."""
    ids = [operation.id for operation in operations]
    inputs, alone = journal.inputs(conn, ids), journal.in_batches(conn, ids)
    # who signs all inputs and outputs of a swap (NUT-11) shares it with nobody
    alone |= {each for each, proofs in inputs.items() if any("SIG_ALL" in proof.secret for proof in proofs)}
    return [(op, MAX_INPUTS if op.id in alone else len(inputs[op.id])) for op in operations]


def _nothing_sent(error: OtrtaError) -> OtrtaError:
    """Say of a mint whose keysets could not be had that nothing was sent, whatever became of the question."""
    return MintUnreachable(error.message) if isinstance(error, OutcomeUnknown) else error


def _not_known(operation: Operation) -> OutcomeUnknown:
    return OutcomeUnknown(
        "the mint's answer is not known yet: it is journalled and will be settled by recovery", operation.id
    )


def _load_all(conn: Connection, _now: float, operations: Sequence[Operation]) -> list[Operation]:
    return journal.load_many(conn, [operation.id for operation in operations])
