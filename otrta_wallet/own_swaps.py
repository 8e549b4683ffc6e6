"""Swaps of our own proofs, one at a time at each mint and unit: what one reserves comes back with it."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import anyio
from sqlalchemy import Connection

from otrta_core import Proof, input_fee, select_proofs
from otrta_wallet import at_hand, journal, store
from otrta_wallet.errors import NotEnoughFunds
from otrta_wallet.executor import Executor
from otrta_wallet.records import Operation
from otrta_wallet.schema import ProofStatus
from otrta_wallet.transactions import Transactions
from otrta_wallet.waiting import WAITS_FOR_OTHERS_S, backing_off

Plan = Callable[[Connection, float, Sequence[Proof], int], Operation]
"""Journals a swap of chosen proofs, with its outputs; the last argument is their input fee."""


Choose = Callable[[Sequence[Proof], Mapping[str, int]], Sequence[Proof] | None]
"""Chooses among proofs, given the input fees in ppk by keyset id."""


class OwnSwaps:
    """Chooses available proofs, reserves them, and has them swapped."""

    def __init__(self, transactions: Transactions, executor: Executor) -> None:
        self._db = transactions
        self._executor = executor
        self._locks: dict[tuple[str, str], anyio.Lock] = defaultdict(anyio.Lock)

    async def carry_out(self, mint: str, amount: int, unit: str, plan: Plan) -> Operation:
        """Swap proofs that make at least ``amount`` after their input fee.

        Raises:
            NotEnoughFunds: too little is available.
            the errors of ``Executor.carry_out``.
        """

        def prepare(conn: Connection, now: float) -> Operation | int:
            coming = journal.coming_from_others(conn, mint, unit)
            fees = at_hand.fees(conn, mint)

            def pick(usable: Sequence[Proof]) -> Sequence[Proof] | None:
                return select_proofs(usable, amount, fee=lambda ps: input_fee(ps, fees), max_proofs=1000)

            chosen = at_hand.take(conn, mint, unit, pick)
            if chosen is None:
                available = at_hand.worth(conn, mint, unit)
                if coming:
                    return available
                raise _too_little(mint, amount, unit, available)
            return _reserve(conn, now, chosen, plan, fees)

        async with self._locks[mint, unit]:
            patience = backing_off(WAITS_FOR_OTHERS_S)
            while isinstance(begun := await self._db.run(prepare), int):
                if not await patience():
                    raise _too_little(mint, amount, unit, begun)
            return await self._executor.carry_out(begun)

    async def move(
        self, mint: str, unit: str, keyset_ids: frozenset[str], choose: Choose, plan: Plan
    ) -> Operation | None:
        """Swap what ``choose`` takes of the available proofs of some keysets; None where it takes nothing.

        Raises:
            the errors of ``Executor.carry_out``.
        """

        def prepare(conn: Connection, now: float) -> Operation | None:
            fees = at_hand.fees(conn, mint)
            chosen = at_hand.take(conn, mint, unit, lambda ps: choose(ps, fees), only_keysets=keyset_ids)
            return None if chosen is None else _reserve(conn, now, chosen, plan, fees)

        async with self._locks[mint, unit]:
            begun = await self._db.run(prepare)
            return None if begun is None else await self._executor.carry_out(begun)


def _reserve(
    conn: Connection, now: float, chosen: Sequence[Proof], plan: Plan, fees: Mapping[str, int]
) -> Operation:
    operation = plan(conn, now, chosen, input_fee(chosen, fees))
    ys = [proof.Y for proof in chosen]
    was, now_is = ProofStatus.AVAILABLE, ProofStatus.RESERVED
    store.move_proofs(conn, ys, was=was, now_is=now_is, holder=operation.id, now=now)
    return operation


def _too_little(mint: str, amount: int, unit: str, available: int) -> NotEnoughFunds:
    return NotEnoughFunds(f"{amount} {unit} were wanted at {mint}, and {available} {unit} can be spent there")
