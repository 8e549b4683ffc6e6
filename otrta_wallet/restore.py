"""Getting back from a mint what a seed has ever had signed there (NUT-07, NUT-09, NUT-13).

Nothing is changed at the mint: it is asked, batch by batch, and each batch is committed together with how far
the scan has come. So a restore that was stopped anywhere goes on where it was, and doing it again is free.
"""

import time
from collections import defaultdict
from collections.abc import Sequence

import anyio
from anyio import to_thread
from sqlalchemy import Connection

from otrta_core import Keyset, Proof, Unit
from otrta_wallet import scans, store
from otrta_wallet.errors import MintRefused, OutcomeUnknown, WalletError
from otrta_wallet.mint_book import MintBook
from otrta_wallet.outputs import make_proofs
from otrta_wallet.records import Restored, ScannedKeyset
from otrta_wallet.scanning import Signed, last_counter, signed_in_batch
from otrta_wallet.schema import ProofStatus
from otrta_wallet.transactions import Transactions

EMPTY_BATCHES = 30
"""After how many batches in a row of which the mint knows nothing a keyset counts as looked through.

Other wallets stop after 3. Here each token that its mint refuses leaves numbers unused, and strangers send
such tokens: ``otrta_wallet.reach`` sees to it that they never leave a third as many.
"""

LEFT_BEHIND_S = 60.0
"""For how long a restore that was begun is left to whoever began it."""

_NO_SUCH_PATH = frozenset({404, 405, 501})


class Restorer:
    """Looks through the keysets of a mint."""

    def __init__(self, transactions: Transactions, mints: MintBook, seed: bytes) -> None:
        self._db = transactions
        self._mints = mints
        self._seed = seed
        self._locks: dict[str, anyio.Lock] = defaultdict(anyio.Lock)

    async def has_begun(self, mint: str) -> bool:
        """Tell whether a restore of the mint is under way, here or by a process that has ended."""
        return bool(await self._db.run(scans.of_mint, mint))

    async def run(self, mint: str, empty_batches: int | None, budget_s: float | None) -> Restored:
        """Begin the restore of a mint, or go on with one that was begun.

        Args:
            mint: a known one, its keysets up to date.
            empty_batches: when to stop; None for as it was begun.
            budget_s: begin no further batch after so long; None for all there are.

        Raises:
            MintError: the mint could not be asked; what was found until then is stored.
            WalletError: it has nothing to restore from.
        """
        stop_at = None if budget_s is None else time.monotonic() + budget_s
        async with self._locks[mint]:
            keysets = self._mints.keysets(mint)
            counted = [keyset for keyset in keysets.values() if keyset.unit in set(Unit)]
            anew, stop_after = empty_batches is not None, empty_batches or EMPTY_BATCHES
            await self._db.run(scans.begin, mint, counted, stop_after, anew=anew)
            for scan in await self._db.run(scans.of_mint, mint):
                while not scan.complete:
                    if stop_at is not None and time.monotonic() > stop_at:
                        return Restored(mint, await self._scanned(mint), {}, complete=False)
                    scan = await self._next_batch(mint, keysets[scan.keyset_id], scan)
            ys = [proof.Y for proof in await self._db.run(_with_status, mint, ProofStatus.AVAILABLE)]
            states = await self._mints.client(mint).check_state(ys)
            ended, gone = await self._db.run(scans.close, mint, states)
            return Restored(mint, tuple(ended), gone, complete=True)

    async def go_on(self, mint: str) -> bool:
        """Go on with a restore of a mint that was left behind; tells whether there was one.

        Raises:
            as ``run``.
        """
        before = self._db.now() - LEFT_BEHIND_S
        if mint not in await self._db.run(lambda conn, _now: scans.left_behind(conn, before)):
            return False
        await self.run(mint, None, None)
        return True

    async def settle(self, mint: str) -> None:
        """Ask for proofs again that were pending when they were restored.

        Where some have been spent, what they were spent for may be ours: the mint is looked through again.

        Raises:
            MintError: the mint could not be asked.
        """
        pending = await self._db.run(_with_status, mint, ProofStatus.UNSETTLED)
        if pending:
            states = await self._mints.client(mint).check_state([proof.Y for proof in pending])
            await self._db.run(scans.settle, mint, states, EMPTY_BATCHES)

    async def _next_batch(self, mint: str, keyset: Keyset, scan: ScannedKeyset) -> ScannedKeyset:
        client = self._mints.client(mint)
        try:
            signed = await signed_in_batch(client, self._seed, keyset, scan.looked_to)
        except MintRefused as error:
            if error.status in _NO_SUCH_PATH:
                raise WalletError(f"the mint {mint} cannot restore e-cash from a seed (NUT-09)") from None
            raise
        made = await to_thread.run_sync(_make, self._seed, keyset, signed)
        states = await client.check_state([proof.Y for proof, _ in made])
        batch = scans.Batch(
            keyset.id, scan.looked_to, last_counter(signed), made, states, len(signed) - len(made)
        )
        await self._db.run(scans.store_batch, batch)
        return next(s for s in await self._scanned(mint) if s.keyset_id == keyset.id)

    async def _scanned(self, mint: str) -> tuple[ScannedKeyset, ...]:
        return tuple(await self._db.run(scans.of_mint, mint))


def _make(seed: bytes, keyset: Keyset, signed: Sequence[Signed]) -> list[tuple[Proof, int]]:
    """Unblind what holds, each with its counter; a signature that does not hold spoils no other."""
    made = []
    for each in signed:
        try:
            [proof] = make_proofs(seed, {keyset.id: keyset}, [each.output], [each.signature])
        except OutcomeUnknown:
            continue
        made.append((proof, each.counter))
    return made


def _with_status(conn: Connection, _now: float, mint: str, status: ProofStatus) -> list[Proof]:
    return store.proofs_with(conn, status=status, mint=mint)
