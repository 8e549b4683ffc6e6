"""Swaps of our own proofs, one at a time at each mint and unit: what one reserves comes back with it.

Proofs that their input fee would eat go along where the fee's rounding leaves room for them. Where very many
small proofs are needed, they are merged first, as many at a time as one swap takes.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import anyio
from sqlalchemy import Connection

from otrta_core import Keyset, Proof, input_fee, ride_along, select_proofs, split_for_change
from otrta_wallet import at_hand, journal, store
from otrta_wallet.at_hand import Taken
from otrta_wallet.batches import MAX_INPUTS
from otrta_wallet.errors import NotEnoughFunds
from otrta_wallet.executor import Executor
from otrta_wallet.mint_book import MintBook
from otrta_wallet.reach import out_of_reach
from otrta_wallet.records import Operation, new_operation
from otrta_wallet.schema import ProofStatus
from otrta_wallet.stock import a_portion, split_for_stock, to_break
from otrta_wallet.transactions import Transactions
from otrta_wallet.waiting import WAITS_FOR_OTHERS_S, backing_off

Plan = Callable[[Connection, float, Sequence[Proof], int], Operation]
"""Journals a swap of chosen proofs, with its outputs; the last argument is their input fee."""


RESTOCK = "restock"
"""The reference of swaps that make denominations that are short."""


class OwnSwaps:
    """Chooses available proofs, reserves them, and has them swapped."""

    def __init__(self, transactions: Transactions, mints: MintBook, seed: bytes, executor: Executor) -> None:
        self._db = transactions
        self._mints = mints
        self._seed = seed
        self._executor = executor
        self._locks: dict[tuple[str, str], anyio.Lock] = defaultdict(anyio.Lock)

    async def carry_out(self, mint: str, amount: int, unit: str, plan: Plan) -> Operation:
        """Swap proofs that make at least ``amount`` after their input fee.

        Raises:
            NotEnoughFunds: too little is available.
            the errors of ``Executor.carry_out``.
        """
        keyset = await self._mints.active_keyset(mint, unit)

        def prepare(conn: Connection, now: float) -> tuple[Operation, bool] | int:
            """Return a swap, and whether it is the wanted one; or what can be spent, if too little."""
            coming = journal.coming_from_others(conn, mint, unit)
            taken = at_hand.take(conn, mint, unit, partial(_pick, amount), want=amount)
            if taken is not None:
                return _reserve(conn, now, taken, plan), True
            spendable = at_hand.spendable(conn, mint, unit)
            if spendable >= amount:
                taken = at_hand.take(conn, mint, unit, _smallest)
                if taken is not None:
                    return _reserve(conn, now, taken, self.into_change(mint, keyset)), False
            if coming:
                return spendable
            raise _too_little(mint, amount, unit, spendable)

        async with self._locks[mint, unit]:
            patience = backing_off(WAITS_FOR_OTHERS_S)
            while True:
                begun = await self._db.run(prepare)
                if isinstance(begun, int):
                    if not await patience():
                        raise _too_little(mint, amount, unit, begun)
                    continue
                operation, is_wanted = begun
                done = await self._executor.carry_out(operation)
                if is_wanted:
                    return done

    async def move(
        self, mint: str, unit: str, keyset_ids: frozenset[str] | None, choose: at_hand.Choose, plan: Plan
    ) -> Operation | None:
        """Swap what ``choose`` takes of the available proofs; None where it takes nothing.

        Args:
            mint: at which.
            unit: of the proofs.
            keyset_ids: of which keysets; None for all.
            choose: as of ``at_hand.take``.
            plan: of the swap.

        Raises:
            the errors of ``Executor.carry_out``.
        """

        def prepare(conn: Connection, now: float) -> Operation | None:
            taken = at_hand.take(conn, mint, unit, choose, only_keysets=keyset_ids)
            return None if taken is None else _reserve(conn, now, taken, plan)

        return await self._swap_prepared(mint, unit, prepare)

    async def move_out_of_reach(self, mint: str, unit: str, plan: Plan) -> Operation | None:
        """Swap available proofs that no seed gives; None where there are none that are worth it.

        Raises:
            the errors of ``Executor.carry_out``.
        """

        def prepare(conn: Connection, now: float) -> Operation | None:
            found = out_of_reach(conn, mint, unit, MAX_INPUTS)
            fee = input_fee(found, at_hand.fees(conn, mint))
            is_worth_it = sum(proof.amount for proof in found) > fee
            return _reserve(conn, now, Taken(found, fee), plan) if is_worth_it else None

        return await self._swap_prepared(mint, unit, prepare)

    async def restock(self, mint: str, unit: str, wanted: Mapping[int, int]) -> Operation | None:
        """Break large proofs into denominations that are short; see ``otrta_wallet.stock.to_break``.

        Args:
            mint: at which.
            unit: of the proofs.
            wanted: how many proofs of each denomination there should be.

        Returns:
            The swap, or None where nothing is short or nothing is left to break.

        Raises:
            the errors of ``Executor.carry_out``.
        """
        keyset = await self._mints.active_keyset(mint, unit)

        def plan(conn: Connection, now: float, chosen: Sequence[Proof], fee: int) -> Operation:
            net = sum(proof.amount for proof in chosen) - fee
            have = Counter(at_hand.by_amount(conn, mint, unit))
            have.subtract(proof.amount for proof in chosen)
            parts = split_for_stock(net, have, a_portion(wanted, have), keyset.keys)
            operation = new_operation("swap", mint, unit, net, fee, now, reference=RESTOCK)
            return journal.begin(
                conn, self._seed, operation, chosen, keyset, [(part, None) for part in parts]
            )

        return await self.move(mint, unit, None, partial(to_break, wanted=wanted), plan)

    async def move_held(
        self, mint: str, unit: str, holder: str, ys: Collection[str], plan: Plan
    ) -> Operation | None:
        """Swap those of a holder's proofs that are named; None where there are none that are worth it.

        Raises:
            the errors of ``Executor.carry_out``. What was not swapped is then available.
        """

        def prepare(conn: Connection, now: float) -> Operation | None:
            held = store.proofs_with(conn, status=ProofStatus.HELD, holder=holder, mint=mint, unit=unit)
            found = [proof for proof in held if proof.Y in ys][:MAX_INPUTS]
            fee = input_fee(found, at_hand.fees(conn, mint))
            if sum(proof.amount for proof in found) <= fee:
                return None
            was, now_is = ProofStatus.HELD, ProofStatus.AVAILABLE
            store.move_proofs(conn, [p.Y for p in found], was=was, now_is=now_is, holder=None, now=now)
            return _reserve(conn, now, Taken(found, fee), plan)

        return await self._swap_prepared(mint, unit, prepare)

    async def _swap_prepared(
        self, mint: str, unit: str, prepare: Callable[[Connection, float], Operation | None]
    ) -> Operation | None:
        async with self._locks[mint, unit]:
            begun = await self._db.run(prepare)
            return None if begun is None else await self._executor.carry_out(begun)

    def into_change(self, mint: str, keyset: Keyset, reference: str | None = None) -> Plan:
        """Return the plan that makes all of what is chosen into proofs from which any amount can be paid."""

        def plan(conn: Connection, now: float, chosen: Sequence[Proof], fee: int) -> Operation:
            net = sum(proof.amount for proof in chosen) - fee
            operation = new_operation("swap", mint, keyset.unit, net, fee, now, reference=reference)
            amounts = [(amount, None) for amount in split_for_change(net, keyset.keys)]
            return journal.begin(conn, self._seed, operation, chosen, keyset, amounts)

        return plan


def _pick(amount: int, usable: Sequence[Proof], fees: Mapping[str, int]) -> Sequence[Proof] | None:
    chosen = select_proofs(usable, amount, fee=lambda ps: input_fee(ps, fees), max_proofs=MAX_INPUTS)
    if chosen is None:
        return None
    return [*chosen, *ride_along(chosen, usable, fees)][:MAX_INPUTS]


def _smallest(usable: Sequence[Proof], fees: Mapping[str, int]) -> Sequence[Proof] | None:
    """Choose the smallest proofs that are worth more than they cost; None where that merges nothing."""
    worthy = sorted((p for p in usable if 1000 * p.amount > fees[p.id]), key=lambda p: p.amount)
    chosen = worthy[:MAX_INPUTS]
    net = sum(proof.amount for proof in chosen) - input_fee(chosen, fees)
    return chosen if len(chosen) == MAX_INPUTS and net > 0 else None


def _reserve(conn: Connection, now: float, taken: Taken, plan: Plan) -> Operation:
    operation = plan(conn, now, taken.proofs, taken.fee)
    ys = [proof.Y for proof in taken.proofs]
    was, now_is = ProofStatus.AVAILABLE, ProofStatus.RESERVED
    store.move_proofs(conn, ys, was=was, now_is=now_is, holder=operation.id, now=now)
    return operation


def _too_little(mint: str, amount: int, unit: str, available: int) -> NotEnoughFunds:
    return NotEnoughFunds(f"{amount} {unit} were wanted at {mint}, and {available} {unit} can be spent there")
