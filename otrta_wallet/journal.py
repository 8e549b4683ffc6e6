"""The journal: every operation at a mint is a row, with its inputs and outputs, before anything is sent.

::

    stored ──plan──▶ prepared ──finish──▶ done
      ▲                 │
      └───refused───────┤ (kept tokens only: their proofs are still ours to swap)
                        └──fail──▶ failed

``finish`` and ``fail`` are the only ways out of ``prepared``. Each is one transaction: inputs are given up
only together with what came of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from sqlalchemy import Connection, Row, delete, insert, select, update

from otrta_core import Keyset, Proof
from otrta_wallet import store
from otrta_wallet.decisions import Verdict
from otrta_wallet.mint_client import ProofState
from otrta_wallet.outputs import make_outputs
from otrta_wallet.records import Operation, OperationKind, OperationState, Output
from otrta_wallet.schema import ProofStatus, operation_inputs, operations, outputs, proofs

WATCH_S = 86_400.0
"""How long a failed operation whose post may still land is looked at."""


class Participant(Protocol):
    """Somebody whose own rows must change in the same transaction as an operation."""

    def operation_done(self, conn: Connection, operation: Operation) -> None:
        """The operation's outputs are stored."""

    def operation_failed(self, conn: Connection, operation: Operation, verdict: Verdict) -> None:
        """The operation did not happen."""


def create(conn: Connection, operation: Operation, inputs: Sequence[Proof]) -> None:
    """Write a new operation and its inputs; the inputs' own rows are the caller's to move."""
    conn.execute(
        insert(operations).values(
            id=operation.id,
            kind=operation.kind,
            state=operation.state,
            mint=operation.mint,
            unit=operation.unit,
            amount=operation.amount,
            fee=operation.fee,
            quote_id=operation.quote_id,
            reference=operation.reference,
            created_at=operation.created_at,
            changed_at=operation.created_at,
        )
    )
    if inputs:
        conn.execute(
            insert(operation_inputs), [{"operation_id": operation.id, "y": proof.Y} for proof in inputs]
        )


def plan_outputs(
    conn: Connection,
    seed: bytes,
    operation_id: str,
    keyset: Keyset,
    amounts: Sequence[tuple[int, str | None]],
) -> list[Output]:
    """Take counters and write the outputs, in ascending order of amount (NUT-03)."""
    ordered = sorted(amounts, key=lambda item: item[0])
    first = store.take_counters(conn, keyset.id, len(ordered))
    planned = make_outputs(seed, keyset.id, first, ordered)
    conn.execute(delete(outputs).where(outputs.c.operation_id == operation_id))
    conn.execute(
        insert(outputs),
        [
            {
                "operation_id": operation_id,
                "position": o.position,
                "keyset_id": o.keyset_id,
                "counter": o.counter,
                "amount": o.amount,
                "blinded": o.blinded,
                "holder": o.holder,
            }
            for o in planned
        ],
    )
    return planned


def load(conn: Connection, operation_id: str) -> Operation:
    """Return an operation.

    Raises:
        KeyError: there is none of this id.
    """
    row = conn.execute(select(operations).where(operations.c.id == operation_id)).first()
    if row is None:
        raise KeyError(operation_id)
    return _operation(row)


def with_state(conn: Connection, state: OperationState) -> list[Operation]:
    """Return all operations in a state, oldest first."""
    query = select(operations).where(operations.c.state == state).order_by(operations.c.created_at)
    return [_operation(row) for row in conn.execute(query)]


def by_reference(conn: Connection, reference: str) -> list[Operation]:
    """Return the operations made for somebody's reference, oldest first."""
    query = select(operations).where(operations.c.reference == reference).order_by(operations.c.created_at)
    return [_operation(row) for row in conn.execute(query)]


def watched(conn: Connection, now: float) -> list[Operation]:
    """Return the failed operations whose post may still land."""
    query = select(operations).where(operations.c.state == "failed", operations.c.watch_until > now)
    return [_operation(row) for row in conn.execute(query)]


