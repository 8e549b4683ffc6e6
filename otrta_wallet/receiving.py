"""Tokens that come in: one by one, several at a time, or in several parts."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from sqlalchemy import Connection

from otrta_core import OtrtaError, Proof, Token, TokenTooLarge, input_fee, split_for_change
from otrta_wallet import journal, store
from otrta_wallet.batches import MAX_INPUTS, Batches, Ended
from otrta_wallet.custody import take_token
from otrta_wallet.errors import OutcomeUnknown, TokenPartlyTaken
from otrta_wallet.executor import Executor
from otrta_wallet.incoming import Incoming, refuse_early
from otrta_wallet.mint_book import MintBook
from otrta_wallet.reach import ASK_FIRST_AFTER, plan_for_token
from otrta_wallet.records import Operation, OperationKind
from otrta_wallet.transactions import Transactions

Also = Callable[[Connection, float, Operation], None]


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a token.

    Attributes:
        amount: what is in the wallet of it, in its unit, after the fee.
        fee: what that has cost.
        error: why it was not taken, or where ``amount`` is above zero why not all of it was.
    """

    amount: int
    fee: int
    error: OtrtaError | None = None


class Receiving:
    """Takes tokens: by a swap each, by one that they share, or by several for very many proofs."""

    def __init__(
        self,
        transactions: Transactions,
        mints: MintBook,
        seed: bytes,
        executor: Executor,
        batches: Batches,
    ) -> None:
        self._db = transactions
        self._mints = mints
        self._seed = seed
        self._executor = executor
        self._batches = batches

    async def prepare(self, incoming: Incoming, reference: str | None, also: Also | None) -> Operation:
        """See ``Wallet.prepare_receive``."""
        token = incoming.token
        keyset = await self._mints.active_keyset(token.mint, token.unit)
        amounts = [(a, None) for a in split_for_change(incoming.net, keyset.keys)]

        def prepare(conn: Connection, now: float, *, asked: bool) -> Operation | None:
            if not asked and store.unsigned_run(conn, keyset.id) >= ASK_FIRST_AFTER:
                return None
            operation = take_token(conn, now, incoming, "receive", "prepared", reference)
            plan_for_token(conn, self._seed, operation.id, keyset, amounts)
            if also is not None:
                also(conn, now, operation)
            return operation

        prepared = await self._db.run(prepare, asked=False)
        while prepared is None:
            refuse_early(await self._mints.client(token.mint).check_state([p.Y for p in token.proofs]))
            prepared = await self._db.run(prepare, asked=True)
        return prepared

    async def redeem(self, operation_id: str) -> Operation:
        """See ``Wallet.redeem``."""
        stored = await self._db.run(lambda conn, _now: journal.load(conn, operation_id))
        if stored.state == "stored" and await self._executor.look_again(stored):
            return await self._db.run(lambda conn, _now: journal.load(conn, operation_id))
        keyset = await self._mints.active_keyset(stored.mint, stored.unit)
        amounts = [(a, None) for a in split_for_change(stored.amount, keyset.keys)]

        def prepare(conn: Connection, now: float) -> bool:
            if not journal.set_state(conn, operation_id, was="stored", now_is="prepared", now=now):
                return False
            plan_for_token(conn, self._seed, operation_id, keyset, amounts)
            return True

        begun = await self._db.run(prepare)
        return await self._executor.carry_out(stored, ambiguous=not begun)

    async def queue_again(self, operation_id: str) -> Operation | None:
        """See ``Wallet.queue_again``."""

        def again(conn: Connection, now: float) -> Operation | None:
            if not journal.set_state(conn, operation_id, was="stored", now_is="waiting", now=now):
                return None
            return journal.load(conn, operation_id)

        stored = await self._db.run(lambda conn, _now: journal.load(conn, operation_id))
        if stored.state != "stored" or await self._executor.look_again(stored):
            return None
        return await self._db.run(again)

    async def take_many(
        self, tokens: Sequence[Token], check: Callable[[Token], Awaitable[Incoming]]
    ) -> list[Received]:
        """See ``Wallet.receive_many``; ``check`` looks at a token without touching it."""
        queued: list[list[Operation] | OtrtaError] = []
        for token in tokens:
            try:
                queued.append(await self._queue_parts(await check(token)))
            except OtrtaError as error:
                queued.append(error)
        waiting = [part for parts in queued if not isinstance(parts, OtrtaError) for part in parts]
        ended = iter(await self._batches.carry_out(waiting))
        return [
            Received(0, 0, parts)
            if isinstance(parts, OtrtaError)
            else summed(list(islice(ended, len(parts))))
            for parts in queued
        ]

    async def take_in_parts(self, incoming: Incoming) -> Operation:
        """Take a token of more proofs than one swap takes.

        Returns:
            One of the operations that took it, with the sums of all.

        Raises:
            TokenPartlyTaken: a part of it was taken.
            the errors of ``Executor.carry_out``: nothing of it was.
        """
        ended = await self._batches.carry_out(await self._queue_parts(incoming))
        return taken_whole(incoming.token, ended)

    async def _queue_parts(self, incoming: Incoming) -> list[Operation]:
        parts = in_parts(incoming, self._mints.fee_ppk(incoming.token.mint))
        return await self._db.run(lambda conn, now: [queue(conn, now, part, None) for part in parts])


