"""Ending what a crash, a cancellation or a silent mint left open."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
from sqlalchemy import Connection

from otrta_core import OtrtaError
from otrta_wallet import journal, polling, quotes, store
from otrta_wallet.custody import let_go
from otrta_wallet.errors import MintRefused, TokenPending, TokenSpent
from otrta_wallet.pruning import prune
from otrta_wallet.records import Operation, Quote, StoredQuoteState, Transfer
from otrta_wallet.schema import ProofStatus

if TYPE_CHECKING:
    from otrta_wallet.batches import Batches
    from otrta_wallet.executor import Executor
    from otrta_wallet.invoices import Invoices
    from otrta_wallet.restore import Restorer
    from otrta_wallet.upkeep import Upkeep
    from otrta_wallet.wallet import Wallet

_log = logging.getLogger(__name__)

_CLOSED = (MintRefused, TokenSpent, TokenPending)
CLAIM_AGAIN_S = 60.0
"""How long a paid quote waits that its mint refused to mint. Each refusal takes counters, and doubles it."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a recovery found: operations finished, failed, and still open."""

    finished: int = 0
    failed: int = 0
    open: int = 0


@dataclass(slots=True)
class _Tally:
    finished: int = 0
    failed: int = 0
    open: int = 0


@dataclass(slots=True)
class _Leftovers:
    """What is open at one mint."""

    operations: list[Operation] = field(default_factory=list)
    watched: list[Operation] = field(default_factory=list)
    quotes: list[Quote] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)


async def recover(
    wallet: Wallet,
    executor: Executor,
    batches: Batches,
    invoices: Invoices,
    restorer: Restorer,
    upkeep: Upkeep,
    *,
    everything: bool,
    expired: bool,
    only: str | None = None,
    leave: Collection[str] = (),
) -> Recovery:
    """End operations by the mint's state, turn paid quotes into e-cash, close claimed transfers.

    A restore that was left behind is gone on with, and what stands on keysets that end is moved. Mints
    are seen to side by side, so that a silent one holds up no other. Never raises for what a mint does;
    what cannot be ended now is counted as open.

    Args:
        wallet: whose.
        executor: of the wallet.
        batches: of the wallet.
        invoices: of the wallet.
        restorer: of the wallet.
        upkeep: of the wallet.
        everything: whether also to look at what is waited for and not due to be looked at (``polling``).
        expired: whether also to ask for invoices that were given up.
        only: the one mint to see to; None for all.
        leave: ids of queued operations that are somebody's to carry out.
    """
    tally = _Tally()
    await wallet.mints.catch_up()
    leftovers, others = await wallet.transactions.run(_leftovers, everything=everything, expired=expired)
    tally.open += others
    async with anyio.create_task_group() as tasks:
        for mint, found in leftovers.items():
            if only in (None, mint):
                parts = (wallet, executor, batches, invoices)
                tasks.start_soon(_recover_mint, *parts, mint, found, tally, frozenset(leave))
        for mint in wallet.mints.urls if only is None else [only]:
            tasks.start_soon(_see_to_restored, restorer, mint, tally)
    async with anyio.create_task_group() as tasks:  # what is open comes first
        for mint in wallet.mints.urls if only is None else [only]:
            tasks.start_soon(_keep_up, upkeep, mint, tally)
    await wallet.transactions.run(let_go)
    await wallet.transactions.run(quotes.expire_melt_quotes)
    await wallet.transactions.run(prune)
    return Recovery(tally.finished, tally.failed, tally.open)


def _leftovers(
    conn: Connection, now: float, *, everything: bool, expired: bool
) -> tuple[dict[str, _Leftovers], int]:
    """Return what is to be done by mint, and how many operations other living workers are at."""
    found: dict[str, _Leftovers] = {}
    due_at = None if everything else now
    asked_for: list[StoredQuoteState] = ["open", "expired"] if expired else ["open"]
    of_others = journal.of_others(conn)
    for operation in journal.with_state(conn, "prepared"):
        if operation.id not in of_others:
            found.setdefault(operation.mint, _Leftovers()).operations.append(operation)
    for operation in journal.with_state(conn, "waiting"):
        found.setdefault(operation.mint, _Leftovers())
    for operation in journal.watched(conn, now, due_at=due_at):
        found.setdefault(operation.mint, _Leftovers()).watched.append(operation)
    for quote in quotes.quotes_in(conn, *asked_for, due_at=due_at):
        refusals = [op.changed_at for op in journal.of_quote(conn, quote.id) if op.state == "failed"]
        if not refusals or now >= max(refusals) + CLAIM_AGAIN_S * 2 ** min(len(refusals), 20):
            found.setdefault(quote.mint, _Leftovers()).quotes.append(quote)
    for transfer in store.load_transfers(conn, state="open", due_at=due_at):
        if transfer.reference is None:
            found.setdefault(transfer.mint, _Leftovers()).transfers.append(transfer)
    return found, len(of_others)


