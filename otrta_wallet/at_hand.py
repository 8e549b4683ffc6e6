"""What can be spent at once: chosen by keyset and amount, then taken proof by proof.

Choosing needs to know how many proofs of each kind there are, not which, so a large wallet is not read to
make a small token. On PostgreSQL the chosen rows are locked as they are read; those that others are taking
at this moment are passed over.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Connection, Select, bindparam, func, select, text

from otrta_core import Proof
from otrta_wallet.schema import ProofStatus, keysets, proofs
from otrta_wallet.store import as_proof
from otrta_wallet.transactions import Contended

Choose = Callable[[Sequence[Proof]], Sequence[Proof] | None]


def take(
    conn: Connection,
    mint: str,
    unit: str,
    choose: Choose,
    *,
    most: int = 1000,
    avoid: frozenset[str] = frozenset(),
    only_keysets: frozenset[str] | None = None,
) -> list[Proof] | None:
    """Choose among the available proofs and return those, locked until the transaction ends.

    Args:
        conn: inside a transaction that ``Transactions.run`` may run again.
        mint: at which.
        unit: of the proofs.
        choose: gets stand-ins, one for each proof but no more of a kind than could be of use, with nothing
            but their amount and keyset; returns some of them, or None for none.
        most: how many proofs ``choose`` returns at most.
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
    # the largest first, which is the order in which they are chosen
    for row in sorted(conn.execute(_counted(usable)), key=lambda row: -row.amount):
        if only_keysets is None or row.keyset_id in only_keysets:
            pieces += [Proof(row.amount, row.keyset_id, "", "")] * min(row.number, most + 1)
    chosen = choose(pieces)
    if not chosen:
        return None
    wanted = Counter((piece.id, piece.amount) for piece in chosen)
    find = _passing_over_locked if conn.dialect.name == "postgresql" else _kind_by_kind
    taken = find(conn, {"mint": mint, "unit": unit, "avoid": sorted(avoid)}, wanted)
    if len(taken) != len(chosen):
        raise Contended
    return sorted(taken, key=lambda proof: (proof.amount, proof.Y))


def worth(conn: Connection, mint: str, unit: str) -> int:
    """Return what the available proofs of a mint and unit add up to, in that unit."""
    return sum(row.amount * row.number for row in conn.execute(_counted(_available(mint, unit))))


def by_amount(conn: Connection, mint: str, unit: str) -> dict[int, int]:
    """Return how many proofs of each amount are available at a mint in a unit."""
    found: Counter[int] = Counter()
    for row in conn.execute(_counted(_available(mint, unit))):
        found[row.amount] += row.number
    return dict(found)


def spendable(conn: Connection, mint: str, unit: str) -> int:
    """Return how much the available proofs of a mint and unit bring after their input fees, in that unit.

    Those that their own fee would eat bring nothing.
    """
    fee_ppk = fees(conn, mint)
    kinds = conn.execute(_counted(_available(mint, unit)))
    net = sum(max(0, 1000 * row.amount - fee_ppk[row.keyset_id]) * row.number for row in kinds)
    return int(net) // 1000


def fees(conn: Connection, mint: str) -> dict[str, int]:
    """Return the input fee in ppk of every keyset of a mint, by its id."""
    query = select(keysets.c.id, keysets.c.input_fee_ppk).where(keysets.c.mint == mint)
    return {row.id: row.input_fee_ppk for row in conn.execute(query)}


def _available(
    mint: str | BindParameter[str], unit: str | BindParameter[str]
) -> tuple[ColumnElement[bool], ...]:
    return proofs.c.status == ProofStatus.AVAILABLE, proofs.c.mint == mint, proofs.c.unit == unit


def _counted(usable: Sequence[ColumnElement[bool]]) -> Select[tuple[str, int, int]]:
    kinds = select(proofs.c.keyset_id, proofs.c.amount, func.count().label("number")).where(*usable)
    return kinds.group_by(proofs.c.keyset_id, proofs.c.amount)


_OF_KIND = (
    select(proofs)
    .where(
        *_available(bindparam("mint"), bindparam("unit")),
        proofs.c.keyset_id == bindparam("keyset_id"),
        proofs.c.amount == bindparam("amount"),
        proofs.c.y.not_in(bindparam("avoid", expanding=True)),
    )
    .order_by(proofs.c.y)
    .limit(bindparam("number"))
)

# one statement, since each is a round trip
_OF_KINDS = text("""
SELECT free.*
FROM unnest(CAST(:keyset_ids AS text[]), CAST(:amounts AS bigint[]), CAST(:numbers AS integer[]))
    AS wanted (keyset_id, amount, number)
CROSS JOIN LATERAL (
    SELECT * FROM proofs
    WHERE status = 'available' AND mint = :mint AND unit = :unit
        AND proofs.keyset_id = wanted.keyset_id AND proofs.amount = wanted.amount
        AND y <> ALL (CAST(:avoid AS text[]))
    ORDER BY y
    LIMIT wanted.number
    FOR UPDATE SKIP LOCKED
) AS free
""")


def _kind_by_kind(
    conn: Connection, usable: Mapping[str, Any], wanted: Mapping[tuple[str, int], int]
) -> list[Proof]:
    found: list[Proof] = []
    for (keyset_id, amount), number in wanted.items():
        values = {**usable, "keyset_id": keyset_id, "amount": amount, "number": number}
        found += map(as_proof, conn.execute(_OF_KIND, values))
    return found


def _passing_over_locked(
    conn: Connection, usable: Mapping[str, Any], wanted: Mapping[tuple[str, int], int]
) -> list[Proof]:
    values = {
        "keyset_ids": [keyset_id for keyset_id, _ in wanted],
        "amounts": [amount for _, amount in wanted],
        "numbers": list(wanted.values()),
    }
    return [as_proof(row) for row in conn.execute(_OF_KINDS, {**usable, **values})]
