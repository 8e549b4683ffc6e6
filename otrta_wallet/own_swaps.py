"""Swaps of our own proofs, one at a time at each mint and unit: what one reserves comes back with it."""

from collections import defaultdict
from collections.abc import Callable, Sequence

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
            operation = plan(conn, now, chosen, input_fee(chosen, fees))
            store.move_proofs(
                conn,
                [p.Y for p in chosen],
                was=ProofStatus.AVAILABLE,
                now_is=ProofStatus.RESERVED,
                holder=operation.id,
                now=now,
            )
            return operation

        async with self._locks[mint, unit]:
            patience = backing_off(WAITS_FOR_OTHERS_S)
            while isinstance(begun := await self._db.run(prepare), int):
                if not await patience():
                    raise _too_little(mint, amount, unit, begun)
            return await self._executor.carry_out(begun)


def _too_little(mint: str, amount: int, unit: str, available: int) -> NotEnoughFunds:
    return NotEnoughFunds(f"{amount} {unit} were wanted at {mint}, and {available} {unit} can be spent there")
