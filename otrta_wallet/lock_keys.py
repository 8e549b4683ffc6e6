"""The keys that unlock tokens (NUT-11): that of the seed, those made later, and those that were handed in.

One of them is the wallet's own, to which others lock their tokens: that of the seed, until a new one is made.
"""

import secrets
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

_CURRENT = "lock_key"


class LockKeys:
    """Signs what is locked to the wallet's keys. Its repr shows one public key only.

    Attributes:
        public: the key that tokens are to be locked to.
    """

    def __init__(self, transactions: Transactions, seed: bytes) -> None:
        self._db = transactions
        self._of_seed = derive_lock_key(seed)
        self.public = schnorr.public_key(self._of_seed)

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

    async def load(self) -> None:
        """Learn which key is the wallet's own now, where a new one has been made."""
        current = await self._db.run(lambda conn, _now: store.get_setting(conn, _CURRENT))
        self.public = schnorr.public_key(self._of_seed) if current is None else current

    def renew(self, conn: Connection, now: float) -> str:
        """Make a new key the wallet's own, inside the caller's transaction; ``load`` it after that.

        It follows from nothing, so that no copy of the wallet makes the same. The others open tokens as
        before.

        Returns:
            The public key.
        """
        private = secrets.token_bytes(32)
        public = schnorr.public_key(private)
        store.add_lock_key(conn, now, public, private.hex())
        store.put_setting(conn, _CURRENT, public)
        return public

    async def all_public(self) -> list[str]:
        """Return the public keys of all that tokens can be locked to, in hex; the wallet's own first."""
        stored = await self._db.run(lambda conn, _now: store.public_lock_keys(conn))
        return list(dict.fromkeys([self.public, schnorr.public_key(self._of_seed), *stored]))

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
        return [self._of_seed, *(bytes.fromhex(key) for key in store.private_lock_keys(conn))]
