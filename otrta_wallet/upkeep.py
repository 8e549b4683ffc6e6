"""Moving e-cash to where it lasts: off keysets that end (NUT-02), into the reach of a restore (NUT-13)."""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from sqlalchemy import Connection

from otrta_core import Keyset, OtrtaError, Proof, input_fee
from otrta_core.selection import ride_along
from otrta_wallet import store
from otrta_wallet.mint_book import MintBook, ends_soon
from otrta_wallet.own_swaps import OwnSwaps
from otrta_wallet.reach import BRIDGE_AFTER, cheapest
from otrta_wallet.records import MintBalance
from otrta_wallet.transactions import Transactions

REFERENCE = "upkeep"
"""Of the swaps that are made here."""
LIST_EVERY_S = 3600.0
"""How often a mint that holds money is asked for its keysets, and tried again after a failure."""
MOST_AT_ONCE = 500


def keysets_to_leave(keysets: Iterable[Keyset], now: float) -> frozenset[str]:
    """Return the keysets that money should not stay on.

    Those that end soon; and inactive ones, where leaving costs nothing. Elsewhere a mint could earn fees by
    retiring keysets, and the proofs are spent in good time anyway.
    """
    return frozenset(k.id for k in keysets if ends_soon(k, now) or (not k.active and k.input_fee_ppk == 0))


def worth_moving(proofs: Sequence[Proof], fee_ppk: Mapping[str, int]) -> list[Proof] | None:
    """Choose the proofs that bring more than their fee, and those for which its rounding has room.

    Returns:
        At most ``MOST_AT_ONCE`` and the riders, or None where nothing would be left of them.
    """
    worthy = [proof for proof in proofs if 1000 * proof.amount > fee_ppk[proof.id]]
    chosen = sorted(worthy, key=lambda proof: proof.amount, reverse=True)[:MOST_AT_ONCE]
    riders = ride_along(chosen, proofs, fee_ppk)[:MOST_AT_ONCE]
    taken = [*chosen, *riders]
    return taken if sum(p.amount for p in taken) > input_fee(taken, dict(fee_ppk)) else None


class Upkeep:
    """Looks after the keysets of proofs at hand."""

    def __init__(self, transactions: Transactions, mints: MintBook, swaps: OwnSwaps) -> None:
        self._db = transactions
        self._mints = mints
        self._swaps = swaps
        self._not_before: dict[tuple[str, str], float] = {}

    async def move_off_old_keysets(self, mint: str) -> int:
        """Swap the proofs of keysets that money should not stay on, and return how many swaps that took.

        What its own fee would eat stays: it goes along where a swap has room for it.

        Raises:
            MintError: the mint could not be asked.
            WalletError: it makes no new e-cash in a unit.
            the errors of ``Executor.carry_out``. After any of them the mint is left alone for a while.
        """
        return await self._unless_it_failed("old keysets", mint, self._move)

    async def keep_in_reach(self, mint: str) -> int:
        """Swap what a restore would not find, and end long runs of counters; returns how many swaps.

        Raises:
            as ``move_off_old_keysets``.
        """
        return await self._unless_it_failed("reach", mint, self._bring_into_reach)

    async def _unless_it_failed(self, what: str, mint: str, work: Callable[[str], Awaitable[int]]) -> int:
        if time.monotonic() < self._not_before.get((what, mint), float("-inf")):
            return 0
        try:
            return await work(mint)
        except OtrtaError:
            self._not_before[what, mint] = time.monotonic() + LIST_EVERY_S
            raise

    async def _bring_into_reach(self, mint: str) -> int:
        swaps = 0
        for unit in [b.unit for b in await self._db.run(_balances) if b.mint == mint and b.available]:
            target = await self._mints.active_keyset(mint, unit)
            plan = self._swaps.into_change(mint, target, REFERENCE)
            while await self._swaps.move_out_of_reach(mint, unit, plan) is not None:
                swaps += 1
            if await self._db.run(_run, target.id) >= BRIDGE_AFTER:
                swaps += await self._swaps.move(mint, unit, None, cheapest, plan) is not None
        return swaps

    async def _move(self, mint: str) -> int:
        units = [b.unit for b in await self._db.run(_balances) if b.mint == mint and b.available]
        if units:
            await self._mints.refresh_if_old(mint, LIST_EVERY_S)
        swaps = 0
        for unit in units:
            keysets = [k for k in self._mints.keysets(mint).values() if k.unit == unit]
            old = keysets_to_leave(keysets, self._db.now())
            if not old:
                continue
            target = await self._mints.active_keyset(mint, unit)
            if target.id in old:  # the mint has no better one yet
                continue
            plan = self._swaps.into_change(mint, target, REFERENCE)
            while await self._swaps.move(mint, unit, old, worth_moving, plan) is not None:
                swaps += 1
        return swaps


def _balances(conn: Connection, _now: float) -> list[MintBalance]:
    return store.balances(conn)


def _run(conn: Connection, _now: float, keyset_id: str) -> int:
    return store.unsigned_run(conn, keyset_id)
