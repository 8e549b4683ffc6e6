"""Ending what a crash, a cancellation or a silent mint left open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otrta_core import OtrtaError
from otrta_wallet import journal, store
from otrta_wallet.custody import let_go
from otrta_wallet.errors import MintError, QuoteNotPaid
from otrta_wallet.records import Transfer
from otrta_wallet.schema import ProofStatus

if TYPE_CHECKING:
    from otrta_wallet.executor import Executor
    from otrta_wallet.wallet import Wallet


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a recovery found: operations finished, failed, and still open."""

    finished: int = 0
    failed: int = 0
    open: int = 0


async def recover(wallet: Wallet, executor: Executor) -> Recovery:
    """End operations by the mint's state, turn paid quotes into e-cash, close claimed transfers.

    Never raises for what a mint does; what cannot be ended now is counted as open.
    """
    opened = await wallet.transactions.run(
        lambda conn, now: (
            journal.with_state(conn, "prepared"),
            journal.watched(conn, now),
            store.open_quotes(conn),
            store.load_transfers(conn, state="open"),
        )
    )
    operations, watched, quotes, transfers = opened
    finished = failed = still_open = 0
    for operation in operations:
        if executor.is_active(operation.id):
            still_open += 1
            continue
        try:
            await executor.carry_out(operation, ambiguous=True)
            finished += 1
        except OtrtaError as error:
            closed = not isinstance(error, MintError) or error.http_status == 400
            failed, still_open = failed + closed, still_open + (not closed)
    for operation in watched:
        try:
            finished += await executor.look_again(operation)
        except OtrtaError:
            continue
    for quote in quotes:
        try:
            await wallet.claim_quote(quote.id)
            finished += 1
        except QuoteNotPaid:
            continue
        except OtrtaError:
            still_open += 1
    for transfer in transfers:
        if transfer.reference is None:
            await _look_at(wallet, transfer)
    await wallet.transactions.run(let_go)
    return Recovery(finished, failed, still_open)


async def _look_at(wallet: Wallet, transfer: Transfer) -> None:
    """Close a transfer whose proofs have all been spent by its receiver."""
    sent = await wallet.transactions.run(
        lambda conn, _now: store.proofs_with(conn, status=ProofStatus.SENT, holder=transfer.id)
    )
    try:
        states = await wallet.mints.client(transfer.mint).check_state([p.Y for p in sent])
    except MintError:
        return
    if states and set(states.values()) == {"SPENT"}:
        await wallet.transactions.run(lambda conn, now: wallet.close_transfer(conn, now, transfer.id))
