"""How operations end: the two ways out of ``prepared``, and what each kind leaves behind.

Each end is one transaction: inputs are given up only together with what came of them. A batch ends together
with its members: done with all of them, or dissolved. A token that the mint refused goes back to ``stored``
where this wallet is the one that has to keep it: one that was kept before, or counted as paid before its
swap, and one whose giver was told that it is journalled.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, select, update

from otrta_core import Proof, input_fee
from otrta_wallet import journal, quotes, store
from otrta_wallet.decisions import Verdict
from otrta_wallet.mint_client import ProofState
from otrta_wallet.records import (
    Operation,
    OperationKind,
    Output,
    StoredMeltState,
    StoredQuoteState,
    TransferState,
)
from otrta_wallet.schema import ProofStatus, operation_inputs, proofs

WATCH_S = 86_400.0
"""How long a failed operation whose post may still land is looked at, and a melt whose change may come."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why and how an operation did not happen.

    Attributes:
        verdict: of ``decisions``.
        error: for people, never a secret.
        states: of the inputs at the mint, as far as asked.
        may_land: whether a post without an answer may still reach the mint; the operation is then watched.
        promised: whether the giver of a token was told that it is journalled.
        never_sent: whether no byte of its outputs has left.
    """

    verdict: Verdict
    error: str
    states: Mapping[str, ProofState]
    may_land: bool = False
    promised: bool = False
    never_sent: bool = False


@dataclass(frozen=True, slots=True)
class Payment:
    """How the payment of an invoice ended.

    Attributes:
        preimage: its receipt, where the mint gave one.
        input_fee: of the inputs, in their unit.
        change_is_all: whether the mint itself said that this is all the change there is.
    """

    preimage: str | None = field(repr=False)
    input_fee: int
    change_is_all: bool


def finish(
    conn: Connection,
    operation: Operation,
    planned: Sequence[Output],
    made: Sequence[Proof],
    participants: Sequence[journal.Participant],
    now: float,
    payment: Payment | None = None,
) -> bool:
    """Store the new proofs and give up the inputs.

    Args:
        conn: in the caller's transaction.
        operation: prepared, or failed and seen to have happened after all.
        planned: the outputs that were signed; of a melt those of the blanks that came back, with amounts.
        made: their proofs.
        participants: who hears of it.
        now: unix time.
        payment: of a melt, how it ended.

    Returns:
        False, and nothing changed, where somebody else has closed it already.
    """
    values: dict[str, Any] = {}
    if payment is not None:
        operation, values = _paid(conn, operation, made, payment, now)
    if not journal.set_state(conn, operation.id, was=operation.state, now_is="done", now=now, **values):
        return False
    all_ended = [operation, *_finished_members(conn, operation, now)]
    _lock_transfers(conn, *all_ended)
    if payment is not None:
        _note_payment(conn, operation, planned, payment)
    holders = [(proof, output.holder) for proof, output in zip(made, planned, strict=True)]
    store.insert_proofs(
        conn, holders, mint=operation.mint, unit=operation.unit, status=ProofStatus.AVAILABLE, now=now
    )
    _spend_inputs(conn, operation, now)
    _close_emptied_transfers(conn, *all_ended, now=now)
    for ended in all_ended:
        _FINISHED[ended.kind](conn, ended, now)
        for participant in participants:
            participant.operation_done(conn, replace(ended, state="done"))
    return True


def finish_late_too(
    conn: Connection,
    operation_id: str,
    planned: Sequence[Output],
    made: Sequence[Proof],
    participants: Sequence[journal.Participant],
    now: float,
    payment: Payment | None = None,
) -> bool:
    """Do as ``finish``, whatever another worker has made of the operation while the mint answered.

    What the mint has signed has happened. One that was given up meanwhile must not look undone to whoever
    waits for it, nor its inputs stay free to be spent again.
    """
    operation = journal.load_locked(conn, operation_id)
    return operation.state != "done" and finish(conn, operation, planned, made, participants, now, payment)


def fail(
    conn: Connection,
    operation: Operation,
    failure: Failure,
    participants: Sequence[journal.Participant],
    now: float,
) -> bool:
    """Close an operation that is prepared or waits, and did not happen; its inputs go where they belong.

    Returns:
        False, and nothing changed, where somebody else has closed it already.
    """
    promised = failure.promised and operation.kind == "receive" and operation.reference is None
    keep = operation.kind in _KEPT or promised
    back = keep and failure.verdict is not Verdict.FAIL_SPENT
    end: dict[str, Any] = {"now_is": "stored" if back else "failed"}
    if back and promised:
        end["kind"] = "redeem"
    if (failure.may_land or operation.kind == "batch") and not back:
        end["watch_until"] = now + WATCH_S
    if not journal.set_state(conn, operation.id, was=operation.state, now=now, error=failure.error, **end):
        return False
    if operation.kind == "batch":
        _dissolve(conn, operation, failure, participants, now)
        return True
    _lock_transfers(conn, operation)
    if not back:
        held = store.proofs_with(conn, status=_INPUT_STATUS[operation.kind], holder=operation.id)
        spent = [p for p in held if failure.states.get(p.Y) == "SPENT"]
        kept = [p for p in held if failure.states.get(p.Y) != "SPENT"]
        if keep and kept:
            kept = _keep_the_rest(conn, operation, kept, now)
        _FAILED[operation.kind](conn, operation, failure.verdict, spent, kept, now)
        _close_emptied_transfers(conn, operation, now=now)
    if failure.never_sent:  # after the proofs, in the order in which planning locks them
        store.give_back_counters(conn, operation.id)
    for participant in participants:
        participant.operation_failed(conn, journal.load(conn, operation.id), failure.verdict)
    return True


def _finished_members(conn: Connection, batch: Operation, now: float) -> list[Operation]:
    """Close what a batch has carried out, also what was given up before the batch landed late."""
    if batch.kind != "batch":
        return []
    return [
        member
        for member in journal.members(conn, batch.id)
        if member.state != "done"
        and journal.set_state(conn, member.id, was=member.state, now_is="done", now=now)
    ]


def _dissolve(
    conn: Connection,
    batch: Operation,
    failure: Failure,
    participants: Sequence[journal.Participant],
    now: float,
) -> None:
    """Let the members of a batch go: those with a spent proof have failed, the others wait again."""
    for member in journal.members(conn, batch.id):
        if member.state != "joined":
            continue
        ys = journal.parts(conn, member.id)[0]
        states = {y: failure.states[y] for y in ys if y in failure.states}
        if "SPENT" in states.values():
            spent = Failure(
                Verdict.FAIL_SPENT, "the token has been spent already", states, promised=failure.promised
            )
            fail(conn, member, spent, participants, now)
        else:
            journal.set_state(conn, member.id, was="joined", now_is="waiting", now=now)


_KEPT: frozenset[OperationKind] = frozenset({"redeem", "offline"})
_INPUT_STATUS: Mapping[OperationKind, ProofStatus] = {
    "mint": ProofStatus.RESERVED,  # has none
    "receive": ProofStatus.INCOMING,
    "redeem": ProofStatus.INCOMING,
    "offline": ProofStatus.INCOMING,
    "swap": ProofStatus.RESERVED,
    "lock": ProofStatus.RESERVED,
    "reclaim": ProofStatus.RESERVED,
    "melt": ProofStatus.RESERVED,
    "batch": ProofStatus.INCOMING,  # held by its members
}


def _paid(
    conn: Connection, op: Operation, made: Sequence[Proof], payment: Payment, now: float
) -> tuple[Operation, dict[str, Any]]:
    """Say what a melt has cost, and whether more of its change may come."""
    fee = journal.input_amount(conn, op.id) - op.amount - sum(proof.amount for proof in made)
    values: dict[str, Any] = {"fee": fee}
    owed = _owed(conn, op, fee, payment)
    if owed or (fee > payment.input_fee and not payment.change_is_all):
        values["watch_until"] = now + WATCH_S
    return replace(op, fee=fee), values


def _owed(conn: Connection, op: Operation, fee: int, payment: Payment) -> int:
    quote = quotes.load_melt_quote(conn, op.quote_id or "")
    return 0 if quote is None else max(0, fee - payment.input_fee - quote.fee_reserve)


def _note_payment(conn: Connection, op: Operation, change: Sequence[Output], payment: Payment) -> None:
    for output in change:
        journal.note_change(conn, op.id, output)
    quotes.set_melt_state(
        conn,
        op.quote_id or "",
        was=("open", "paying", "paid", "expired"),
        now_is="paid",
        preimage=payment.preimage,
        owed=_owed(conn, op, op.fee, payment),
    )


def add_late_change(
    conn: Connection, operation: Operation, change: Sequence[Output], made: Sequence[Proof], now: float
) -> int:
    """Store change that the mint signed after its melt was done, and return what is new of it."""
    new = [
        (proof, output.holder)
        for output, proof in zip(change, made, strict=True)
        if journal.note_change(conn, operation.id, output)
    ]
    amount = sum(proof.amount for proof, _ in new)
    if amount:
        mint, unit = operation.mint, operation.unit
        store.insert_proofs(conn, new, mint=mint, unit=unit, status=ProofStatus.AVAILABLE, now=now)
        journal.note_late_change(conn, operation.id, amount)
        quotes.note_repaid(conn, operation.quote_id or "", amount)
        store.record(conn, "change", amount, unit=unit, mint=mint, reference=operation.id, now=now)
    return amount


def _lock_transfers(conn: Connection, *ended: Operation) -> None:
    """Lock the transfers that this end may close, before any proof (``otrta_wallet.transactions``)."""
    ids = set(journal.origins(conn, *(op.id for op in ended)).values())
    ids |= {op.reference for op in ended if op.kind == "reclaim" and op.reference is not None}
    store.lock_transfers(conn, ids)


def _spend_inputs(conn: Connection, op: Operation, now: float) -> None:
    ys = select(operation_inputs.c.y).where(operation_inputs.c.operation_id == op.id)
    store.lock_proofs(conn, conn.execute(ys).scalars())
    values = {"status": ProofStatus.SPENT, "holder": op.id, "changed_at": now}
    conn.execute(update(proofs).where(proofs.c.y.in_(ys)).values(values))


def _close_emptied_transfers(conn: Connection, *ended: Operation, now: float) -> None:
    """Close transfers whose last proofs came back to us in somebody's token."""
    for transfer_id in sorted(set(journal.origins(conn, *(op.id for op in ended)).values())):
        if not store.proofs_with(conn, status=ProofStatus.SENT, holder=transfer_id):
            store.set_transfer_state(conn, transfer_id, was=("open",), now_is="claimed", now=now)