async def _recover_mint(
    wallet: Wallet,
    executor: Executor,
    batches: Batches,
    invoices: Invoices,
    mint: str,
    found: _Leftovers,
    tally: _Tally,
    leave: frozenset[str],
) -> None:
    for operation in found.operations:
        if executor.is_active(operation.id):
            tally.open += 1
            continue
        with _by_itself(tally):
            try:
                await executor.carry_out(operation, ambiguous=True)
                tally.finished += 1
            except _CLOSED:
                tally.failed += 1
    # also those of batches that were dissolved just now
    with _by_itself(tally):
        waiting = await wallet.transactions.run(_waiting_at, mint, leave)
        for ended in await batches.carry_out(waiting, recovering=True):
            closed, done = isinstance(ended, _CLOSED), isinstance(ended, Operation)
            tally.finished, tally.failed = tally.finished + done, tally.failed + closed
            tally.open += not (closed or done)
    for operation in found.watched:
        with _by_itself():
            tally.finished += await executor.look_again(operation)
        with _by_itself():
            await wallet.transactions.run(_watch_on, operation)
    for quote in found.quotes:
        with _by_itself(tally):
            tally.finished += await invoices.look(quote)
    with _by_itself():
        await _look_at(wallet, mint, found.transfers)


async def _see_to_restored(restorer: Restorer, mint: str, tally: _Tally) -> None:
    with _by_itself():
        await restorer.settle(mint)
    with _by_itself(tally):
        tally.finished += await restorer.go_on(mint)


@contextmanager
def _by_itself(tally: _Tally | None = None) -> Iterator[None]:
    """Keep what goes wrong with one thing from holding up all others; it is counted as open in ``tally``."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, OtrtaError):  # its text may show a row
            _log.error("recovery was stopped by %s", type(error).__name__)
        if tally is not None:
            tally.open += 1


async def _keep_up(upkeep: Upkeep, mint: str, tally: _Tally) -> None:
    with _by_itself():
        tally.finished += await upkeep.move_off_old_keysets(mint)
    with _by_itself():
        tally.finished += await upkeep.keep_in_reach(mint)


async def _look_at(wallet: Wallet, mint: str, transfers: Sequence[Transfer]) -> None:
    """Close the transfers whose proofs have all been spent by their receivers."""
    if not transfers:
        return
    sent = await wallet.transactions.run(_sent_in, transfers)
    try:
        states = await wallet.mints.client(mint).check_state([y for ys in sent.values() for y in ys])
    except OtrtaError:
        return
    for transfer_id, ys in sent.items():
        if ys and {states[y] for y in ys} == {"SPENT"}:
            await wallet.transactions.run(wallet.close_transfer, transfer_id)


def _sent_in(conn: Connection, now: float, transfers: Sequence[Transfer]) -> dict[str, list[str]]:
    """Return the Ys that are out in each of these transfers, and note when to ask for them next."""
    for transfer in transfers:
        store.put_off_transfer(conn, transfer.id, polling.next_look(transfer.created_at, now))
    return {
        transfer.id: [p.Y for p in store.proofs_with(conn, status=ProofStatus.SENT, holder=transfer.id)]
        for transfer in transfers
    }


def _waiting_at(conn: Connection, _now: float, mint: str, leave: frozenset[str]) -> list[Operation]:
    not_ours = journal.of_others(conn) | leave
    waiting = journal.with_state(conn, "waiting")
    return [operation for operation in waiting if operation.mint == mint and operation.id not in not_ours]


def _watch_on(conn: Connection, now: float, operation: Operation) -> None:
    journal.put_off(conn, operation.id, polling.next_look(operation.changed_at, now))