def parts(conn: Connection, operation_id: str) -> tuple[list[str], list[Proof], list[Output]]:
    """Return the Ys of the inputs, those inputs that are still stored, and the outputs in order."""
    ys = list(
        conn.execute(
            select(operation_inputs.c.y).where(operation_inputs.c.operation_id == operation_id)
        ).scalars()
    )
    known = store.proofs_by_y(conn, ys)
    inputs = sorted((known[y][0] for y in ys if y in known), key=lambda p: (p.amount, p.Y))
    query = select(outputs).where(outputs.c.operation_id == operation_id).order_by(outputs.c.position)
    planned = [
        Output(r.position, r.keyset_id, r.counter, r.amount, r.blinded, r.holder) for r in conn.execute(query)
    ]
    return ys, inputs, planned


def set_state(
    conn: Connection,
    operation_id: str,
    *,
    was: OperationState,
    now_is: OperationState,
    now: float,
    error: str | None = None,
    watch_until: float | None = None,
    **values: Any,
) -> bool:
    """Compare and set an operation's state; False where it was another."""
    query = update(operations).where(operations.c.id == operation_id, operations.c.state == was)
    changes = {"state": now_is, "changed_at": now, "error": error, "watch_until": watch_until, **values}
    return conn.execute(query.values(changes)).rowcount == 1


def finish(
    conn: Connection,
    operation: Operation,
    planned: Sequence[Output],
    made: Sequence[Proof],
    participants: Sequence[Participant],
    now: float,
) -> bool:
    """Store the new proofs and give up the inputs, in this one transaction.

    Returns:
        False, and nothing changed, where somebody else has finished it already.
    """
    if not set_state(conn, operation.id, was=operation.state, now_is="done", now=now):
        return False
    holders = [(proof, output.holder) for proof, output in zip(made, planned, strict=True)]
    store.insert_proofs(
        conn, holders, mint=operation.mint, unit=operation.unit, status=ProofStatus.AVAILABLE, now=now
    )
    _spend_inputs(conn, operation, now)
    _FINISHED[operation.kind](conn, operation, now)
    done = replace(operation, state="done")
    for participant in participants:
        participant.operation_done(conn, done)
    return True


def fail(
    conn: Connection,
    operation: Operation,
    verdict: Verdict,
    states: Mapping[str, ProofState],
    participants: Sequence[Participant],
    *,
    error: str,
    may_land: bool,
    now: float,
) -> bool:
    """Close an operation that did not happen and let its inputs go where they belong.

    ``states`` are those of the inputs at the mint, as far as asked; ``error`` is for people, never a
    secret; ``may_land`` says that a post without an answer may still reach the mint: the operation is then
    watched.

    Returns:
        False, and nothing changed, where somebody else has closed it already.
    """
    back_to_store = operation.kind == "redeem" and verdict is not Verdict.FAIL_SPENT
    if not set_state(
        conn,
        operation.id,
        was="prepared",
        now_is="stored" if back_to_store else "failed",
        now=now,
        error=error,
        watch_until=now + WATCH_S if may_land and not back_to_store else None,
    ):
        return False
    held = [p.Y for p in store.proofs_with(conn, status=_INPUT_STATUS[operation.kind], holder=operation.id)]
    spent = [y for y in held if states.get(y) == "SPENT"]
    kept = [y for y in held if states.get(y) != "SPENT"]
    _FAILED[operation.kind](conn, operation, spent, kept, back_to_store, now)
    failed = replace(operation, state="stored" if back_to_store else "failed", error=error)
    for participant in participants:
        participant.operation_failed(conn, failed, verdict)
    return True


def _operation(row: Row[Any]) -> Operation:
    return Operation(
        row.id,
        row.kind,
        row.state,
        row.mint,
        row.unit,
        row.amount,
        row.fee,
        row.quote_id,
        row.reference,
        row.error,
        row.created_at,
    )