def _keep_the_rest(conn: Connection, op: Operation, kept: list[Proof], now: float) -> list[Proof]:
    """Store the rest of a token of which others have spent a part; returns it where it is worth nothing."""
    keysets = store.load_keysets(conn).get(op.mint, {})
    fee = input_fee(kept, {keyset.id: keyset.input_fee_ppk for keyset in keysets.values()})
    net = sum(proof.amount for proof in kept) - fee
    if net <= 0:
        return kept
    # what counted as paid stays whose it was, and is swapped like what could not be swapped before
    kind: OperationKind = "offline" if op.kind == "offline" else "redeem"
    reference = op.reference if op.kind == "offline" else None
    ids: dict[str, Any] = {"id": uuid.uuid4().hex, "kind": kind, "state": "stored", "reference": reference}
    rest = replace(op, **ids, amount=net, fee=fee, created_at=now, changed_at=now)
    journal.create(conn, rest, kept)
    came_from = journal.origins(conn, op.id)
    for proof in kept:
        if proof.Y in came_from:
            journal.note_origin(conn, rest.id, proof.Y, came_from[proof.Y])
    _move(conn, op, kept, ProofStatus.INCOMING, rest.id, now)
    return []


def _move(
    conn: Connection,
    op: Operation,
    moved: Sequence[Proof],
    now_is: ProofStatus,
    holder: str | None,
    now: float,
) -> None:
    store.move_proofs(
        conn,
        [proof.Y for proof in moved],
        was=_INPUT_STATUS[op.kind],
        now_is=now_is,
        holder=holder,
        was_held_by=op.id,
        now=now,
    )