def queue(
    conn: Connection,
    now: float,
    incoming: Incoming,
    reference: str | None,
    *,
    offline: bool = False,
    due_at: float | None = None,
) -> Operation:
    """Journal that a token is to be taken, alone or with others; see ``Wallet.queue_receive``.

    Raises:
        TokenSpent, TokenPending: this wallet has the proofs already.
        TokenError: it handed out another proof under the same secret.
        TokenTooLarge: it has more proofs than one swap takes.
    """
    if len(incoming.token.proofs) > MAX_INPUTS:
        raise TokenTooLarge(f"a token of more than {MAX_INPUTS} proofs takes more than one swap")
    kind: OperationKind = "offline" if offline else "receive"
    return take_token(conn, now, incoming, kind, "waiting", reference, due_at)


def in_parts(incoming: Incoming, fee_ppk: Mapping[str, int]) -> list[Incoming]:
    """Divide a token into parts that one swap can take each.

    The proofs of a token of several parts are dealt out from the largest to the smallest, so that no part
    is of small ones alone. What would bring nothing is left out, with whoever gave the token.

    Args:
        incoming: from ``inspect``.
        fee_ppk: input fee by keyset id.
    """
    token = incoming.token
    if len(token.proofs) <= MAX_INPUTS:
        return [incoming]
    worth = [proof for proof in token.proofs if 1000 * proof.amount > fee_ppk[proof.id]]
    hands = -(-len(worth) // MAX_INPUTS)
    dealt = sorted(worth, key=lambda proof: (-proof.amount, proof.Y))
    parts = [_part(token, dealt[hand::hands], fee_ppk) for hand in range(hands)]
    return [part for part in parts if part.net > 0]


def _part(token: Token, proofs: Sequence[Proof], fee_ppk: Mapping[str, int]) -> Incoming:
    return Incoming(replace(token, proofs=tuple(proofs)), input_fee(proofs, fee_ppk))


def summed(ended: Sequence[Ended]) -> Received:
    """Say what became of a token, from what became of its parts."""
    taken = [each for each in ended if isinstance(each, Operation)]
    errors = [each for each in ended if isinstance(each, OtrtaError)]
    # what may still be taken outweighs what is certainly not: the token must not be thrown away
    errors.sort(key=lambda error: not isinstance(error, OutcomeUnknown))
    amount, fee = sum(op.amount for op in taken), sum(op.fee for op in taken)
    return Received(amount, fee, errors[0] if errors else None)


def taken_whole(token: Token, ended: Sequence[Ended]) -> Operation:
    """Return the operation that took a token; of several parts one with the sums of all.

    Args:
        token: of several parts.
        ended: what became of each part, of at least one.

    Raises:
        TokenPartlyTaken: some parts were taken.
        OtrtaError: none was; of several reasons one that leaves something open.
    """
    got = summed(ended)
    taken = [each for each in ended if isinstance(each, Operation)]
    if got.error is None:
        return replace(taken[0], amount=got.amount, fee=got.fee)
    if not taken:
        raise got.error
    raise TokenPartlyTaken(
        f"{got.amount} {token.unit} of the token's {token.amount} are in the wallet, and {got.fee} went for "
        f"fees; of the rest: {got.error.message}",
        got.amount,
        got.fee,
        got.error,
    )
