"""Carrying out journalled operations: post, and where the outcome is unknown let the mint's state decide."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import anyio
from sqlalchemy import Connection

from otrta_core import LockError, OtrtaError, Proof
from otrta_wallet import closing, journal, rate_limit, reasons
from otrta_wallet.closing import Failure, Payment
from otrta_wallet.decisions import Verdict, decide, decide_melt
from otrta_wallet.errors import (
    MintBusy,
    MintError,
    MintRefused,
    MintUnreachable,
    OutcomeUnknown,
)
from otrta_wallet.evidence import ask, ask_signatures, ask_states
from otrta_wallet.finishing import Finishing
from otrta_wallet.lock_keys import LockKeys
from otrta_wallet.melt_evidence import are_spent, ask_change, ask_melt
from otrta_wallet.mint_book import MintBook
from otrta_wallet.mint_client import MINT_PATH, SWAP_PATH, ProofState
from otrta_wallet.records import Operation, OperationKind, Output
from otrta_wallet.renewal import Renewal
from otrta_wallet.transactions import Transactions
from otrta_wallet.waiting import WAITS_FOR_OTHERS_S, backing_off
from otrta_wallet.workers import Worker

LANDS_WITHIN_S = 60.0
"""How long after a post without an answer the mint may still begin to carry it out."""
_PAUSES_S = (0.15, 0.45, 1.35)
"""How long to wait after each post that is to be repeated; there are as many posts as pauses."""
_SECOND_LOOK_S = 1.0
NO_REASON = 0
"""The code under which Nutshell answers whatever went wrong inside it, such as a database that was busy."""
_FOREIGN = frozenset({"receive", "redeem", "offline", "batch"})
_OURS = frozenset({"swap", "lock", "mint", "melt"})
_STRANGE = frozenset({Verdict.FAIL_SPENT, Verdict.FAIL_PAID})
_PATHS: Mapping[OperationKind, str] = {"mint": MINT_PATH}


@dataclass(slots=True)
class _Running:
    """An operation that a task of this process is carrying out, and how that ended."""

    ended: anyio.Event = field(default_factory=anyio.Event)
    result: Operation | None = None
    error: OtrtaError | None = None


@dataclass(slots=True)
class _Attempt:
    """An operation on its way, and what is known of its posts.

    Attributes:
        recovering: whether its caller was told before that it is journalled.
        unanswered_at: when the last post without an answer began, in unix seconds; None for none.
        refusal: the mint's answer to the last post, where that was one.
        was_busy: whether the mint said to the last post that it is asked too much.
        unexplained: how many posts the mint refused with ``NO_REASON``.
    """

    operation: Operation
    inputs: Sequence[Proof]
    planned: Sequence[Output]
    recovering: bool
    unanswered_at: float | None = None
    refusal: MintRefused | None = None
    was_busy: bool = False
    unexplained: int = 0

    @property
    def refused(self) -> bool:
        """Whether the mint has said no: with a reason, or again and again without."""
        if self.refusal is None:
            return False
        return self.refusal.mint_code != NO_REASON or self.unexplained >= len(_PAUSES_S)


class _NotOurs(Exception):
    """Another living worker carries the operation out, or it is closed: nothing of it may be posted here."""


class Executor:
    """Takes prepared operations to their end.

    Of several workers on one database the operation's owner does it. Before each post, and in the same
    transaction as each end that gives the inputs back, the owner looks whether it still is the owner. What
    the mint has signed may be stored by anybody, once.
    """

    def __init__(
        self,
        transactions: Transactions,
        mints: MintBook,
        seed: bytes,
        lock_keys: LockKeys,
        participants: Sequence[journal.Participant],
        worker: Worker,
    ) -> None:
        self._worker = worker
        self._db = transactions
        self._mints = mints
        self._lock_keys = lock_keys
        self.participants = participants
        self._renewal = Renewal(transactions, mints, seed)
        self._finishing = Finishing(transactions, mints, seed, participants)
        self._active: dict[str, _Running] = {}
        self._left_open: set[str] = set()  # may have a post under way, of a task that was cancelled

    def is_active(self, operation_id: str) -> bool:
        """Tell whether this process is carrying the operation out right now."""
        return operation_id in self._active

    async def carry_out(self, operation: Operation, *, ambiguous: bool = False) -> Operation:
        """Post a prepared operation and store what came of it.

        Of several tasks that carry out the same operation one does it, and the others get the same end.
        Where another living worker does it, its end is waited for; a dead one's operation is taken over.

        Args:
            operation: as it was when it was prepared.
            ambiguous: whether an earlier post may have reached the mint, as after a crash.

        Raises:
            MintUnreachable: no byte was sent; the operation is closed, its inputs are where they were.
            MintRefused: the mint said no; closed likewise.
            TokenSpent: inputs were spent by somebody else; closed.
            TokenPending: somebody else is spending the inputs; closed.
            OutcomeUnknown: the operation stays prepared, and ``recover`` takes it up again.

        Cancelled, it stays prepared or is done; either way nothing is lost.
        """
        while (other := self._active.get(operation.id)) is not None:
            await other.ended.wait()
            if other.result is not None:
                return other.result
            if other.error is not None:
                raise other.error
        running = self._active[operation.id] = _Running()
        ambiguous = ambiguous or operation.id in self._left_open
        self._left_open.add(operation.id)
        try:
            running.result = await self._carry_out(operation.id, ambiguous)
        except OtrtaError as error:
            running.error = error
            raise
        finally:
            del self._active[operation.id]
            running.ended.set()
            if running.result is not None or not isinstance(running.error, OutcomeUnknown | None):
                self._left_open.discard(operation.id)
        return running.result

    async def look_again(self, operation: Operation) -> bool:
        """Finish a failed operation whose post landed late after all, or store change of a melt that did.

        Tells whether there was anything.

        Raises:
            MintError: the mint could not be asked, or answered nonsense.
        """
        if operation.id in self._active:
            return False
        running = self._active[operation.id] = _Running()
        try:
            operation, (ys, inputs, planned) = await self._db.run(_load, operation.id)
            await self._mints.know(operation.mint, _keysets_of(inputs, planned))
            if operation.kind == "melt":
                return await self._look_at_melt(operation, ys, inputs, planned)
            if not planned:
                return False
            client = self._mints.client(operation.mint)
            if not (await ask_states(client, operation, ys)).given_up:
                return False
            signed = await ask_signatures(client, planned)
            if len(signed) != len(planned):
                return False
            return (await self._finishing.finish(operation, planned, signed)).state == "done"
        finally:
            del self._active[operation.id]
            running.ended.set()

    async def _carry_out(self, operation_id: str, recovering: bool) -> Operation:
        patience = backing_off(WAITS_FOR_OTHERS_S)
        while True:
            with suppress(_NotOurs):
                return await self._as_owner(operation_id, recovering)
            recovering = True
            if not await patience():
                raise reasons.unknown(await self._db.run(lambda conn, _now: journal.load(conn, operation_id)))

    async def _as_owner(self, operation_id: str, recovering: bool) -> Operation:
        # read anew: the caller may have seen it before somebody else closed it
        operation, (_, inputs, planned), taken_over = await self._db.run(_take_up, operation_id)
        if operation.state != "prepared":
            return reasons.as_it_ended(operation)
        await self._mints.know(operation.mint, _keysets_of(inputs, planned))
        attempt = _Attempt(operation, inputs, planned, recovering or taken_over)
        if attempt.recovering:
            attempt.unanswered_at = min(operation.changed_at, self._db.now())
            if attempt.unanswered_at < operation.changed_at:  # the clock was set back: it counts from now on
                await self._note_post(operation, attempt.unanswered_at)
            ended = await self._post_where_kept(attempt) or await self._resolve(attempt)
            if ended is not None:
                return ended
        patient_until = anyio.current_time() + rate_limit.WAIT_S
        for pause_s in _PAUSES_S:
            ended = await self._post(attempt)
            while ended is None and attempt.was_busy and anyio.current_time() < patient_until:
                ended = await self._post(attempt)  # which waits for the end of the mint's own pause
            if ended is not None:
                return ended
            await anyio.sleep(pause_s)
        raise reasons.unknown(operation)

    async def _post(self, attempt: _Attempt) -> Operation | None:
        return (
            await self._try(attempt) or await self._post_where_kept(attempt) or await self._resolve(attempt)
        )

    async def _post_where_kept(self, attempt: _Attempt) -> Operation | None:
        """Post the identical body once more, where the mint lists that it then repeats its answer (NUT-19).

        Whether it does so truly makes no difference: the same post is always safe, and decides nothing.
        """
        operation, unanswered_at = attempt.operation, attempt.unanswered_at
        if unanswered_at is None or attempt.refusal is not None or attempt.was_busy:
            return None
        if operation.kind == "melt":  # nobody wants to pay by surprise, long after he asked for it
            return None
        try:
            info = await self._mints.info(operation.mint, tries=1)
        except MintError:
            return None
        if self._db.now() - unanswered_at >= info.answers_kept_s(_PATHS.get(operation.kind, SWAP_PATH)):
            return None
        return await self._try(attempt)

    async def _try(self, attempt: _Attempt) -> Operation | None:
        """Post once, and finish the operation where the mint answered with its signatures."""
        operation = attempt.operation
        attempt.refusal, attempt.was_busy = None, False
        try:
            waited = await self._mints.client(operation.mint).await_turn()
            # a crash during this post must leave its time behind
            if waited or attempt.unanswered_at is not None:
                await self._note_post(operation, self._db.now())
            elif self._worker.shared:
                await self._note_post(operation, None)
            return await self._send(attempt)
        except MintUnreachable as error:
            if attempt.unanswered_at is None:
                await self._close(attempt, Verdict.FAIL_REFUSED, {}, error, never_sent=True)
                raise
        except MintRefused as error:
            attempt.refusal = error
            attempt.unexplained += error.mint_code == NO_REASON
        except OutcomeUnknown as error:
            attempt.unanswered_at = self._db.now()
            attempt.was_busy = isinstance(error, MintBusy)
        if attempt.unanswered_at is not None:
            await self._note_post(operation, attempt.unanswered_at)
        return None

    async def _send(self, attempt: _Attempt) -> Operation:
        operation = attempt.operation
        client = self._mints.client(operation.mint)
        messages = [output.message() for output in attempt.planned]
        match operation.kind:
            case "melt":
                reply = await client.melt(operation.quote_id or "", attempt.inputs, messages)
                change = reply.change or ()
                if len(change) > len(attempt.planned):
                    raise OutcomeUnknown("the mint's change is more than it was asked for", operation.id)
                if reply.state != "PAID" or not await are_spent(client, attempt.inputs):
                    raise OutcomeUnknown("the mint has not said that the invoice is paid", operation.id)
                signed = list(zip(attempt.planned, change, strict=False))
                payment = Payment(reply.payment_preimage, operation.fee, change_is_all=True)
                return await self._finishing.finish_melt(operation, attempt.inputs, signed, payment)
            case "mint":
                signatures = await client.mint(operation.quote_id or "", messages)
            case _:
                try:
                    inputs = await self._lock_keys.unlocked(attempt.inputs, attempt.planned)
                except LockError as error:  # it could be opened when it was prepared: the clock has moved
                    raise MintRefused(error.message, 400) from None
                signatures = await client.swap(inputs, messages)
        return await self._finishing.finish(operation, attempt.planned, signatures)

    async def _resolve(self, attempt: _Attempt) -> Operation | None:
        """End the operation by the mint's state, or return None where it should be posted (again)."""
        if attempt.operation.kind == "melt":
            return await self._resolve_melt(attempt)
        operation, unanswered_at = attempt.operation, attempt.unanswered_at
        try:
            client = self._mints.client(operation.mint)
            ys = [proof.Y for proof in attempt.inputs]
            evidence = await ask(client, operation, ys, attempt.planned, _SECOND_LOOK_S)
        except MintError as error:
            raise reasons.unknown(operation) from error
        verdict = decide(
            signed=len(evidence.signatures),
            outputs=len(attempt.planned),
            refused=attempt.refused,
            foreign=operation.kind in _FOREIGN and unanswered_at is None,
            may_land=self._may_land(attempt),
            input_states=list(evidence.states.values()),
            quote_state=evidence.quote_state,
        )
        match verdict:
            case Verdict.FINISH:
                return await self._finishing.finish(operation, attempt.planned, evidence.signatures)
            case Verdict.POST_AGAIN:
                return None
            case Verdict.WAIT:
                raise reasons.unknown(operation)
        return await self._give_up(attempt, verdict, evidence.states)

    async def _resolve_melt(self, attempt: _Attempt) -> Operation | None:
        operation = attempt.operation
        client = self._mints.client(operation.mint)
        ys = [proof.Y for proof in attempt.inputs]
        try:
            evidence = await ask_melt(client, operation, ys, attempt.planned, _SECOND_LOOK_S)
        except MintError as error:
            raise reasons.unknown(operation) from error
        verdict = decide_melt(
            quote_state=evidence.quote_state,
            input_states=list(evidence.states.values()),
            signed=bool(evidence.change),
            refused=attempt.refusal is not None,
            busy=attempt.was_busy,
            may_land=self._may_land(attempt),
        )
        match verdict:
            case Verdict.FINISH:
                return await self._finishing.finish_paid(operation, attempt.inputs, evidence)
            case Verdict.POST_AGAIN:
                return None
            case Verdict.WAIT:
                raise reasons.unknown(operation)
        return await self._give_up(attempt, verdict, evidence.states)

    def _may_land(self, attempt: _Attempt) -> bool:
        at = attempt.unanswered_at
        return at is not None and self._db.now() - at < LANDS_WITHIN_S

    async def _give_up(
        self, attempt: _Attempt, verdict: Verdict, states: Mapping[str, ProofState]
    ) -> Operation | None:
        """Close an operation that did not happen, unless new outputs give it another try."""
        if await self._renewed(attempt, verdict):
            return None
        reason = reasons.why_failed(attempt.operation, verdict, attempt.refusal)
        await self._close(attempt, verdict, states, reason)
        raise reason

    async def _renewed(self, attempt: _Attempt, verdict: Verdict) -> bool:
        """Give the operation new outputs where its old ones are the reason that it was refused."""
        try:
            if verdict is Verdict.NEW_OUTPUTS:
                attempt.planned = await self._renewal.past_used_counters(attempt.operation, attempt.planned)
                return True
            if verdict is not Verdict.FAIL_REFUSED or attempt.refusal is None or not attempt.planned:
                return False
            planned = await self._renewal.on_active_keyset(
                attempt.operation, attempt.planned, replan=attempt.unanswered_at is None
            )
        except OtrtaError as error:
            if verdict is Verdict.NEW_OUTPUTS:
                raise reasons.unknown(attempt.operation) from error
            return False
        attempt.planned = planned or attempt.planned
        return planned is not None

    async def _look_at_melt(
        self,
        operation: Operation,
        ys: Sequence[str],
        inputs: Sequence[Proof],
        planned: Sequence[Output],
    ) -> bool:
        client = self._mints.client(operation.mint)
        if operation.state == "failed":
            evidence = await ask_melt(client, operation, ys, planned, _SECOND_LOOK_S)
            if evidence.quote_state != "PAID" or evidence.contradicts_itself:
                return False
            return (await self._finishing.finish_paid(operation, inputs, evidence)).state == "done"
        signed = await ask_change(client, [blank for blank in planned if blank.amount == 0])
        return bool(await self._finishing.add_late_change(operation, inputs, signed))

    async def _close(
        self,
        attempt: _Attempt,
        verdict: Verdict,
        states: Mapping[str, ProofState],
        reason: OtrtaError,
        *,
        never_sent: bool = False,
    ) -> None:
        # what only we could spend was spent, says the mint: it may only not have found our outputs yet
        strange = verdict in _STRANGE and attempt.operation.kind in _OURS
        may_land = attempt.unanswered_at is not None or verdict is Verdict.FAIL_PENDING or strange
        failure = Failure(verdict, reason.message, states, may_land, attempt.recovering, never_sent)

        def close(conn: Connection, now: float) -> bool:
            return journal.hold(conn, attempt.operation.id) and closing.fail(
                conn, attempt.operation, failure, self.participants, now
            )

        if not await self._db.run(close):
            raise _NotOurs

    async def _note_post(self, operation: Operation, at: float | None) -> None:
        if not await self._db.run(lambda conn, _now: journal.note_post(conn, operation.id, at)):
            raise _NotOurs


def _load(
    conn: Connection, _now: float, operation_id: str
) -> tuple[Operation, tuple[list[str], list[Proof], list[Output]]]:
    return journal.load(conn, operation_id), journal.parts(conn, operation_id)


def _take_up(
    conn: Connection, now: float, operation_id: str
) -> tuple[Operation, tuple[list[str], list[Proof], list[Output]], bool]:
    """Load an operation to carry it out; the last says whether it was a dead worker's until now."""
    taken_over = False
    if not journal.hold(conn, operation_id):
        taken_over = journal.take_over(conn, operation_id, now)
        if not taken_over and journal.load(conn, operation_id).state == "prepared":
            raise _NotOurs
    return *_load(conn, now, operation_id), taken_over


def _keysets_of(inputs: Sequence[Proof], planned: Sequence[Output]) -> set[str]:
    return {proof.id for proof in inputs} | {output.keyset_id for output in planned}
