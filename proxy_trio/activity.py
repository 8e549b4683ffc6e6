"""What happened, page by page, and what calls have cost by day and model: read from the books."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, case, func, literal, null, or_, select, union_all

from otrta_wallet.schema import history
from proxy_trio import calls as books
from proxy_trio.schema import CallState, app_keys, calls

DAYS: Final = 30


def page(conn: Connection, _now: float, offset: int, limit: int) -> dict[str, Any]:
    """Return some of what moved the wallet's money, newest first, and how much there is of it.

    Args:
        conn: of the wallet's database.
        offset: how many newer entries to leave out.
        limit: how many to return at most.
    """
    both = union_all(_calls(), _moves()).subquery()
    rows = conn.execute(
        select(both).order_by(both.c.time.desc(), both.c.id.desc()).offset(offset).limit(limit)
    )
    count = select(func.count())
    total = (
        conn.execute(count.select_from(calls)).scalar_one()
        + conn.execute(count.select_from(history)).scalar_one()
    )
    return {"total": int(total), "entries": [dict(row._mapping) for row in rows]}


def _calls() -> Select[Any]:
    spent = calls.c.paid_msat - func.coalesce(calls.c.change_msat, 0)
    return select(
        calls.c.id.label("id"),
        calls.c.created_at.label("time"),
        literal("call").label("kind"),
        (-spent).label("amount_msat"),
        calls.c.cost_msat.label("cost_msat"),
        calls.c.fee_msat.label("fee_msat"),
        calls.c.gateway.label("place"),
        calls.c.model.label("model"),
        calls.c.input_tokens.label("input_tokens"),
        calls.c.output_tokens.label("output_tokens"),
        app_keys.c.name.label("app_key"),
        calls.c.state.label("state"),
        calls.c.reason.label("reason"),
    ).select_from(calls.outerjoin(app_keys, app_keys.c.id == calls.c.key_id))


def _moves() -> Select[Any]:
    return select(
        func.printf("%020d", history.c.id).label("id"),
        history.c.time.label("time"),
        history.c.kind.label("kind"),
        history.c.amount_msat.label("amount_msat"),
        null().label("cost_msat"),
        history.c.fee_msat.label("fee_msat"),
        history.c.mint.label("place"),
        null().label("model"),
        null().label("input_tokens"),
        null().label("output_tokens"),
        null().label("app_key"),
        history.c.state.label("state"),
        null().label("reason"),
    )


def spending(conn: Connection, now: float, days: int = DAYS) -> dict[str, Any]:
    """Return what calls have cost on each of the last days, by model.

    A day is one of this machine's clock. Of a payment that is still open all that was paid counts, as it does
    for budgets.

    Returns:
        ``days``: dates, oldest first; ``models``: by name, dearest first, what each day cost, in msat.
    """
    midnight = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)
    begins = [midnight - timedelta(days=back) for back in range(days - 1, -1, -1)]
    ends = [*begins[1:], midnight + timedelta(days=1)]
    came_back = case((calls.c.state.in_(books.OPEN), 0), else_=func.coalesce(calls.c.change_msat, 0))
    spent = calls.c.paid_msat - came_back
    sums = [
        func.sum(case((_between(begin, end), spent), else_=0))
        for begin, end in zip(begins, ends, strict=True)
    ]
    query = (
        select(calls.c.model, *sums)
        .where(calls.c.created_at >= begins[0].timestamp())
        .where(or_(calls.c.state != CallState.REFUNDED, calls.c.fee_msat > 0))
        .group_by(calls.c.model)
    )
    found = [(str(row[0]), [int(sum_ or 0) for sum_ in row[1:]]) for row in conn.execute(query)]
    return {
        "days": [begin.date().isoformat() for begin in begins],
        "models": [
            {"model": model, "total_msat": sum(by_day), "by_day_msat": by_day}
            for model, by_day in sorted(found, key=_dearest_first)
            if any(by_day)
        ],
    }


def _between(begin: datetime, end: datetime) -> Any:
    return and_(calls.c.created_at >= begin.timestamp(), calls.c.created_at < end.timestamp())


def _dearest_first(found: tuple[str, Sequence[int]]) -> tuple[int, str]:
    return -sum(found[1]), found[0]
