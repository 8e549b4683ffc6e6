"""What can be spent at once: chosen by keyset and amount, then taken proof by proof.

Choosing needs to know how many proofs of each kind there are, not which, so a large wallet is not read to
make a small token; and of most kinds it needs only a few. On PostgreSQL the chosen rows are locked as they
are read; those that others are taking at this moment are passed over.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, select, text

from otrta_core import Proof, input_fee
from otrta_wallet.schema import ProofStatus, keysets, proofs
from otrta_wallet.store import as_proof
from otrta_wallet.transactions import Contended

Choose = Callable[[Sequence[Proof], Mapping[str, int]], Sequence[Proof] | None]
"""Chooses among proofs, given the input fees in ppk by keyset id; None for none."""

SPARE = 8
"""So many proofs of a kind are offered beyond what an amount can take: for its fee, and to ride along."""
_MOST_OF_A_KIND = 1 << 62


@dataclass(frozen=True, slots=True)
class Taken:
    """Proofs that were chosen, locked until the transaction ends.

    Attributes:
        proofs: in ascending order of amount and Y.
        fee: their input fee, in their unit.
    """

    proofs: Sequence[Proof]
    fee: int


@dataclass(frozen=True, slots=True)
class Kind:
    """How many proofs there are of a keyset and an amount."""

    keyset_id: str
    amount: int
    number: int
    input_fee_ppk: int


def take(
    conn: Connection,
    mint: str,
    unit: str,
    choose: Choose,
    *,
    want: int | None = None,
    most: int = 1000,
    avoid: frozenset[str] = frozenset(),
    only_keysets: frozenset[str] | None = None,
) -> Taken | None:
    """Choose among the available proofs and return those, locked until the transaction ends.

    Args:
        conn: inside a transaction that ``Transactions.run`` may run again.
        mint: at which.
        unit: of the proofs.
        choose: gets stand-ins, one for each proof but no more of a kind than could be of use, with nothing
            but their amount and keyset, the largest first; returns some of them, or None for none.
        want: the amount that ``choose`` tries to reach, taking the largest that fit; None where it goes about
            it otherwise. It is asked again with all that there is before nothing is returned.
        most: how many proofs ``choose`` returns at most.
        avoid: Ys that must not be used.
        only_keysets: leave out the proofs of all others.

    Returns:
        The proofs, or None where ``choose`` found none.

    Raises:
        Contended: another process was faster; ``Transactions.run`` tries again.
    """
    only = None if only_keysets is None else sorted(only_keysets)
    of = {"mint": mint, "unit": unit, "avoid": sorted(avoid), "only": only}

    def chosen_of(kinds: Iterable[Kind]) -> Sequence[Proof] | None:
        pieces: list[Proof] = []
        for kind in kinds:
            pieces += [Proof(kind.amount, kind.keyset_id, "", "")] * min(kind.number, most + 1)
        return choose(pieces, fee_ppk)

    kinds = _all(conn, of) if want is None else _of_use(conn, of, want)
    fee_ppk = {kind.keyset_id: kind.input_fee_ppk for kind in kinds}
    chosen = chosen_of(kinds)
    if not chosen and want is not None:
        chosen = chosen_of(_all(conn, of))
    if not chosen:
        return None
    wanted = Counter((piece.id, piece.amount) for piece in chosen)
    find = _passing_over_locked if conn.dialect.name == "postgresql" else _kind_by_kind
    taken = find(conn, of, wanted)
    if len(taken) != len(chosen):
        raise Contended
    return Taken(sorted(taken, key=lambda proof: (proof.amount, proof.Y)), input_fee(taken, fee_ppk))


def of_use(kinds: Iterable[Kind], want: int) -> list[Kind]:
    """Leave out what cannot be of use to reach an amount by taking the largest that fit.

    After each kind it is known what can be missing at most: less than its amount, where there are enough.

    Args:
        kinds: the largest first.
        want: the amount.
    """
    missing, found = want, []
    for kind in kinds:
        number = min(kind.number, missing // kind.amount + SPARE)
        missing = max(min(missing, kind.amount - 1), missing - kind.amount * number)
        found.append(Kind(kind.keyset_id, kind.amount, number, kind.input_fee_ppk))
    return found


def worth(conn: Connection, mint: str, unit: str) -> int:
    """Return what the available proofs of a mint and unit add up to, in that unit."""
    return sum(kind.amount * kind.number for kind in _all(conn, {"mint": mint, "unit": unit}))


def by_amount(conn: Connection, mint: str, unit: str) -> dict[int, int]:
    """Return how many proofs of each amount are available at a mint in a unit."""
    found: Counter[int] = Counter()
    for kind in _all(conn, {"mint": mint, "unit": unit}):
        found[kind.amount] += kind.number
    return dict(found)


def spendable(conn: Connection, mint: str, unit: str) -> int:
    """Return how much the available proofs of a mint and unit bring after their input fees, in that unit.

    Those that their own fee would eat bring nothing.
    """
    kinds = _all(conn, {"mint": mint, "unit": unit})
    return sum(max(0, 1000 * kind.amount - kind.input_fee_ppk) * kind.number for kind in kinds) // 1000


def fees(conn: Connection, mint: str) -> dict[str, int]:
    """Return the input fee in ppk of every keyset of a mint, by its id."""
    query = select(keysets.c.id, keysets.c.input_fee_ppk).where(keysets.c.mint == mint)
    return {row.id: row.input_fee_ppk for row in conn.execute(query)}


def _all(conn: Connection, of: Mapping[str, Any]) -> list[Kind]:
    query = _counting(avoids=bool(of.get("avoid")), limits=of.get("only") is not None)
    return _largest_first(conn.execute(query, {**of, "status": ProofStatus.AVAILABLE}))


@cache
def _counting(*, avoids: bool, limits: bool) -> Select[Any]:
    """Make the statement that counts the proofs of each kind, once."""
    names = ("status", "mint", "unit")
    kinds = (
        select(proofs.c.keyset_id, proofs.c.amount, func.count().label("number"))
        .where(*(proofs.c[name] == bindparam(name) for name in names))
        .group_by(proofs.c.amount, proofs.c.keyset_id)
    )
    if avoids:
        kinds = kinds.where(proofs.c.y.not_in(bindparam("avoid", expanding=True)))
    if limits:
        kinds = kinds.where(proofs.c.keyset_id.in_(bindparam("only", expanding=True)))
    counted = kinds.subquery()
    return select(counted, keysets.c.input_fee_ppk).join(keysets, keysets.c.id == counted.c.keyset_id)


# one descent of the index for each kind, and no more rows of it than can be of use
_FEW_OF_EACH = text("""
WITH RECURSIVE counted AS (
    SELECT CAST(:above AS bigint) AS amount, CAST('' AS varchar) AS keyset_id, CAST(0 AS bigint) AS number,
        CAST(:want AS bigint) AS missing
    UNION ALL
    SELECT following.amount, following.keyset_id, few.number,
        greatest(
            least(counted.missing, following.amount - 1), counted.missing - following.amount * few.number
        )
    FROM counted CROSS JOIN LATERAL (
        SELECT amount, keyset_id FROM proofs
        WHERE status = 'available' AND mint = :mint AND unit = :unit
            AND (proofs.amount, proofs.keyset_id) < (counted.amount, counted.keyset_id)
        ORDER BY amount DESC, keyset_id DESC
        LIMIT 1
    ) AS following CROSS JOIN LATERAL (
        SELECT count(*) AS number FROM (
            SELECT FROM proofs
            WHERE status = 'available' AND mint = :mint AND unit = :unit
                AND proofs.amount = following.amount AND proofs.keyset_id = following.keyset_id
                AND y <> ALL (CAST(:avoid AS text[]))
                AND (following.keyset_id = ANY (CAST(:only AS text[])) OR CAST(:only AS text[]) IS NULL)
            LIMIT counted.missing / following.amount + :spare
        ) AS found
    ) AS few
)
SELECT counted.keyset_id, counted.amount, counted.number, keysets.input_fee_ppk
FROM counted JOIN keysets ON keysets.id = counted.keyset_id
""")


def _of_use(conn: Connection, of: Mapping[str, Any], want: int) -> list[Kind]:
    """Do as ``of_use`` of ``_all``, on PostgreSQL without counting all."""
    if conn.dialect.name != "postgresql":
        return of_use(_all(conn, of), want)
    values = {**of, "want": want, "spare": SPARE, "above": _MOST_OF_A_KIND}
    return _largest_first(conn.execute(_FEW_OF_EACH, values))


def _largest_first(rows: Iterable[Row[Any]]) -> list[Kind]:
    ordered = sorted(rows, key=lambda row: (row.amount, row.keyset_id), reverse=True)
    return [Kind(row.keyset_id, row.amount, int(row.number), row.input_fee_ppk) for row in ordered]


# one statement, since each is a round trip
_OF_KINDS = text("""
SELECT free.*
FROM unnest(CAST(:keyset_ids AS text[]), CAST(:amounts AS bigint[]), CAST(:numbers AS integer[]))
    AS wanted (keyset_id, amount, number)
