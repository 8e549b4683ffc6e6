"""What the wallet has, what is open, and what happened: read from the books in one transaction each."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, func, select

from otrta_core import Unit
from otrta_wallet import journal, quotes, store
from otrta_wallet.schema import ProofStatus, operations, proofs, transfers
from proxy_trio import app_keys, calls, moves
from proxy_trio.calls import PaidCall
from proxy_trio.locked_pool import in_pools
from proxy_trio.moves import MoveState
from proxy_trio.schema import CallState
from proxy_trio.schema import calls as calls_table

_Place = tuple[str, str]

NOT_SETTLED: Final = (*calls.OPEN, CallState.DISPUTED)


@dataclass(slots=True)
class _Sums:
    available: int = 0
    pending: int = 0


def balance(conn: Connection, _now: float) -> dict[str, Any]:
    """Return the wallet's balance as ``otrta balance --json`` shows it.

    Available is what can be spent now, change that awaits its swap included. Pending is in flight, disputed,
    change that the mint refused, or too little to be spent by itself. What paid for a call counts by the
    call's state, not by its proofs: once the change is here, the rest is gone.
    """
    sums = {(b.mint, b.unit): _Sums(b.available, b.pending + b.dust) for b in store.balances(conn)}
    _count_calls_by_state(conn, sums)
    _count_refused_change(conn, sums)
    _count_moves(conn, sums)
    known = {place: found for place, found in sorted(sums.items()) if found.available or found.pending}
    available = sum(Unit.parse(unit).to_msat(found.available) for (_, unit), found in known.items())
    pending = sum(Unit.parse(unit).to_msat(found.pending) for (_, unit), found in known.items())
    return {
        "available_msat": available,
        "pending_msat": pending,
        "total_msat": available + pending,
        "mints": [
            {"url": mint, "unit": unit, "available": found.available, "pending": found.pending}
            for (mint, unit), found in known.items()
        ],
    }


def _count_calls_by_state(conn: Connection, sums: dict[_Place, _Sums]) -> None:
    query = (
        select(proofs.c.holder, func.sum(proofs.c.amount))
        .join(calls_table, calls_table.c.transfer_id == proofs.c.holder)
        .where(proofs.c.status == ProofStatus.SENT)
        .group_by(proofs.c.holder)
    )
    sent = {transfer_id: int(amount) for transfer_id, amount in conn.execute(query)}
    coming_back = set(
        conn.execute(select(transfers.c.id).where(transfers.c.state == "reclaiming")).scalars().all()
    )
    touched = [call for call in calls.of_transfers(conn, list(sent)) if call.state not in NOT_SETTLED]
    for call in [*touched, *calls.with_states(conn, NOT_SETTLED)]:
        place = sums.setdefault((call.mint, call.unit), _Sums())
        out = sent.get(call.transfer_id, 0)
        if call.state in calls.OPEN and call.transfer_id not in coming_back:
            # also where the mint has said that the token is spent: its change is still to come
            place.pending += Unit.parse(call.unit).at_most(max(0, call.paid_msat - (call.change_msat or 0)))
        place.pending -= out
        if call.state is CallState.DISPUTED and call.transfer_id not in coming_back:
            place.pending += Unit.parse(call.unit).at_least(call.missing_msat or 0)


def _count_moves(conn: Connection, sums: dict[_Place, _Sums]) -> None:
    """Count what has left one mint and was not signed by the other yet."""
    for move in moves.with_states(conn, MoveState.PAID):
        place = sums.setdefault((move.to_mint, move.to_unit), _Sums())
        place.pending += Unit.parse(move.to_unit).at_most(move.amount_msat)


def _count_refused_change(conn: Connection, sums: dict[_Place, _Sums]) -> None:
    """Move change that the mint would not swap out of what can be spent."""
    query = (
        select(operations.c.mint, operations.c.unit, calls_table.c.state, func.sum(proofs.c.amount))
        .join(proofs, proofs.c.holder == operations.c.id)
        .outerjoin(calls_table, calls_table.c.id == operations.c.reference)
        .where(operations.c.state == "stored", operations.c.error.is_not(None))
        .where(proofs.c.status == ProofStatus.INCOMING)
        .group_by(operations.c.mint, operations.c.unit, calls_table.c.state)
    )
    for mint, unit, state, amount in conn.execute(query):
        place = sums.setdefault((mint, unit), _Sums())
        place.available -= int(amount)
        if state != CallState.DISPUTED:  # there the sum that is missing counts already
            place.pending += int(amount)


def pending(conn: Connection, _now: float) -> list[dict[str, Any]]:
    """Return the payments that are not settled, oldest first: calls, and Lightning invoices."""
    open_calls = [
        {
            "payment_id": call.id,
            "gateway": call.gateway,
            "state": call.state.value,
            "paid_msat": call.paid_msat,
            "since": call.created_at,
            "reason": call.reason,
        }
        for call in calls.with_states(conn, NOT_SETTLED)
    ]
    found = [*open_calls, *_lightning(conn), *_locked(conn), *_moved(conn)]
    return sorted(found, key=lambda payment: payment["since"])


def _locked(conn: Connection) -> list[dict[str, Any]]:
    """Return what is locked to gateways for coming calls."""
    return [
        {
            "payment_id": transfer.id,
            "gateway": gateway,
            "state": "in_flight",
            "paid_msat": Unit.parse(transfer.unit).to_msat(transfer.amount),
            "since": transfer.created_at,
            "reason": "locked to this gateway for coming calls; taken back from "
            f"{datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M} UTC on where none needs it",
        }
        for gateway, transfer, until in in_pools(conn)
    ]


def _moved(conn: Connection) -> list[dict[str, Any]]:
    """Return the moves between mints that are paid and have not arrived."""
    return [
        {
            "payment_id": move.id,
            "gateway": None,
            "state": "in_flight",
            "paid_msat": move.amount_msat,
            "since": move.created_at,
            "reason": f"moved from {move.from_mint}, and {move.to_mint} has not given e-cash for it yet",
        }
        for move in moves.with_states(conn, MoveState.PAID)
    ]


def _lightning(conn: Connection) -> list[dict[str, Any]]:
    """Return the Lightning payments that are on their way, and those whose change a mint keeps back."""
    paying = [
        {
            "payment_id": operation.id,
            "gateway": None,
            "state": "in_flight",
            "paid_msat": Unit.parse(operation.unit).to_msat(journal.input_amount(conn, operation.id)),
            "since": operation.created_at,
            "reason": f"a Lightning payment by {operation.mint}",
        }
        for operation in journal.with_state(conn, "prepared")
        if operation.kind == "melt"
    ]
    owing = [
        {
            "payment_id": paid.id,
            "gateway": None,
            "state": "awaiting_change",
            "paid_msat": Unit.parse(quote.unit).to_msat(quote.owed),
            "since": quote.created_at,
            "reason": f"change of a Lightning payment that {quote.mint} has not given back",
        }
        for quote in quotes.owing_melt_quotes(conn)
        for paid in journal.of_quote(conn, quote.id, "melt")
        if paid.state == "done"
    ]
    return [*paying, *owing]


def history(conn: Connection, _now: float, limit: int) -> list[dict[str, Any]]:
    """Return what happened, newest first: calls, and what else moved the wallet's money."""
    names = app_keys.names(conn)
    paid = [_paid(call, names) for call in calls.newest(conn, limit)]
    moved = [
        {
            "time": entry.time,
            "kind": entry.kind,
            "amount_msat": entry.amount_msat,
            "cost_msat": None,
            "fee_msat": entry.fee_msat,
            "gateway": None,
            "model": None,
            "state": entry.state,
            "lost_msat": -entry.amount_msat if entry.state == "lost" else None,
            "key": None,
        }
        for entry in store.read_history(conn, limit)
    ]
    return sorted([*paid, *moved], key=lambda entry: entry["time"], reverse=True)[:limit]


def _paid(call: PaidCall, key_names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "time": call.created_at,
        "kind": "call",
        "amount_msat": -call.spent_msat,
        "cost_msat": call.cost_msat,
        "fee_msat": call.fee_msat,
        "gateway": call.gateway,
        "model": call.model,
        "state": call.state.value,
        "lost_msat": call.missing_msat if call.state is CallState.LOST else None,
        "key": key_names.get(call.key_id or ""),
    }
