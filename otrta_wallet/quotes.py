"""What mints have offered: invoices that become e-cash when they are paid, and to pay invoices with e-cash.

Each function works on a connection inside the caller's transaction, as those of ``otrta_wallet.store`` do.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, case, insert, select, update

from otrta_wallet.records import MeltQuote, Quote, StoredMeltState, StoredQuoteState
from otrta_wallet.schema import melt_quotes, quotes


def save_quote(conn: Connection, quote: Quote, now: float) -> None:
    """Store a new quote."""
    conn.execute(
        insert(quotes).values(
            id=quote.id,
            mint=quote.mint,
            unit=quote.unit,
            amount=quote.amount,
            request=quote.request,
            state=quote.state,
            expiry=quote.expiry,
            created_at=now,
        )
    )


def load_quote(conn: Connection, quote_id: str) -> Quote | None:
    """Return a quote, or None."""
    row = conn.execute(select(quotes).where(quotes.c.id == quote_id)).first()
    return None if row is None else _quote(row)


def quotes_in(
    conn: Connection, *states: StoredQuoteState, due_at: float | None = None, limit: int | None = None
) -> list[Quote]:
    """Return the quotes in these states, oldest first; with ``due_at`` those to be looked at by then."""
    query = select(quotes).where(quotes.c.state.in_(states)).order_by(quotes.c.created_at).limit(limit)
    if due_at is not None:
        query = query.where(quotes.c.next_look_at <= due_at)
    return [_quote(row) for row in conn.execute(query)]


def put_off_quote(conn: Connection, quote_id: str, next_look_at: float) -> None:
    """Note when a quote is looked at again."""
    conn.execute(update(quotes).where(quotes.c.id == quote_id).values(next_look_at=next_look_at))


def _quote(row: Row[Any]) -> Quote:
    return Quote(row.id, row.mint, row.unit, row.amount, row.request, row.state, row.expiry, row.created_at)


def set_quote_state(
    conn: Connection, quote_id: str, *, was: Sequence[StoredQuoteState], now_is: StoredQuoteState
) -> bool:
    """Compare and set a quote's state; False where it was another."""
    query = update(quotes).where(quotes.c.id == quote_id, quotes.c.state.in_(was)).values(state=now_is)
    return conn.execute(query).rowcount == 1


def save_melt_quote(conn: Connection, quote: MeltQuote) -> None:
    """Store a mint's offer to pay an invoice."""
    conn.execute(
        insert(melt_quotes).values(
            id=quote.id,
            mint=quote.mint,
            unit=quote.unit,
            amount=quote.amount,
            fee_reserve=quote.fee_reserve,
            request=quote.request,
            state=quote.state,
            expiry=quote.expiry,
            created_at=quote.created_at,
            preimage=quote.preimage,
            owed=quote.owed,
        )
    )


def load_melt_quote(conn: Connection, quote_id: str) -> MeltQuote | None:
    """Return a mint's offer to pay an invoice, or None."""
    row = conn.execute(select(melt_quotes).where(melt_quotes.c.id == quote_id)).first()
    return None if row is None else _melt_quote(row)


def melt_quotes_for(conn: Connection, request: str) -> list[MeltQuote]:
    """Return all offers to pay an invoice, locked for this transaction in the order of their ids."""
    query = select(melt_quotes).where(melt_quotes.c.request == request).order_by(melt_quotes.c.id)
    return [_melt_quote(row) for row in conn.execute(query.with_for_update())]


def owing_melt_quotes(conn: Connection) -> list[MeltQuote]:
    """Return the paid invoices of which the mint has kept change back, oldest first."""
    query = select(melt_quotes).where(melt_quotes.c.owed > 0).order_by(melt_quotes.c.created_at)
    return [_melt_quote(row) for row in conn.execute(query)]


def _melt_quote(row: Row[Any]) -> MeltQuote:
    return MeltQuote(
        row.id,
        row.mint,
        row.unit,
        row.amount,
        row.fee_reserve,
        row.request,
        row.state,
        row.expiry,
        row.created_at,
        row.preimage,
        row.owed,
    )


def set_melt_state(
    conn: Connection,
    quote_id: str,
    *,
    was: Sequence[StoredMeltState],
    now_is: StoredMeltState,
    **values: Any,
) -> bool:
    """Compare and set the state of an offer to pay an invoice; False where it was another."""
    query = update(melt_quotes).where(melt_quotes.c.id == quote_id, melt_quotes.c.state.in_(was))
    return conn.execute(query.values(state=now_is, **values)).rowcount == 1


def note_repaid(conn: Connection, quote_id: str, amount: int) -> None:
    """Take change that came late off what a mint owes."""
    owed = case((melt_quotes.c.owed > amount, melt_quotes.c.owed - amount), else_=0)
    conn.execute(update(melt_quotes).where(melt_quotes.c.id == quote_id).values(owed=owed))


def expire_melt_quotes(conn: Connection, now: float) -> None:
    """Close the offers to pay that have run out unused."""
    run_out = melt_quotes.c.state == "open", melt_quotes.c.expiry < now
    conn.execute(update(melt_quotes).where(*run_out).values(state="expired"))