_INPUT_STATUS: Mapping[OperationKind, ProofStatus] = {
    "mint": ProofStatus.RESERVED,  # has none
    "receive": ProofStatus.INCOMING,
    "redeem": ProofStatus.INCOMING,
    "swap": ProofStatus.RESERVED,
    "reclaim": ProofStatus.RESERVED,
}


def _spend_inputs(conn: Connection, operation: Operation, now: float) -> None:
    ys = conn.execute(
        select(operation_inputs.c.y).where(operation_inputs.c.operation_id == operation.id)
    ).scalars()
    values = {"status": ProofStatus.SPENT, "holder": operation.id, "changed_at": now}
    conn.execute(update(proofs).where(proofs.c.y.in_(list(ys))).values(values))


def _mint_finished(conn: Connection, op: Operation, now: float) -> None:
    store.set_quote_state(conn, op.quote_id or "", was="minting", now_is="issued")
    store.record(conn, "invoice", op.amount, unit=op.unit, mint=op.mint, now=now)


def _receive_finished(conn: Connection, op: Operation, now: float) -> None:
    if op.reference is None:
        store.record(conn, "receive", op.amount, unit=op.unit, fee=op.fee, mint=op.mint, now=now)


def _swap_finished(conn: Connection, op: Operation, now: float) -> None:
    if op.fee:
        store.record(conn, "swap", -op.fee, unit=op.unit, fee=op.fee, mint=op.mint, now=now)


def _reclaim_finished(conn: Connection, op: Operation, now: float) -> None:
    store.set_transfer_state(
        conn, op.reference or "", was=("open", "reclaiming"), now_is="reclaimed", now=now
    )
    transfer = next(iter(store.load_transfers(conn, transfer_id=op.reference)), None)
    if transfer is not None and transfer.reference is None:
        store.record(conn, "reclaim", op.amount, unit=op.unit, fee=op.fee, mint=op.mint, now=now)


_FINISHED = {
    "mint": _mint_finished,
    "receive": _receive_finished,
    "redeem": _swap_finished,
    "swap": _swap_finished,
    "reclaim": _reclaim_finished,
}


def _mint_failed(
    conn: Connection, op: Operation, spent: Sequence[str], kept: Sequence[str], stored: bool, now: float
) -> None:
    store.set_quote_state(conn, op.quote_id or "", was="minting", now_is="open")


def _receive_failed(
    conn: Connection, op: Operation, spent: Sequence[str], kept: Sequence[str], stored: bool, now: float
) -> None:
    if not stored:
        store.forget_proofs(conn, [*spent, *kept])


def _swap_failed(
    conn: Connection, op: Operation, spent: Sequence[str], kept: Sequence[str], stored: bool, now: float
) -> None:
    lost = sum(proof.amount for proof, _, _ in store.proofs_by_y(conn, spent).values())
    _move(conn, op, spent, ProofStatus.SPENT, op.id, now)
    _move(conn, op, kept, ProofStatus.AVAILABLE, None, now)
    if lost:
        store.record(conn, "lost", -lost, unit=op.unit, mint=op.mint, state="lost", now=now)


def _reclaim_failed(
    conn: Connection, op: Operation, spent: Sequence[str], kept: Sequence[str], stored: bool, now: float
) -> None:
    _move(conn, op, spent, ProofStatus.SPENT, op.id, now)
    _move(conn, op, kept, ProofStatus.SENT, op.reference, now)
    store.set_transfer_state(
        conn,
        op.reference or "",
        was=("reclaiming",),
        now_is="claimed" if spent and not kept else "open",
        now=now,
    )


_FAILED = {
    "mint": _mint_failed,
    "receive": _receive_failed,
    "redeem": _receive_failed,
    "swap": _swap_failed,
    "reclaim": _reclaim_failed,
}


def _move(
    conn: Connection, op: Operation, ys: Sequence[str], now_is: ProofStatus, holder: str | None, now: float
) -> None:
    store.move_proofs(
        conn, ys, was=ProofStatus.RESERVED, now_is=now_is, holder=holder, was_held_by=op.id, now=now
    )
