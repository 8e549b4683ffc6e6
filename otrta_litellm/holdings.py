"""What this gateway holds at each mint, by denomination; change that was handed out is not in it."""

from collections.abc import Mapping

from sqlalchemy import Connection, func, select

from otrta_core import Unit
from otrta_wallet.schema import ProofStatus, proofs

Pieces = Mapping[tuple[str, str, int], int]
"""How many proofs there are, by mint, unit and amount."""

_OURS = (ProofStatus.AVAILABLE, ProofStatus.RESERVED, ProofStatus.HELD, ProofStatus.UNSETTLED)


def pieces_held(conn: Connection, _now: float) -> Pieces:
    """Count the proofs that are ours, spendable now or reserved."""
    kind = (proofs.c.mint, proofs.c.unit, proofs.c.amount)
    query = select(*kind, func.count().label("n")).where(proofs.c.status.in_(_OURS)).group_by(*kind)
    return {(row.mint, row.unit, row.amount): row.n for row in conn.execute(query)}


def held_msat(pieces: Pieces) -> dict[str, int]:
    """Return what they are worth in msat, by mint."""
    found: dict[str, int] = {}
    for (mint, unit, amount), count in pieces.items():
        found[mint] = found.get(mint, 0) + Unit.parse(unit).to_msat(amount * count)
    return found
