"""Locked tokens that counted as paid and that their mint then did not redeem: the operator's loss.

Nobody but the gateway could spend them, so the mint did not keep their lock, or signed them twice: no locked
token of it is taken any more, unless it makes good what it owes.
"""

from sqlalchemy import Connection, select, update

from otrta_core import Unit
from otrta_litellm.schema import losses
from otrta_wallet import Operation
from otrta_wallet.store import insert_new


def record(conn: Connection, now: float, operation: Operation, reason: str, *, rest: int = 0) -> None:
    """Write a loss down, once: all of a token but its ``rest``, in its unit, which is redeemed by itself."""
    insert_new(
        conn,
        losses,
        operation_id=operation.id,
        payment_id=operation.reference,
        mint=operation.mint,
        amount_msat=Unit.parse(operation.unit).to_msat(operation.amount - rest),
        reason=reason,
        made_good=False,
        created_at=now,
    )


def make_good(conn: Connection, operation_id: str) -> None:
    """Note that a token was redeemed after all."""
    conn.execute(update(losses).where(losses.c.operation_id == operation_id).values(made_good=True))


def of_mint(conn: Connection, mint: str) -> set[str]:
    """Return the ids of the operations that a mint has not redeemed."""
    query = select(losses.c.operation_id).where(losses.c.mint == mint, ~losses.c.made_good)
    return set(conn.execute(query).scalars())


def mints(conn: Connection) -> set[str]:
    """Return the mints that have cost us a locked token and not made it good."""
    return set(conn.execute(select(losses.c.mint).where(~losses.c.made_good).distinct()).scalars())
