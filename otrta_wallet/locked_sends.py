"""Tokens that are locked to somebody's key: made by a swap, given away, and taken back when they are free."""

import secrets
import uuid
from collections.abc import Sequence

from sqlalchemy import Connection

from otrta_core import P2PK, LockError, Proof, split_amount, split_for_change
from otrta_wallet import journal, store
from otrta_wallet.errors import WalletError
from otrta_wallet.mint_book import MintBook
from otrta_wallet.outputs import GivenSecret
from otrta_wallet.own_swaps import OwnSwaps
from otrta_wallet.reach import blinding_factor
from otrta_wallet.records import Operation, Transfer, new_operation
from otrta_wallet.transactions import Transactions

_NEEDED = ("10", "11")


class LockedSends:
    """Makes locked tokens."""

    def __init__(
        self,
        transactions: Transactions,
        mints: MintBook,
        seed: bytes,
        swaps: OwnSwaps,
    ) -> None:
        self._db = transactions
        self._mints = mints
        self._seed = seed
        self._swaps = swaps

    async def send(
        self,
        mint: str,
        amount: int,
        unit: str,
        lock: P2PK,
        *,
        memo: str | None,
        with_dleq: bool,
        reference: str | None,
    ) -> Transfer:
        """See ``Wallet.send_locked``."""
        now = int(self._db.now())
        if lock.expired(now):
            raise LockError("the lock's time is over already: nothing would be locked")
        info = await self._mints.client(mint).info()
        if not info.supports(*_NEEDED):
            raise LockError("this mint does not keep locks (NUT-11): anybody could spend the token")
        keyset = await self._mints.active_keyset(mint, unit)

        def plan(conn: Connection, now: float, chosen: Sequence[Proof], fee: int) -> Operation:
            rest = sum(proof.amount for proof in chosen) - fee - amount
            transfer = Transfer(uuid.uuid4().hex, mint, unit, amount, None, "making", reference, now)
            store.save_transfer(conn, transfer, memo=memo, with_dleq=with_dleq)
            operation = new_operation("lock", mint, unit, amount + rest, fee, now, reference=transfer.id)
            locked = [
                GivenSecret(part, transfer.id, lock.secret(secrets.token_hex(16)), blinding_factor())
                for part in split_amount(amount, keyset.keys)
            ]
            change = [(part, None) for part in split_for_change(rest, keyset.keys)]
            return journal.begin(conn, self._seed, operation, chosen, keyset, change, locked)

        operation = await self._swaps.carry_out(mint, amount, unit, plan)
        made = await self._db.run(
            lambda conn, _now: store.load_transfers(conn, transfer_id=operation.reference)
        )
        if not made:
            raise WalletError("the token was made and is gone: somebody took it back meanwhile")
        return made[0]