def _mint_finished(conn: Connection, op: Operation, now: float) -> None:
    quotes.set_quote_state(
        conn, op.quote_id or "", was=("minting", "open", "lost", "expired"), now_is="issued"
    )
    store.record(conn, "invoice", op.amount, unit=op.unit, mint=op.mint, now=now)


def _receive_finished(conn: Connection, op: Operation, now: float) -> None:
    if op.reference is None:
        store.record(conn, "receive", op.amount, unit=op.unit, fee=op.fee, mint=op.mint, now=now)


def _redeem_finished(conn: Connection, op: Operation, now: float) -> None:
    (_receive_finished if op.reference is None else _swap_finished)(conn, op, now)


def _swap_finished(conn: Connection, op: Operation, now: float) -> None:
    if op.fee:
        store.record(conn, "swap", -op.fee, unit=op.unit, fee=op.fee, mint=op.mint, now=now)


def _lock_finished(conn: Connection, op: Operation, now: float) -> None:
    transfer_id = op.reference or ""
    made = store.proofs_with(conn, status=ProofStatus.HELD, holder=transfer_id)
    ys = [proof.Y for proof in made]
    store.move_proofs(conn, ys, was=ProofStatus.HELD, now_is=ProofStatus.SENT, holder=transfer_id, now=now)
    sent = store.complete_transfer(conn, transfer_id, made, now)
    _swap_finished(conn, op, now)
    if sent.reference is None:
        store.record(conn, "send", -sent.amount, unit=op.unit, mint=op.mint, reference=transfer_id, now=now)


