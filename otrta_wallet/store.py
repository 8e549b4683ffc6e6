"""What the wallet has: mints, keysets, proofs, transfers, history.

Each function works on a connection inside the caller's transaction, so that what belongs together is
committed together. None of them talks to a mint. The order of locks is in ``otrta_wallet.transactions``.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, case, delete, func, insert, literal_column, select, update
from sqlalchemy.dialects import postgresql, sqlite

from otrta_core import Dleq, Keyset, KeysetError, Proof, Token, Unit
from otrta_wallet.records import (
    HistoryEntry,
    MintBalance,
    Transfer,
    TransferState,
)
from otrta_wallet.schema import (
    ProofStatus,
    history,
    keysets,
    lock_keys,
    mints,
    operations,
    outputs,
    proofs,
    settings,
    transfers,
)

_CHUNK = 500
_HALF = 32


def insert_new(conn: Connection, table: Table, **values: Any) -> bool:
    """Insert a row unless there is one of its key, committed or about to be; tells whether it did."""
    dialect = postgresql if conn.dialect.name == "postgresql" else sqlite
    query = dialect.insert(table).values(values).on_conflict_do_nothing()
    # of an insert, psycopg's count is gone with its cursor unless it is kept
    return conn.execute(query.execution_options(preserve_rowcount=True)).rowcount == 1


def add_mint(conn: Connection, url: str, name: str | None, now: float) -> None:
    """Allow a mint; adding it again changes nothing."""
    insert_new(conn, mints, url=url, name=name, added_at=now)


def mint_urls(conn: Connection) -> list[str]:
    """Return the allowed mints in the order they were added."""
    return list(conn.execute(select(mints.c.url).order_by(mints.c.added_at, mints.c.url)).scalars())


def save_keysets(conn: Connection, mint: str, found: Iterable[Keyset]) -> None:
    """Store keysets of a mint, and which of them are active.

    Raises:
        KeysetError: another mint already has a keyset of this id (NUT-02 asks to refuse it).
    """
    for keyset in sorted(found, key=lambda keyset: keyset.id):
        new: dict[str, Any] = {
            "active": keyset.active,
            "input_fee_ppk": keyset.input_fee_ppk,
            "final_expiry": keyset.final_expiry,
        }
        keys = json.dumps({str(a): k for a, k in keyset.keys.items()})
        row = {"id": keyset.id, "mint": mint, "unit": keyset.unit, "keys": keys, "counter": 0, **new}
        if insert_new(conn, keysets, **row):
            continue
        known = conn.execute(select(keysets).where(keysets.c.id == keyset.id)).one()
        if known.mint != mint:
            raise KeysetError("two mints claim the same keyset id: the second is refused (NUT-02)")
        if any(getattr(known, name) != value for name, value in new.items()):
            conn.execute(update(keysets).where(keysets.c.id == keyset.id).values(new))


def load_keysets(conn: Connection) -> dict[str, dict[str, Keyset]]:
    """Return all known keysets by mint and full id."""
    found: dict[str, dict[str, Keyset]] = {}
    for row in conn.execute(select(keysets)):
        keys = {int(amount): key for amount, key in json.loads(row.keys).items()}
        keyset = Keyset(row.id, row.unit, keys, row.input_fee_ppk, row.final_expiry, row.active)
        found.setdefault(row.mint, {})[row.id] = keyset
    return found


def take_counters(conn: Connection, keyset_id: str, count: int) -> int:
    """Take ``count`` counters of a keyset, never to be used again, and return the first (NUT-13)."""
    first = conn.execute(
        select(keysets.c.counter).where(keysets.c.id == keyset_id).with_for_update()
    ).scalar_one()
    conn.execute(update(keysets).where(keysets.c.id == keyset_id).values(counter=first + count))
    return int(first)


def give_back_counters(conn: Connection, operation_id: str) -> None:
    """Forget the outputs of an operation that nobody has seen, and let their counters be taken again.

    Counters behind which others have been taken since stay unused.
    """
    mine = outputs.c.operation_id == operation_id
    numbers = func.min(outputs.c.counter), func.max(outputs.c.counter), func.count(outputs.c.counter)
    query = select(outputs.c.keyset_id, *numbers).where(mine).group_by(outputs.c.keyset_id)
    taken = conn.execute(query).all()
    conn.execute(delete(outputs).where(mine))
    for keyset_id, first, last, number in taken:
        if number and last - first + 1 == number:
            unchanged = keysets.c.id == keyset_id, keysets.c.counter == last + 1
            conn.execute(update(keysets).where(*unchanged).values(counter=first))


def unsigned_run(conn: Connection, keyset_id: str, *, lock: bool = False) -> int:
    """Return how many counters have been taken since the last one that the mint is known to have signed.

    With ``lock`` nobody else takes any until the transaction ends.
    """
    taken = select(keysets.c.counter).where(keysets.c.id == keyset_id)
    counter = conn.execute(taken.with_for_update() if lock else taken).scalar_one()
    query = (
        select(outputs.c.counter)
        .join(operations, operations.c.id == outputs.c.operation_id)
        .where(
            outputs.c.keyset_id == keyset_id,
            outputs.c.counter.is_not(None),
            outputs.c.amount > 0,  # a blank without one came back unsigned
            operations.c.state == "done",
        )
    )
    signed = conn.execute(query.order_by(outputs.c.counter.desc()).limit(1)).scalar()
    return int(counter) - (0 if signed is None else signed + 1)


def skip_counters(conn: Connection, keyset_id: str, free: int) -> None:
    """Let no counter below ``free`` be taken any more."""
    query = update(keysets).where(keysets.c.id == keyset_id, keysets.c.counter < free)
    conn.execute(query.values(counter=free))


def insert_proofs(
    conn: Connection,
    found: Iterable[tuple[Proof, str | None]],
    *,
    mint: str,
    unit: str,
    status: ProofStatus,
    now: float,
) -> None:
    """Store new proofs, each with its holder, in the order of their Y."""
    rows = [
        {
            "y": proof.Y,
            "mint": mint,
            "unit": unit,
            "keyset_id": proof.id,
            "amount": proof.amount,
            "secret": proof.secret,
            "c": proof.C,
            "dleq_e": proof.dleq and proof.dleq.e,
            "dleq_s": proof.dleq and proof.dleq.s,
            "dleq_r": proof.dleq and proof.dleq.r,
            "witness": proof.witness,
            "p2pk_e": proof.p2pk_e,
            "status": status if holder is None or status is not ProofStatus.AVAILABLE else ProofStatus.HELD,
            "holder": holder,
            "changed_at": now,
        }
        for proof, holder in sorted(found, key=lambda item: item[0].Y)
    ]
    if rows:
        conn.execute(insert(proofs), rows)


def as_proof(row: Row[Any]) -> Proof:
    """Return a row of ``proofs`` as a proof."""
    dleq = Dleq(row.dleq_e, row.dleq_s, row.dleq_r) if row.dleq_e else None
    proof = Proof(row.amount, row.keyset_id, row.secret, row.c, dleq, row.witness, row.p2pk_e)
    proof.__dict__["Y"] = row.y  # where it would be kept: to compute it takes longer than to read it
    return proof


def proofs_with(
    conn: Connection,
    *,
    status: ProofStatus,
    mint: str | None = None,
    unit: str | None = None,
    holder: str | None = None,
) -> list[Proof]:
    """Return proofs by status and whatever else is given, largest first, locked for this transaction."""
    query = select(proofs).where(proofs.c.status == status).order_by(proofs.c.y)
    for column, value in ((proofs.c.mint, mint), (proofs.c.unit, unit), (proofs.c.holder, holder)):
        if value is not None:
            query = query.where(column == value)
    found = [as_proof(row) for row in conn.execute(query.with_for_update())]
    return sorted(found, key=lambda proof: proof.amount, reverse=True)


def lock_proofs(conn: Connection, ys: Iterable[str]) -> None:
    """Lock proofs until the transaction ends, in the order of their Y; SQLite has locked all already."""
    ordered = sorted(ys)
    for at in range(0, len(ordered), _CHUNK):
        part = select(proofs.c.y).where(proofs.c.y.in_(ordered[at : at + _CHUNK])).order_by(proofs.c.y)
        if conn.dialect.name == "postgresql":
            conn.execute(part.with_for_update())


def proofs_by_y(conn: Connection, ys: Sequence[str]) -> dict[str, tuple[Proof, ProofStatus, str | None]]:
    """Return what is known of these Ys: proof, status, holder."""
    found = {}
    for at in range(0, len(ys), _CHUNK):
        for row in conn.execute(select(proofs).where(proofs.c.y.in_(ys[at : at + _CHUNK]))):
            found[row.y] = (as_proof(row), ProofStatus(row.status), row.holder)
    return found


def move_proofs(
    conn: Connection,
    ys: Sequence[str],
    *,
    was: ProofStatus,
    now_is: ProofStatus,
    holder: str | None,
    was_held_by: str | None = None,
    now: float,
) -> None:
    """Change the status of proofs, all of them or (by an error) none.

    Raises:
        RuntimeError: one of them was not in the expected status: the caller's transaction must roll back.
    """
    lock_proofs(conn, ys)
    for at in range(0, len(ys), _CHUNK):
        part = ys[at : at + _CHUNK]
        query = update(proofs).where(proofs.c.y.in_(part), proofs.c.status == was)
        if was_held_by is not None:
            query = query.where(proofs.c.holder == was_held_by)
        changed = conn.execute(query.values(status=now_is, holder=holder, changed_at=now)).rowcount
        if changed != len(part):
            raise RuntimeError(f"{len(part) - changed} proofs were not {was}: nothing was changed")


def forget_proofs(conn: Connection, ys: Sequence[str]) -> None:
    """Delete proofs that turned out not to be ours."""
    lock_proofs(conn, ys)
    for at in range(0, len(ys), _CHUNK):
        conn.execute(delete(proofs).where(proofs.c.y.in_(ys[at : at + _CHUNK])))


def balances(conn: Connection) -> list[MintBalance]:
    """Return what is available and pending, by mint and unit.

    Kept tokens that await their swap count as available.
    """
    stored = select(operations.c.id).where(operations.c.state == "stored")
    available = (proofs.c.status == ProofStatus.AVAILABLE) | (
        (proofs.c.status == ProofStatus.INCOMING) & proofs.c.holder.in_(stored)
    )
    eaten_by_its_fee = (proofs.c.status == ProofStatus.AVAILABLE) & (
        proofs.c.amount <= keysets.c.input_fee_ppk.op("/")(literal_column("1000"))
    )
    place = case((eaten_by_its_fee, "dust"), (available, "available"), else_="pending").label("place")
    query = (
        select(
            proofs.c.mint,
            proofs.c.unit,
            place,
            # in halves: SQLite refuses a sum of 64-bit numbers that passes 63 bits
            func.sum(proofs.c.amount.op(">>")(literal_column(str(_HALF)))).label("high"),
            func.sum(proofs.c.amount.op("&")((1 << _HALF) - 1)).label("low"),
        )
        .outerjoin(keysets, keysets.c.id == proofs.c.keyset_id)
        .where(proofs.c.status != ProofStatus.SPENT)
        .group_by(proofs.c.mint, proofs.c.unit, "place")
    )
    found: dict[tuple[str, str], dict[str, int]] = {}
    for row in conn.execute(query):
        amount = (int(row.high) << _HALF) + int(row.low)
        found.setdefault((row.mint, row.unit), {})[row.place] = amount
    return [
        MintBalance(mint, unit, sums.get("available", 0), sums.get("pending", 0), sums.get("dust", 0))
        for (mint, unit), sums in sorted(found.items())
    ]


def save_transfer(
    conn: Connection, transfer: Transfer, *, memo: str | None = None, with_dleq: bool = False
) -> None:
    """Store a token that is about to leave; one that is still being made with what it is to be made with."""
    conn.execute(
        insert(transfers).values(
            id=transfer.id,
            mint=transfer.mint,
            unit=transfer.unit,
            amount=transfer.amount,
            token=transfer.token,
            state=transfer.state,
            memo=memo,
            with_dleq=with_dleq,
            reference=transfer.reference,
            created_at=transfer.created_at,
            changed_at=transfer.created_at,
        )
    )


def load_transfers(
    conn: Connection,
    *,
    state: TransferState | None = None,
    transfer_id: str | None = None,
    reference: str | None = None,
    due_at: float | None = None,
) -> list[Transfer]:
    """Return transfers by what is given, oldest first; with ``due_at`` those to be looked at by then."""
    query = select(transfers).order_by(transfers.c.created_at)
    if due_at is not None:
        query = query.where(transfers.c.next_look_at <= due_at)
    wanted = ((transfers.c.state, state), (transfers.c.id, transfer_id), (transfers.c.reference, reference))
    for column, value in wanted:
        if value is not None:
            query = query.where(column == value)
    return [
        Transfer(r.id, r.mint, r.unit, r.amount, r.token, r.state, r.reference, r.created_at)
        for r in conn.execute(query)
    ]


def put_off_transfer(conn: Connection, transfer_id: str, next_look_at: float) -> None:
    """Note when a transfer is looked at again."""
    conn.execute(update(transfers).where(transfers.c.id == transfer_id).values(next_look_at=next_look_at))


def complete_transfer(conn: Connection, transfer_id: str, made: Sequence[Proof], now: float) -> Transfer:
    """Write the token of a transfer that was being made, from the proofs that came of it."""
    row = conn.execute(select(transfers).where(transfers.c.id == transfer_id)).one()
    token = Token(row.mint, row.unit, tuple(sorted(made, key=lambda p: (p.amount, p.Y))), row.memo)
    text = (token if row.with_dleq else token.without_dleq()).encode()
    values = {"token": text, "state": "open", "changed_at": now, "memo": None}
    conn.execute(update(transfers).where(transfers.c.id == transfer_id).values(values))
    return Transfer(row.id, row.mint, row.unit, row.amount, text, "open", row.reference, row.created_at)


def set_transfer_state(
    conn: Connection, transfer_id: str, *, was: Sequence[TransferState], now_is: TransferState, now: float
) -> bool:
    """Compare and set a transfer's state; the token of one that is reclaimed is erased.

    That of one that is claimed is erased too, unless somebody's reference is on it: whoever paid with it
    may still have to show it, and erases it with ``erase_token``.
    """
    values: dict[str, Any] = {"state": now_is, "changed_at": now}
    if now_is == "reclaimed":
        values["token"] = None
    elif now_is == "claimed":
        values["token"] = case((transfers.c.reference.is_(None), None), else_=transfers.c.token)
    query = update(transfers).where(transfers.c.id == transfer_id, transfers.c.state.in_(was))
    return conn.execute(query.values(values)).rowcount == 1


def lock_transfers(conn: Connection, transfer_ids: Iterable[str]) -> None:
    """Lock transfers until the transaction ends, in the order of their ids; SQLite has locked all already."""
    ordered = sorted(transfer_ids)
    if ordered and conn.dialect.name == "postgresql":
        query = select(transfers.c.id).where(transfers.c.id.in_(ordered)).order_by(transfers.c.id)
        conn.execute(query.with_for_update())


def erase_token(conn: Connection, transfer_id: str) -> None:
    """Erase the text of a token that nobody has to show any more."""
    conn.execute(update(transfers).where(transfers.c.id == transfer_id).values(token=None))


def record(
    conn: Connection,
    kind: str,
    amount: int,
    *,
    unit: str,
    fee: int = 0,
    mint: str | None = None,
    state: str = "done",
    reference: str | None = None,
    now: float,
) -> None:
    """Add a line to the history; amounts in ``unit``."""
    worth = Unit.parse(unit)
    conn.execute(
        insert(history).values(
            time=now,
            kind=kind,
            amount_msat=worth.to_msat(amount),
            fee_msat=worth.to_msat(fee),
            mint=mint,
            state=state,
            reference=reference,
        )
    )


def read_history(conn: Connection, limit: int) -> list[HistoryEntry]:
    """Return the newest entries, newest first."""
    query = select(history).order_by(history.c.time.desc(), history.c.id.desc()).limit(limit)
    return [
        HistoryEntry(r.time, r.kind, r.amount_msat, r.fee_msat, r.mint, r.state, r.reference)
        for r in conn.execute(query)
    ]


def add_lock_key(conn: Connection, now: float, public: str, private: str) -> None:
    """Store a key that unlocks tokens; adding it again changes nothing."""
    if conn.execute(select(lock_keys.c.public).where(lock_keys.c.public == public)).first() is None:
        conn.execute(insert(lock_keys).values(public=public, private=private, added_at=now))


def public_lock_keys(conn: Connection) -> list[str]:
    """Return the public keys of the stored private keys, in hex, oldest first."""
    return list(
        conn.execute(select(lock_keys.c.public).order_by(lock_keys.c.added_at, lock_keys.c.public)).scalars()
    )


def private_lock_keys(conn: Connection) -> list[str]:
    """Return the private keys that were handed in, in hex, oldest first."""
    return list(
        conn.execute(select(lock_keys.c.private).order_by(lock_keys.c.added_at, lock_keys.c.public)).scalars()
    )


def get_setting(conn: Connection, name: str) -> str | None:
    """Return a stored setting, or None."""
    return conn.execute(select(settings.c.value).where(settings.c.name == name)).scalar()


def put_setting(conn: Connection, name: str, value: str) -> None:
    """Store a setting, in place of an earlier value."""
    if not insert_new(conn, settings, name=name, value=value):
        conn.execute(update(settings).where(settings.c.name == name).values(value=value))
