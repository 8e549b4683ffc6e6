"""Carrying out journalled operations: post, and where the outcome is unknown let the mint's state decide."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import anyio
from anyio import to_thread
from sqlalchemy import Connection

from otrta_core import OtrtaError, Proof
from otrta_wallet import journal
from otrta_wallet.decisions import Verdict, decide
from otrta_wallet.errors import (
    MintError,
    MintRefused,
    MintUnreachable,
    OutcomeUnknown,
    TokenPending,
    TokenSpent,
)
from otrta_wallet.mint_book import MintBook
from otrta_wallet.mint_client import BlindSignature, ProofState, QuoteState
from otrta_wallet.outputs import make_proofs
from otrta_wallet.records import Operation, Output
from otrta_wallet.transactions import Transactions

POSTS = 3
_FIRST_PAUSE_S = 0.15
_FOREIGN = frozenset({"receive", "redeem"})


class Executor:
    """Takes prepared operations to their end."""

    def __init__(
        self,
        transactions: Transactions,
        mints: MintBook,
        seed: bytes,
        participants: Sequence[journal.Participant],
    ) -> None:
        self._db = transactions
        self._mints = mints
        self._seed = seed
        self._participants = participants
        self._active: set[str] = set()

    def is_active(self, operation_id: str) -> bool:
        """Tell whether this process is carrying the operation out right now."""
        return operation_id in self._active

    async def carry_out(self, operation: Operation, *, ambiguous: bool = False) -> Operation:
        """Post a prepared operation and store what came of it.

        Args:
            operation: in state prepared.
            ambiguous: whether an earlier post may have reached the mint, as after a crash.

        Raises:
            MintUnreachable: no byte was sent; the operation is closed, its inputs are where they were.
            MintRefused: the mint said no; closed likewise.
            TokenSpent: inputs were spent by somebody else; closed.
            TokenPending: somebody else is spending the inputs; closed.
            OutcomeUnknown: the operation stays prepared, and ``recover`` takes it up again.

        Cancelled, it stays prepared or is done; either way nothing is lost.
        """
        with self._claim(operation.id):
            return await self._carry_out(operation, ambiguous)

    async def _carry_out(self, operation: Operation, ambiguous: bool) -> Operation:
        inputs, planned = (await self._db.run(lambda conn, _now: journal.parts(conn, operation.id)))[1:]
        pause_s = _FIRST_PAUSE_S
        if ambiguous:
            ended = await self._resolve(operation, inputs, planned, refusal=None, ambiguous=True)
            if ended is not None:
                return ended
        for _ in range(POSTS):
            refusal: MintRefused | None = None
            try:
                return await self._finish(operation, planned, await self._post(operation, inputs, planned))
            except MintUnreachable as error:
                if not ambiguous:
                    await self._close(operation, Verdict.FAIL_REFUSED, {}, error.message, may_land=False)
                    raise
            except MintRefused as error:
                refusal = error
            except OutcomeUnknown:
                ambiguous = True
            ended = await self._resolve(operation, inputs, planned, refusal=refusal, ambiguous=ambiguous)
            if ended is not None:
                return ended
            await anyio.sleep(pause_s)
            pause_s *= 3
        raise self._unknown(operation)

    async def look_again(self, operation: Operation) -> bool:
        """Finish a failed operation whose post landed late after all; tells whether it did."""
        with self._claim(operation.id):
            planned = (await self._db.run(lambda conn, _now: journal.parts(conn, operation.id)))[2]
            signed = await self._restored(operation, planned)
            if len(signed) != len(planned):
                return False
            await self._finish(operation, planned, signed)
            return True

    async def _post(
        self, operation: Operation, inputs: Sequence[Proof], planned: Sequence[Output]
    ) -> list[BlindSignature]:
        client = self._mints.client(operation.mint)
        messages = [output.message() for output in planned]
        if operation.kind == "mint":
            return await client.mint(operation.quote_id or "", messages)
        return await client.swap(inputs, messages)

    async def _resolve(
        self,
        operation: Operation,
        inputs: Sequence[Proof],
        planned: Sequence[Output],
        *,
        refusal: MintRefused | None,
        ambiguous: bool,
    ) -> Operation | None:
        """End the operation by the mint's state, or return None where it should be posted again."""
        try:
            states, quote_state = await self._ask_states(operation, inputs)
            signed = await self._restored(operation, planned)
        except MintError as error:
            raise self._unknown(operation) from error
        verdict = decide(
            signed=len(signed),
            outputs=len(planned),
            refused=refusal is not None,
            foreign=operation.kind in _FOREIGN and not ambiguous,
            input_states=states.values(),
            quote_state=quote_state,
        )
        match verdict:
            case Verdict.FINISH:
                return await self._finish(operation, planned, signed)
            case Verdict.POST_AGAIN:
                return None
            case Verdict.WAIT:
                raise self._unknown(operation)
        reason = _why(verdict, refusal)
        await self._close(operation, verdict, states, reason.message, may_land=ambiguous)
        raise reason

    async def _ask_states(
        self, operation: Operation, inputs: Sequence[Proof]
    ) -> tuple[dict[str, ProofState], QuoteState | None]:
        client = self._mints.client(operation.mint)
        if operation.kind == "mint":
            return {}, (await client.mint_quote(operation.quote_id or "")).state
        return await client.check_state([proof.Y for proof in inputs]), None

    async def _restored(self, operation: Operation, planned: Sequence[Output]) -> list[BlindSignature]:
        found = await self._mints.client(operation.mint).restore([o.message() for o in planned])
        return [found[o.blinded] for o in planned if o.blinded in found]

    async def _finish(
        self, operation: Operation, planned: Sequence[Output], signatures: Sequence[BlindSignature]
    ) -> Operation:
        keysets = self._mints.keysets(operation.mint)
        made = await to_thread.run_sync(make_proofs, self._seed, keysets, planned, signatures)
        return await self._db.run(self._finish_now, operation, planned, made)

    def _finish_now(
        self, conn: Connection, now: float, operation: Operation, planned: Sequence[Output], made: list[Proof]
    ) -> Operation:
        journal.finish(conn, operation, planned, made, self._participants, now)
        return journal.load(conn, operation.id)

    async def _close(
        self,
        operation: Operation,
        verdict: Verdict,
        states: Mapping[str, ProofState],
        error: str,
        *,
        may_land: bool,
    ) -> None:
        await self._db.run(
            lambda conn, now: journal.fail(
                conn, operation, verdict, states, self._participants, error=error, may_land=may_land, now=now
            )
        )

    @contextmanager
    def _claim(self, operation_id: str) -> Iterator[None]:
        if operation_id in self._active:
            raise OutcomeUnknown("the operation is being carried out already", operation_id)
        self._active.add(operation_id)
        try:
            yield
        finally:
            self._active.discard(operation_id)

    @staticmethod
    def _unknown(operation: Operation) -> OutcomeUnknown:
        return OutcomeUnknown(
            "the mint's answer is not known yet: it is journalled and will be settled by recovery",
            operation.id,
        )


def _why(verdict: Verdict, refusal: MintRefused | None) -> OtrtaError:
    match verdict:
        case Verdict.FAIL_SPENT:
            return TokenSpent("the token has been spent already")
        case Verdict.FAIL_PENDING:
            return TokenPending("the token is being spent somewhere else right now: try again later")
    return refusal or MintRefused("the mint did not carry it out", 400)
