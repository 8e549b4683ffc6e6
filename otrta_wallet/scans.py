"""How far a restore has come: one row for each keyset, written in the transaction that stores what was found.

Each function works on a connection inside the caller's transaction.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, or_, select, update

from otrta_core import Keyset, Proof, Unit
from otrta_core.amounts import MAX_AMOUNT
from otrta_wallet import store
from otrta_wallet.mint_client import ProofState
from otrta_wallet.records import ScannedKeyset
from otrta_wallet.scanning import BATCH
from otrta_wallet.schema import ProofStatus, operations, outputs, scans
from otrta_wallet.schema import keysets as keysets_table

MARGIN = BATCH
"""How many counters are left alone behind the last one that the mint has signed. A wallet that lost its
database may still have a swap or a payment under way, whose outputs come next."""

MAX_COUNTER = 10_000_000
"""How far a keyset is looked through at most, whatever its mint says."""

_COUNTS = ("next_counter", "empty_batches", "found", "pending", "proofs", "spent", "refused")


@dataclass(frozen=True, slots=True)
class Batch:
    """What came of asking for the next counters of a keyset.

    Attributes:
        keyset_id: of which.
        first: the first counter that was asked for.
        last: the highest counter that the mint has signed, or None.
        made: the proofs of what it has signed, each with its counter.
        states: of these proofs at the mint, by Y.
        refused: how many signatures did not hold.
    """

    keyset_id: str
    first: int
    last: int | None
    made: Sequence[tuple[Proof, int]]
    states: Mapping[str, ProofState]
    refused: int


def begin(
    conn: Connection, now: float, mint: str, keysets: Iterable[Keyset], stop_after: int, *, anew: bool
) -> None:
    """Write down that these keysets are to be looked through; those that have been begun go on.

    Args:
        conn: of the caller's transaction.
        now: unix time.
        mint: whose they are.
        keysets: stored ones.
        stop_after: so many empty batches in a row.
        anew: whether that holds for those too that have been begun.
    """
    for keyset in sorted(keysets, key=lambda keyset: keyset.id):
        row = {"keyset_id": keyset.id, "mint": mint, "unit": keyset.unit, "stop_after": stop_after}
        is_new = store.insert_new(conn, scans, **row, **dict.fromkeys(_COUNTS, 0), changed_at=now)
        if anew and not is_new:
            query = update(scans).where(scans.c.keyset_id == keyset.id)
            conn.execute(query.values(stop_after=stop_after, changed_at=now))


def of_mint(conn: Connection, _now: float, mint: str) -> list[ScannedKeyset]:
    """Return how far each keyset of a mint has been looked through."""
    query = select(scans).where(scans.c.mint == mint).order_by(scans.c.unit, scans.c.keyset_id)
    return [_scanned(row) for row in conn.execute(query)]


def left_behind(conn: Connection, before: float) -> list[str]:
    """Return the mints of which a restore has been begun, and not gone on with since a time."""
    query = select(scans.c.mint).group_by(scans.c.mint).having(func.max(scans.c.changed_at) < before)
    return list(conn.execute(query).scalars())


def store_batch(conn: Connection, now: float, batch: Batch) -> bool:
    """Store the proofs of a batch that the wallet does not have yet, and note how far the scan has come.

    What belongs to an operation that is still open or watched is left to that operation.

    Returns:
        False, and nothing changed, where somebody else has stored this batch already.
    """
    query = select(scans).where(scans.c.keyset_id == batch.keyset_id).with_for_update()
    row = conn.execute(query).first()
    if row is None or row.next_counter != batch.first:
        return False
    left = _counters_of_open_operations(conn, now, batch.keyset_id, [counter for _, counter in batch.made])
    known = store.proofs_by_y(conn, [proof.Y for proof, _ in batch.made])
    new = [proof for proof, counter in batch.made if proof.Y not in known and counter not in left]
    found, pending, refused = _bounded(row, new, batch.states)
    for status, kept in ((ProofStatus.AVAILABLE, found), (ProofStatus.UNSETTLED, pending)):
        holders = [(proof, None) for proof in kept]
        store.insert_proofs(conn, holders, mint=row.mint, unit=row.unit, status=status, now=now)
    if batch.last is not None:
        _move_counter(conn, batch.keyset_id, batch.last)
    values: dict[str, Any] = {
        "next_counter": batch.first + BATCH,
        "empty_batches": row.empty_batches + 1 if batch.last is None else 0,
        "found": row.found + sum(proof.amount for proof in found),
        "pending": row.pending + sum(proof.amount for proof in pending),
        "proofs": row.proofs + len(found) + len(pending),
        "spent": row.spent + sum(batch.states.get(proof.Y) == "SPENT" for proof in new),
        "refused": row.refused + refused + batch.refused,
        "changed_at": now,
    }
    conn.execute(update(scans).where(scans.c.keyset_id == batch.keyset_id).values(values))
    return True


def close(
    conn: Connection, now: float, mint: str, states: Mapping[str, ProofState]
) -> tuple[list[ScannedKeyset], dict[str, int]]:
    """End the restore of a mint, and write its sums into the history.

    Args:
        conn: of the caller's transaction.
        now: unix time.
        mint: whose keysets have all been looked through.
        states: at the mint, of proofs that the wallet had for available. What is spent was spent by
            another life of this wallet.

    Returns:
        The scans as they ended, and what is gone by unit.
    """
    ended = of_mint(conn, now, mint)
    at_hand = _known_as(conn, ProofStatus.AVAILABLE, states)
    was = ProofStatus.AVAILABLE
    _move(conn, [p for p in at_hand if states[p.Y] == "PENDING"], was, ProofStatus.UNSETTLED, now)
    spent = [p for p in at_hand if states[p.Y] == "SPENT"]
    _move(conn, spent, was, ProofStatus.SPENT, now)
    gone = _sums(conn, mint, spent)
    for unit in sorted({scan.unit for scan in ended} | gone.keys()):
        came = sum(scan.found + scan.pending for scan in ended if scan.unit == unit)
        if came != gone.get(unit, 0):
            store.record(conn, "restore", came - gone.get(unit, 0), unit=unit, mint=mint, now=now)
    conn.execute(delete(scans).where(scans.c.mint == mint))
    return ended, gone


def settle(
    conn: Connection, now: float, mint: str, states: Mapping[str, ProofState], stop_after: int
) -> None:
    """Decide on proofs that were pending when they were restored.

    Where some are spent, the mint's keysets are written down to be looked through again.
    """
    unsettled = _known_as(conn, ProofStatus.UNSETTLED, states)
    was = ProofStatus.UNSETTLED
    _move(conn, [p for p in unsettled if states[p.Y] == "UNSPENT"], was, ProofStatus.AVAILABLE, now)
    spent = [p for p in unsettled if states[p.Y] == "SPENT"]
    _move(conn, spent, was, ProofStatus.SPENT, now)
    for unit, sum_ in _sums(conn, mint, spent).items():
        store.record(conn, "restore", -sum_, unit=unit, mint=mint, now=now)
    if spent:
        keysets = store.load_keysets(conn).get(mint, {}).values()
        begin(conn, 0.0, mint, [k for k in keysets if k.unit in set(Unit)], stop_after, anew=False)


def _known_as(conn: Connection, status: ProofStatus, states: Mapping[str, ProofState]) -> list[Proof]:
    store.lock_proofs(conn, states)  # another worker may be spending them while their mint was asked
    known = store.proofs_by_y(conn, list(states)).values()
    return [proof for proof, known_as, _ in known if known_as is status]


def _move(
    conn: Connection, moved: Sequence[Proof], was: ProofStatus, now_is: ProofStatus, now: float
) -> None:
    ys = [proof.Y for proof in moved]
    store.move_proofs(conn, ys, was=was, now_is=now_is, holder=None, now=now)


def _sums(conn: Connection, mint: str, found: Sequence[Proof]) -> dict[str, int]:
    keysets = store.load_keysets(conn).get(mint, {})
    sums: dict[str, int] = {}
    for proof in found:
        unit = keysets[proof.id].unit
        sums[unit] = sums.get(unit, 0) + proof.amount
    return sums


def _counters_of_open_operations(
    conn: Connection, now: float, keyset_id: str, counters: Sequence[int]
) -> Collection[int]:
    # watched ones have failed and may yet land, or were paid and have change to come
    now_open = or_(operations.c.state.in_(("stored", "prepared")), operations.c.watch_until > now)
    query = (
        select(outputs.c.counter)
        .join(operations, operations.c.id == outputs.c.operation_id)
        .where(outputs.c.keyset_id == keyset_id, outputs.c.counter.in_(counters), now_open)
    )
    return set(conn.execute(query).scalars())


def _bounded(
    row: Row[Any], new: Sequence[Proof], states: Mapping[str, ProofState]
) -> tuple[list[Proof], list[Proof], int]:
    """Split new proofs into unspent and pending ones, and count those past what can be counted."""
    left = Unit.parse(row.unit).at_most(MAX_AMOUNT) - row.found - row.pending
    kept: dict[ProofState, list[Proof]] = {"UNSPENT": [], "PENDING": []}
    refused = 0
    for proof in new:
        state = states.get(proof.Y, "SPENT")
        if state == "SPENT":
            continue
        if proof.amount > left:  # only a mint that lies has signed so much
            refused += 1
            continue
        left -= proof.amount
        kept[state].append(proof)
    return kept["UNSPENT"], kept["PENDING"], refused


def _move_counter(conn: Connection, keyset_id: str, last: int) -> None:
    query = select(keysets_table.c.counter).where(keysets_table.c.id == keyset_id)
    if conn.execute(query).scalar_one() <= last:
        store.skip_counters(conn, keyset_id, last + 1 + MARGIN)


def _scanned(row: Row[Any]) -> ScannedKeyset:
    return ScannedKeyset(
        keyset_id=row.keyset_id,
        unit=row.unit,
        found=row.found,
        pending=row.pending,
        proofs=row.proofs,
        spent=row.spent,
        refused=row.refused,
        looked_to=row.next_counter,
        complete=row.empty_batches >= row.stop_after or row.next_counter >= MAX_COUNTER,
    )
