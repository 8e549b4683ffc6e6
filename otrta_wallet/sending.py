"""Tokens that go out unlocked: of proofs at hand, or of ones that a swap makes to measure."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from otrta_core import Proof, input_fee, pick_exact, select_proofs, split_amount, split_for_change
from otrta_wallet import at_hand, journal, store
from otrta_wallet.custody import hand_out
from otrta_wallet.errors import NotEnoughFunds
from otrta_wallet.mint_book import MintBook
from otrta_wallet.own_swaps import OwnSwaps
from otrta_wallet.records import Operation, Transfer, new_operation
from otrta_wallet.schema import ProofStatus
from otrta_wallet.transactions import Transactions

MAX_PROOFS = 64
"""The most proofs of a token that is made."""

Also = Callable[[Connection, float, Transfer], None]


@dataclass(frozen=True, slots=True)
class Handing:
    """How a token is written, and what is noted of it.

    Attributes:
        memo: put into the token.
        with_dleq: leave DLEQ proofs in.
        reference: whose it is.
        record: kind of the line in the history; None for none.
        also: what must be committed in the same transaction.
    """

    memo: str | None = None
    with_dleq: bool = False
    reference: str | None = None
    record: str | None = None
    also: Also | None = None

    def give(self, conn: Connection, now: float, mint: str, unit: str, chosen: Sequence[Proof]) -> Transfer:
        """Hand out available proofs, inside the caller's transaction."""
        transfer = hand_out(
            conn, now, mint, unit, chosen, self.memo, self.with_dleq, self.reference, self.record
        )
        if self.also is not None:
            self.also(conn, now, transfer)
        return transfer


class Sending:
    """Makes tokens."""

    def __init__(self, transactions: Transactions, mints: MintBook, seed: bytes, swaps: OwnSwaps) -> None:
        self._db = transactions
        self._mints = mints
        self._seed = seed
        self._swaps = swaps

    async def send(self, mint: str, amount: int, unit: str, handing: Handing, *, exact: bool) -> Transfer:
        """See ``Wallet.send``."""
        transfer = await self.at_hand(mint, amount, unit, handing, exact=exact)
        if transfer is not None:
            return transfer
        if not exact:
            raise NotEnoughFunds(
                f"no {MAX_PROOFS} proofs at hand make {amount} {unit}: an exact token may, by a swap"
            )
        holder = uuid.uuid4().hex
        await self.hold_exact(mint, amount, unit, holder)

        def give(conn: Connection, now: float) -> Transfer:
            held = store.proofs_with(conn, status=ProofStatus.HELD, holder=holder)
            if not held:
                raise NotEnoughFunds("what was set aside for this token has been let go: send it again")
            was, now_is = ProofStatus.HELD, ProofStatus.AVAILABLE
            store.move_proofs(conn, [p.Y for p in held], was=was, now_is=now_is, holder=None, now=now)
            return handing.give(conn, now, mint, unit, held)

        return await self._db.run(give)

    async def at_hand(
        self,
        mint: str,
        amount: int,
        unit: str,
        handing: Handing,
        *,
        exact: bool,
        net_of_fee: bool = False,
        at_most: int | None = None,
        avoid: frozenset[str] = frozenset(),
    ) -> Transfer | None:
        """See ``Wallet.transfer_at_hand``."""
        await self._mints.know(mint)
        self._mints.client(mint)  # raises where it was never added

        def choose(conn: Connection, now: float) -> Transfer | None:
            def pick(usable: Sequence[Proof], fees: Mapping[str, int]) -> Sequence[Proof] | None:
                if exact:
                    return pick_exact(usable, amount, max_proofs=MAX_PROOFS)
                fee = (lambda ps: input_fee(ps, fees)) if net_of_fee else (lambda _ps: 0)
                found = select_proofs(usable, amount, fee=fee, max_proofs=MAX_PROOFS)
                if found is None or (at_most is not None and sum(p.amount for p in found) > at_most):
                    return None
                return found

            taken = at_hand.take(conn, mint, unit, pick, want=amount, most=MAX_PROOFS, avoid=avoid)
            return None if taken is None else handing.give(conn, now, mint, unit, taken.proofs)

        return await self._db.run(choose)

    async def hold_exact(self, mint: str, amount: int, unit: str, holder: str) -> Operation:
        """See ``Wallet.hold_exact``."""
        keyset = await self._mints.active_keyset(mint, unit)

        def plan(conn: Connection, now: float, chosen: Sequence[Proof], fee: int) -> Operation:
            rest = sum(p.amount for p in chosen) - fee - amount
            wanted = [(a, holder) for a in split_amount(amount, keyset.keys)]
            amounts = wanted + [(a, None) for a in split_for_change(rest, keyset.keys)]
            operation = new_operation("swap", mint, unit, amount + rest, fee, now, reference=holder)
            return journal.begin(conn, self._seed, operation, chosen, keyset, amounts)

        return await self._swaps.carry_out(mint, amount, unit, plan)
