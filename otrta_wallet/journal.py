"""The journal: every operation at a mint is a row, with its inputs and outputs, before anything is sent.

::

    stored ──plan──▶ prepared ──finish──▶ done
      ▲                 │                  ▲
      └───refused───────┤                  │ (a post that landed late)
                        └──fail──▶ failed ─┘

The only ways out of ``prepared`` are in ``otrta_wallet.closing``. Tokens that may share a swap begin as
``waiting``: see ``otrta_wallet.batches``.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, insert, select, update

from otrta_core import Keyset, Proof
from otrta_wallet import store
from otrta_wallet.decisions import Verdict
from otrta_wallet.outputs import GivenSecret, in_order, make_outputs, outputs_with
from otrta_wallet.records import Operation, OperationKind, OperationState, Output
from otrta_wallet.schema import batch_members, operation_inputs, operations, outputs, proofs
from otrta_wallet.workers import is_alive, own_id


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
            owner=own_id(conn),
            mint=operation.mint,
            unit=operation.unit,
            amount=operation.amount,
            fee=operation.fee,
            quote_id=operation.quote_id,
            reference=operation.reference,
            created_at=operation.created_at,
            changed_at=operation.created_at,
            due_at=operation.due_at,
        )
    )
    if inputs:
        rows = [{"operation_id": operation.id, "y": proof.Y} for proof in inputs]
        conn.execute(insert(operation_inputs), rows)


def begin(
    conn: Connection,
    seed: bytes,
    operation: Operation,
    inputs: Sequence[Proof],
    keyset: Keyset,
    amounts: Sequence[tuple[int, str | None]],
    given: Sequence[GivenSecret] = (),
) -> Operation:
    """Write a new operation with inputs that this transaction has locked, and its outputs: see below."""
    create(conn, operation, inputs)
    plan_outputs(conn, seed, operation.id, keyset, amounts, given)
    return operation


def plan_outputs(
    conn: Connection,
    seed: bytes,
    operation_id: str,
    keyset: Keyset,
    amounts: Sequence[tuple[int, str | None]],
    given: Sequence[GivenSecret] = (),
) -> list[Output]:
    """Take counters and write the outputs, in ascending order of amount (NUT-03).

    Args:
        conn: in a transaction.
        seed: of the wallet.
        operation_id: whose outputs they are; earlier ones of it are forgotten.
        keyset: that signs them.
        amounts: of the outputs that are derived from the seed, each with its holder; 0 for a blank (NUT-08).
        given: further outputs, which take no counters: gaps would hide what follows them from a restore.
    """
    first = store.take_counters(conn, keyset.id, len(amounts))
    derived = make_outputs(seed, keyset.id, first, sorted(amounts, key=lambda item: item[0]))
    planned = in_order([*derived, *outputs_with(keyset.id, given)]) if given else derived
    conn.execute(delete(outputs).where(outputs.c.operation_id == operation_id))
    if not planned:
        return planned
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
                "secret": o.secret,
                "r": o.r,
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
    row = conn.execute(_ONE, {"id": operation_id}).first()
    if row is None:
        raise KeyError(operation_id)
    return _operation(row)


# made once, since to make a statement takes as long as to run it
_ONE = select(operations).where(operations.c.id == bindparam("id"))
_INPUTS = (
    select(operation_inputs.c.operation_id, proofs)
    .join(proofs, proofs.c.y == operation_inputs.c.y)
    .where(operation_inputs.c.operation_id.in_(bindparam("ids", expanding=True)))
    .order_by(proofs.c.amount, proofs.c.y)
)
_YS = select(operation_inputs.c.y).where(operation_inputs.c.operation_id == bindparam("id"))
_OUTPUTS = select(outputs).where(outputs.c.operation_id == bindparam("id")).order_by(outputs.c.position)


def load_many(conn: Connection, operation_ids: Sequence[str]) -> list[Operation]:
    """Return operations that are there, in this order."""
    rows = conn.execute(select(operations).where(operations.c.id.in_(operation_ids)))
    found = {row.id: _operation(row) for row in rows}
    return [found[operation_id] for operation_id in operation_ids]


def load_locked(conn: Connection, operation_id: str) -> Operation:
    """Return an operation that is there, locked until the transaction ends."""
    query = select(operations).where(operations.c.id == operation_id)
    return _operation(conn.execute(query.with_for_update()).one())


def with_state(conn: Connection, state: OperationState) -> list[Operation]:
    """Return all operations in a state, oldest first."""
    query = select(operations).where(operations.c.state == state).order_by(operations.c.created_at)
    return [_operation(row) for row in conn.execute(query)]


def by_reference(conn: Connection, reference: str) -> list[Operation]:
    """Return the operations made for somebody's reference, oldest first."""
    query = select(operations).where(operations.c.reference == reference).order_by(operations.c.created_at)
    return [_operation(row) for row in conn.execute(query)]


