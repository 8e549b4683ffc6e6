"""What a gateway has earned and what it holds, read from its store."""

from collections.abc import Callable

from sqlalchemy import Connection, Engine, func, select

from otrta_core import Unit
from otrta_litellm.schema import losses, payments
from otrta_litellm.settings import store_url
from otrta_wallet import journal, store
from otrta_wallet.database import open_engine
from otrta_wallet.schema import ProofStatus, history


def earnings_msat(store_setting: str) -> int:
    """Return the sum of what all payments were charged."""
    return _read(store_setting, _earnings)


def holdings_msat(store_setting: str) -> int:
    """Return what the gateway's proofs are worth, less the change that it owes and has not made."""
    return _read(store_setting, _holdings)


def swaps_msat(store_setting: str) -> int:
    """Return what swaps brought beside: what sharing them saved, less what the gateway's own ones cost."""
    return _read(store_setting, _swaps)


def _swaps(conn: Connection) -> int:
    brought = select(func.coalesce(func.sum(history.c.amount_msat), 0)).where(
        history.c.kind.in_(("swap", "receive", "lost"))
    )
    return int(conn.execute(brought).scalar_one())


def _earnings(conn: Connection) -> int:
    return int(conn.execute(select(func.coalesce(func.sum(payments.c.cost_msat), 0))).scalar_one())


def losses_msat(store_setting: str) -> int:
    """Return what locked tokens were worth that counted as paid and that their mints did not redeem."""
    return _read(store_setting, _losses)


def _losses(conn: Connection) -> int:
    lost = select(func.coalesce(func.sum(losses.c.amount_msat), 0)).where(~losses.c.made_good)
    return int(conn.execute(lost).scalar_one())


def _waiting(conn: Connection) -> int:
    """Locked tokens that are taken and not swapped yet, but for those that count as lost."""
    lost = set(conn.execute(select(losses.c.operation_id)).scalars())
    out = [operation for operation in journal.offline(conn) if operation.id not in lost]
    return sum(Unit.parse(operation.unit).to_msat(operation.amount) for operation in out)


def _holdings(conn: Connection) -> int:
    held = _waiting(conn)
    for status in (ProofStatus.AVAILABLE, ProofStatus.RESERVED, ProofStatus.HELD):
        for unit in Unit:
            held += unit.to_msat(sum(p.amount for p in store.proofs_with(conn, status=status, unit=unit)))
    due = select(func.coalesce(func.sum(payments.c.change_msat), 0)).where(payments.c.change_due)
    return held - int(conn.execute(due).scalar_one())


def _read(store_setting: str, query: Callable[[Connection], int]) -> int:
    engine: Engine = open_engine(store_url(store_setting))
    try:
        with engine.begin() as conn:
            return query(conn)
    finally:
        engine.dispose()
