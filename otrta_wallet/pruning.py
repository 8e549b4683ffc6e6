"""Forgetting what no decision needs any more, a little at each recovery.

A spent proof goes ``KEEP_S`` after it was spent, and with a finished operation its outputs and the list of
its inputs. What stays for good: the operations themselves, transfers, quotes and the history; anything of
an operation that is open, kept, or watched because its post may still land or change may still come; the
parts of a minting or a payment that failed, by which its invoice may still be settled; and the inputs of
redeemed change that somebody's reference is on, by which the same change is known when it comes twice.

The price: a token whose proofs were forgotten is no longer refused as spent by the wallet itself. It is
journalled, and the mint refuses it, which costs a request and some counters. Counters are kept with their
keyset and never come back, so none of this makes a secret a second time.
"""

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    delete,
    exists,
    or_,
    select,
    update,
)

from otrta_wallet.schema import ProofStatus, batch_members, operation_inputs, operations, outputs, proofs
from otrta_wallet.store import lock_proofs

KEEP_S = 30 * 86_400.0
PROOFS_AT_ONCE = 1_000
OPERATIONS_AT_ONCE = 200
_FORGETTABLE = ("receive", "redeem", "offline", "swap", "reclaim", "batch")
_OPEN = ("stored", "waiting", "joined", "prepared")


def prune(conn: Connection, now: float) -> int:
    """Delete a bounded number of rows that are old enough; returns of how many proofs and operations."""
    return _prune_operations(conn, now) + _prune_proofs(conn, now)


def _prune_operations(conn: Connection, now: float) -> int:
    failed_for_good = and_(operations.c.state == "failed", operations.c.kind.in_(_FORGETTABLE))
    query = (
        select(operations.c.id, operations.c.kind, operations.c.reference)
        .where(
            ~operations.c.pruned,
            operations.c.state.in_(("done", "failed")),
            operations.c.changed_at < now - KEEP_S,
            or_(operations.c.state == "done", failed_for_good),
            ~_is_watched(now),
        )
        .limit(OPERATIONS_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    rows = conn.execute(query).all()
    over = [row.id for row in rows]
    if over:
        without_inputs = [row.id for row in rows if row.kind != "redeem" or row.reference is None]
        conn.execute(delete(outputs).where(outputs.c.operation_id.in_(over)))
        conn.execute(delete(batch_members).where(batch_members.c.batch_id.in_(over)))
        conn.execute(delete(operation_inputs).where(operation_inputs.c.operation_id.in_(without_inputs)))
        conn.execute(update(operations).where(operations.c.id.in_(over)).values(pruned=True))
    return len(over)


def _prune_proofs(conn: Connection, now: float) -> int:
    ys = [row.y for row in conn.execute(_forgettable_proofs(now))]
    if ys:
        lock_proofs(conn, ys)
        conn.execute(delete(proofs).where(proofs.c.y.in_(ys), proofs.c.status == ProofStatus.SPENT))
    return len(ys)


def _forgettable_proofs(now: float) -> Select[tuple[str]]:
    needed = exists(
        select(operations.c.id)
        .join(operation_inputs, operation_inputs.c.operation_id == operations.c.id)
        .where(
            operation_inputs.c.y == proofs.c.y,
            or_(operations.c.state.in_(_OPEN), _is_watched(now)),
        )
    )
    return (
        select(proofs.c.y)
        .where(proofs.c.status == ProofStatus.SPENT, proofs.c.changed_at < now - KEEP_S, ~needed)
        .order_by(proofs.c.changed_at)
        .limit(PROOFS_AT_ONCE)
    )


def _is_watched(now: float) -> ColumnElement[bool]:
    return and_(operations.c.watch_until.is_not(None), operations.c.watch_until > now)