def offline(conn: Connection, mint: str | None = None) -> list[Operation]:
    """Return the locked tokens that were taken and are not swapped yet, oldest first."""
    not_yet = operations.c.state.in_(("stored", "waiting", "joined", "prepared"))
    query = select(operations).where(not_yet, operations.c.kind == "offline")
    if mint is not None:
        query = query.where(operations.c.mint == mint)
    return [_operation(row) for row in conn.execute(query.order_by(operations.c.created_at))]


def of_quote(conn: Connection, quote_id: str, kind: OperationKind = "mint") -> list[Operation]:
    """Return the operations that mint (or melt) a quote, oldest first."""
    ours = operations.c.quote_id == quote_id, operations.c.kind == kind
    query = select(operations).where(*ours).order_by(operations.c.created_at)
    return [_operation(row) for row in conn.execute(query)]


def watched(conn: Connection, now: float, *, due_at: float | None = None) -> list[Operation]:
    """Return the failed operations whose post may still land, and the melts whose change may still come.

    With ``due_at`` those that are due by then.
    """
    ended = operations.c.state.in_(("failed", "done"))
    query = select(operations).where(ended, operations.c.watch_until > now)
    if due_at is not None:
        query = query.where(operations.c.next_look_at <= due_at)
    return [_operation(row) for row in conn.execute(query)]


def put_off(conn: Connection, operation_id: str, next_look_at: float) -> None:
    """Note when a failed operation is looked at again."""
    query = update(operations).where(operations.c.id == operation_id)
    conn.execute(query.values(next_look_at=next_look_at))


def parts(conn: Connection, operation_id: str) -> tuple[list[str], list[Proof], list[Output]]:
    """Return the Ys of the inputs, those inputs that are still stored, and the outputs in order."""
    ys = list(conn.execute(_YS, {"id": operation_id}).scalars())
    planned = [
        Output(o.position, o.keyset_id, o.counter, o.amount, o.blinded, o.holder, o.secret, o.r)
        for o in conn.execute(_OUTPUTS, {"id": operation_id})
    ]
    return ys, inputs(conn, [operation_id])[operation_id], planned


def inputs(conn: Connection, operation_ids: Sequence[str]) -> dict[str, list[Proof]]:
    """Return those inputs of operations that are still stored, by operation, in order of amount and Y."""
    found: dict[str, list[Proof]] = {operation_id: [] for operation_id in operation_ids}
    for row in conn.execute(_INPUTS, {"ids": operation_ids}):
        found[row.operation_id].append(store.as_proof(row))
    return found


def note_members(conn: Connection, batch_id: str, operation_ids: Sequence[str]) -> None:
    """Write down which operations a batch carries out."""
    rows = [{"batch_id": batch_id, "operation_id": operation_id} for operation_id in operation_ids]
    conn.execute(insert(batch_members), rows)


def in_batches(conn: Connection, operation_ids: Sequence[str]) -> set[str]:
    """Return which of these operations are, or were, to be carried out with others."""
    ours = batch_members.c.operation_id.in_(operation_ids)
    return set(conn.execute(select(batch_members.c.operation_id).where(ours)).scalars())


def members(conn: Connection, batch_id: str) -> list[Operation]:
    """Return the operations that a batch carries out, or was to before it was dissolved; oldest first."""
    query = (
        select(operations)
        .join(batch_members, batch_members.c.operation_id == operations.c.id)
        .where(batch_members.c.batch_id == batch_id)
        .order_by(operations.c.created_at, operations.c.id)
    )
    return [_operation(row) for row in conn.execute(query)]


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
    if now_is == "prepared":
        values["owner"] = own_id(conn)
    changes = {"state": now_is, "changed_at": now, "error": error, "watch_until": watch_until, **values}
    return conn.execute(query.values(changes)).rowcount == 1


