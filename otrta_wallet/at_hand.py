"""What can be spent at once: chosen by keyset and amount, then taken proof by proof.

Choosing needs to know how many proofs of each kind there are, not which, so a large wallet is not read to
make a small token. On PostgreSQL the chosen rows are locked as they are read; those that others are taking
at this moment are passed over.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Connection,
    Integer,
    Select,
    String,
    column,
    func,
    select,
    true,
    union_all,
    values,
)

from otrta_core import Proof
from otrta_wallet.schema import ProofStatus, keysets, proofs
from otrta_wallet.store import as_proof
from otrta_wallet.transactions import Contended

Choose = Callable[[Sequence[Proof]], Sequence[Proof] | None]
_MOST_PIECES = 1001
"""How many proofs of one kind are offered: one more than any token or swap may have."""


def take(
    conn: Connection,
    mint: str,
    unit: str,
    choose: Choose,
    *,
    avoid: frozenset[str] = frozenset(),
    only_keysets: frozenset[str] | None = None,
) -> list[Proof] | None:
    """Choose among the available proofs and return those, locked until the transaction ends.

    Args:
        conn: inside a transaction that ``Transactions.run`` may run again.
        mint: at which.
        unit: of the proofs.
        choose: gets stand-ins, one for each proof, with nothing but their amount and keyset; returns some
            of them, or None for none.
        avoid: Ys that must not be used.
        only_keysets: leave out the proofs of all others.

    Returns:
        The proofs, in ascending order of amount and Y, or None where ``choose`` found none.

    Raises:
        Contended: another process was faster; ``Transactions.run`` tries again.
    """
    usable = _available(mint, unit)
    if avoid:
        usable = (*usable, proofs.c.y.not_in(sorted(avoid)))
    pieces: list[Proof] = []
    for row in conn.execute(_counted(usable)):
        if only_keysets is None or row.keyset_id in only_keysets:
            pieces += [Proof(row.amount, row.keyset_id, "", "")] * min(row.number, _MOST_PIECES)
    chosen = choose(pieces)
    if not chosen:
        return None
    wanted = Counter((piece.id, piece.amount) for piece in chosen)
    query = _passing_over_locked if conn.dialect.name == "postgresql" else _one_by_one
    taken = [as_proof(row) for row in conn.execute(query(usable, wanted))]
    if len(taken) != len(chosen):
        raise Contended
    return sorted(taken, key=lambda proof: (proof.amount, proof.Y))


def worth(conn: Connection, mint: str, unit: str) -> int:
    """Return what the available proofs of a mint and unit add up to, in that unit."""
    return sum(row.amount * row.number for row in conn.execute(_counted(_available(mint, unit))))


def fees(conn: Connection, mint: str) -> dict[str, int]:
    """Return the input fee in ppk of every keyset of a mint, by its id."""
    query = select(keysets.c.id, keysets.c.input_fee_ppk).where(keysets.c.mint == mint)
    return {row.id: row.input_fee_ppk for row in conn.execute(query)}


def _available(mint: str, unit: str) -> tuple[ColumnElement[bool], ...]:
    return proofs.c.status == ProofStatus.AVAILABLE, proofs.c.mint == mint, proofs.c.unit == unit


def _counted(usable: Sequence[ColumnElement[bool]]) -> Select[tuple[str, int, int]]:
    kinds = select(proofs.c.keyset_id, proofs.c.amount, func.count().label("number")).where(*usable)
    return kinds.group_by(proofs.c.keyset_id, proofs.c.amount)


def _one_by_one(
    usable: Sequence[ColumnElement[bool]], wanted: Mapping[tuple[str, int], int]
) -> CompoundSelect[Any]:
    parts = [
        select(proofs)
        .where(*usable, proofs.c.keyset_id == keyset_id, proofs.c.amount == amount)
        .order_by(proofs.c.y)
        .limit(number)
        .subquery()
        for (keyset_id, amount), number in wanted.items()
    ]
    return union_all(*(select(part) for part in parts))


def _passing_over_locked(
    usable: Sequence[ColumnElement[bool]], wanted: Mapping[tuple[str, int], int]
) -> Select[Any]:
    kinds = values(
        column("keyset_id", String),
        column("amount", BigInteger),
        column("number", Integer),
        name="wanted",
    ).data([(keyset_id, amount, number) for (keyset_id, amount), number in wanted.items()])
    free = (
        select(proofs)
        .where(*usable, proofs.c.keyset_id == kinds.c.keyset_id, proofs.c.amount == kinds.c.amount)
        .order_by(proofs.c.y)
        .limit(kinds.c.number)
        .with_for_update(skip_locked=True)
        .lateral("free")
    )
    return select(free).select_from(kinds.join(free, true()))