CROSS JOIN LATERAL (
    SELECT y, keyset_id, amount, secret, c, dleq_e, dleq_s, dleq_r, witness, p2pk_e FROM proofs
    WHERE status = 'available' AND mint = :mint AND unit = :unit
        AND proofs.keyset_id = wanted.keyset_id AND proofs.amount = wanted.amount
        AND y <> ALL (CAST(:avoid AS text[]))
    ORDER BY y
    LIMIT wanted.number
    FOR UPDATE SKIP LOCKED
) AS free
""")

_OF_KIND = """SELECT * FROM (
    SELECT y, keyset_id, amount, secret, c, dleq_e, dleq_s, dleq_r, witness, p2pk_e FROM proofs
    WHERE status = 'available' AND mint = ? AND unit = ? AND keyset_id = ? AND amount = ?
        AND y NOT IN (SELECT value FROM json_each(?))
    ORDER BY y
    LIMIT ?
)"""
_KINDS_AT_ONCE = 100


def _kind_by_kind(
    conn: Connection, of: Mapping[str, Any], wanted: Mapping[tuple[str, int], int]
) -> list[Proof]:
    found: list[Proof] = []
    avoid, kinds = json.dumps(of["avoid"]), list(wanted.items())
    for at in range(0, len(kinds), _KINDS_AT_ONCE):
        some = kinds[at : at + _KINDS_AT_ONCE]
        values = [
            value
            for (keyset_id, amount), number in some
            for value in (of["mint"], of["unit"], keyset_id, amount, avoid, number)
        ]
        query = " UNION ALL ".join([_OF_KIND] * len(some))
        found += map(as_proof, conn.exec_driver_sql(query, tuple(values)))
    return found


def _passing_over_locked(
    conn: Connection, of: Mapping[str, Any], wanted: Mapping[tuple[str, int], int]
) -> list[Proof]:
    values = {
        "keyset_ids": [keyset_id for keyset_id, _ in wanted],
        "amounts": [amount for _, amount in wanted],
        "numbers": list(wanted.values()),
    }
    return [as_proof(row) for row in conn.execute(_OF_KINDS, {**of, **values})]