def hold(conn: Connection, operation_id: str) -> bool:
    """Lock a prepared operation for this transaction; False where it is closed or another worker's."""
    query = select(operations.c.id).where(*_ours(conn, operation_id))
    return conn.execute(query.with_for_update()).first() is not None


def take_over(conn: Connection, operation_id: str, now: float) -> bool:
    """Make a dead worker's prepared operation our own; False where it is not one.

    That worker may have posted up to its last moment, so the post without an answer is as old as now.
    """
    query = update(operations).where(
        operations.c.id == operation_id,
        operations.c.state == "prepared",
        operations.c.owner != own_id(conn),
        ~is_alive(conn, operations.c.owner),
    )
    return conn.execute(query.values(owner=own_id(conn), changed_at=now)).rowcount == 1


def of_others(conn: Connection) -> set[str]:
    """Return the ids of the open operations that other living workers are carrying out."""
    query = select(operations.c.id).where(
        operations.c.state.in_(("prepared", "waiting")),
        operations.c.owner != own_id(conn),
        is_alive(conn, operations.c.owner),
    )
    return set(conn.execute(query).scalars())


def coming_from_others(conn: Connection, mint: str, unit: str) -> bool:
    """Tell whether another living worker is making proofs at this mint that anybody may spend then."""
    query = (
        select(operations.c.id)
        .join(outputs, outputs.c.operation_id == operations.c.id)
        .where(
            operations.c.state == "prepared",
            operations.c.mint == mint,
            operations.c.unit == unit,
            operations.c.owner != own_id(conn),
            is_alive(conn, operations.c.owner),
            outputs.c.holder.is_(None),
            outputs.c.amount > 0,
        )
    )
    return conn.execute(query.limit(1)).first() is not None


def note_post(conn: Connection, operation_id: str, at: float | None) -> bool:
    """Write down that a prepared operation is about to be posted, or was.

    Args:
        conn: inside the caller's transaction.
        operation_id: of the operation.
        at: since when it has a post without an answer, in unix seconds; None for a first post.

    Returns:
        False where it is closed or another worker's: it must not be posted.
    """
    if at is None:
        return hold(conn, operation_id)
    query = update(operations).where(*_ours(conn, operation_id))
    return conn.execute(query.values(changed_at=at)).rowcount == 1


def _ours(conn: Connection, operation_id: str) -> tuple[ColumnElement[bool], ...]:
    return (
        operations.c.id == operation_id,
        operations.c.state == "prepared",
        operations.c.owner == own_id(conn),
    )


def note_change(conn: Connection, operation_id: str, signed: Output) -> bool:
    """Write down what a blank turned out to be worth; False where that was known already."""
    blank = (
        outputs.c.operation_id == operation_id,
        outputs.c.position == signed.position,
        outputs.c.amount == 0,
    )
    return conn.execute(update(outputs).where(*blank).values(amount=signed.amount)).rowcount == 1


def note_late_change(conn: Connection, operation_id: str, amount: int) -> None:
    """Take change that came late off the fee of a melt that is done."""
    query = update(operations).where(operations.c.id == operation_id, operations.c.state == "done")
    conn.execute(query.values(fee=operations.c.fee - amount))


def input_amount(conn: Connection, operation_id: str) -> int:
    """Return what the inputs of an operation are worth together."""
    query = select(proofs.c.amount).join(operation_inputs, operation_inputs.c.y == proofs.c.y)
    return sum(conn.execute(query.where(operation_inputs.c.operation_id == operation_id)).scalars())


def note_origin(conn: Connection, operation_id: str, y: str, came_from: str) -> None:
    """Write down that an input is a proof that we had handed out, held by ``came_from``."""
    query = update(operation_inputs).where(
        operation_inputs.c.operation_id == operation_id, operation_inputs.c.y == y
    )
    conn.execute(query.values(came_from=came_from))


def origins(conn: Connection, *operation_ids: str) -> dict[str, str]:
    """Return the inputs of operations that we had handed out, by Y, each with who held it."""
    query = select(operation_inputs.c.y, operation_inputs.c.came_from).where(
        operation_inputs.c.operation_id.in_(operation_ids), operation_inputs.c.came_from.is_not(None)
    )
    return {row.y: row.came_from for row in conn.execute(query)}


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
        row.changed_at,
        row.due_at,
    )
