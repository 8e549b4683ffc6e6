"""The keys that unlock tokens: one that follows from the seed, and those that were handed in (NUT-11)."""

from collections.abc import Sequence

from anyio import to_thread
from sqlalchemy import Connection

from otrta_core import (
    LockError,
    Proof,
    Spend,
    derive_lock_key,
    read_condition,
    schnorr,
    unlock,
)
from otrta_wallet import store
from otrta_wallet.records import Output
from otrta_wallet.transactions import Transactions


class LockKeys:
    """Signs what is locked to the wallet's keys. Its repr shows the public key of the seed only."""

    def __init__(self, transactions: Transactions, seed: bytes) -> None:
        self._db = transactions
        self._own = derive_lock_key(seed)
        self.public = schnorr.public_key(self._own)

    def __repr__(self) -> str:
        return f"LockKeys(public={self.public!r})"

    async def add(self, private_key: bytes) -> str:
        """Store a private key, so that tokens locked to it can be taken, and return its public key.

        It is kept for ever: an operation that a crash left open may still have to be signed with it.

        Raises:
            LockError: not a private key of 32 bytes.
        """
        try:
            public = schnorr.public_key(private_key)
        except ValueError:
            raise LockError("a private key is a number of 32 bytes, above zero and below the order") from None
        await self._db.run(store.add_lock_key, public, private_key.hex())
        return public

    async def unlocked(self, inputs: Sequence[Proof], outputs: Sequence[Output] = ()) -> Sequence[Proof]:
        """Return the inputs of one transaction with the witnesses that spend them now.

        The same inputs and outputs always give the same signatures, so that a body can be posted again.

        Args:
            inputs: in the order of the request, locked or not.
            outputs: likewise; signed too where an input asks for it (SIG_ALL).

        Raises:
            LockError: an input has a lock that is not accepted, or that these keys do not open now.
        """
        if all(read_condition(proof.secret) is None and proof.witness is None for proof in inputs):
            return inputs
        keys = await self._db.run(self._all)
        spend = Spend(tuple((output.amount, output.blinded) for output in outputs))
        return await to_thread.run_sync(unlock, inputs, keys, int(self._db.now()), spend)

    def _all(self, conn: Connection, _now: float) -> list[bytes]:
        return [self._own, *(bytes.fromhex(key) for key in store.private_lock_keys(conn))]