def _reclaim_finished(conn: Connection, op: Operation, now: float) -> None:
    store.set_transfer_state(
        conn, op.reference or "", was=("open", "reclaiming"), now_is="reclaimed", now=now
    )
    transfer = next(iter(store.load_transfers(conn, transfer_id=op.reference)), None)
    if transfer is not None and transfer.reference is None:
        store.record(conn, "reclaim", op.amount, unit=op.unit, fee=op.fee, mint=op.mint, now=now)


def _melt_finished(conn: Connection, op: Operation, now: float) -> None:
    gone = op.amount + op.fee
    store.record(conn, "pay", -gone, unit=op.unit, fee=op.fee, mint=op.mint, reference=op.id, now=now)


def _batch_finished(conn: Connection, op: Operation, now: float) -> None:
    if op.amount:
        store.record(conn, "swap", op.amount, unit=op.unit, mint=op.mint, now=now)


_FINISHED: Mapping[OperationKind, Callable[[Connection, Operation, float], None]] = {
    "mint": _mint_finished,
    "receive": _receive_finished,
    "redeem": _redeem_finished,
    "offline": _receive_finished,
    "swap": _swap_finished,
    "lock": _lock_finished,
    "reclaim": _reclaim_finished,
    "melt": _melt_finished,
    "batch": _batch_finished,
}


def _mint_failed(
    conn: Connection,
    op: Operation,
    verdict: Verdict,
    _spent: Sequence[Proof],
    _kept: Sequence[Proof],
    _now: float,
) -> None:
    now_is: StoredQuoteState = "lost" if verdict is Verdict.FAIL_SPENT else "open"
    quotes.set_quote_state(conn, op.quote_id or "", was=("minting",), now_is=now_is)


def _token_failed(
    conn: Connection,
    op: Operation,
    _verdict: Verdict,
    spent: Sequence[Proof],
    kept: Sequence[Proof],
    now: float,
) -> None:
    came_from = journal.origins(conn, op.id)
    for proof in kept:
        if proof.Y in came_from:
            holder = came_from[proof.Y]
            _move(conn, op, [proof], ProofStatus.SENT, holder, now)
            # the rest of the token may have been claimed or taken back meanwhile: this part still can be
            store.set_transfer_state(conn, holder, was=("claimed", "reclaimed"), now_is="open", now=now)
    strangers = [proof.Y for proof in kept if proof.Y not in came_from]
    store.forget_proofs(conn, [*(proof.Y for proof in spent), *strangers])


def _swap_failed(
    conn: Connection,
    op: Operation,
    _verdict: Verdict,
    spent: Sequence[Proof],
    kept: Sequence[Proof],
    now: float,
) -> None:
    _move(conn, op, spent, ProofStatus.SPENT, op.id, now)
    _move(conn, op, kept, ProofStatus.AVAILABLE, None, now)
    if spent:
        lost = sum(proof.amount for proof in spent)
        store.record(conn, "lost", -lost, unit=op.unit, mint=op.mint, state="lost", now=now)


def _reclaim_failed(
    conn: Connection,
    op: Operation,
    _verdict: Verdict,
    spent: Sequence[Proof],
    kept: Sequence[Proof],
    now: float,
) -> None:
    _move(conn, op, spent, ProofStatus.SPENT, op.id, now)
    _move(conn, op, kept, ProofStatus.SENT, op.reference, now)
    now_is: TransferState = "claimed" if spent and not kept else "open"
    store.set_transfer_state(conn, op.reference or "", was=("reclaiming",), now_is=now_is, now=now)


def _melt_failed(
    conn: Connection,
    op: Operation,
    verdict: Verdict,
    spent: Sequence[Proof],
    kept: Sequence[Proof],
    now: float,
) -> None:
    _swap_failed(conn, op, verdict, spent, kept, now)
    now_is: StoredMeltState = "paid" if verdict is Verdict.FAIL_PAID else "open"
    quotes.set_melt_state(conn, op.quote_id or "", was=("paying",), now_is=now_is)


_FAILED: Mapping[
    OperationKind,
    Callable[[Connection, Operation, Verdict, Sequence[Proof], Sequence[Proof], float], None],
] = {
    "mint": _mint_failed,
    "receive": _token_failed,
    "redeem": _token_failed,
    "offline": _token_failed,
    "swap": _swap_failed,
    "lock": _swap_failed,
    "reclaim": _reclaim_failed,
    "melt": _melt_failed,
}
