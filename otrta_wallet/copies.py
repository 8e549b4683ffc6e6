"""Finding out what another life of this wallet has done: one that this database is a copy or a backup of.

Nothing of what that life made is taken: it may have been handed out. What it spent is spent here too, and the
counters that it used are never used again (NUT-07, NUT-09, NUT-13). What both had and nobody has spent may
have been handed out as well: it is set aside, so that it is handed out to nobody else, and whoever has it can
spend it. What is still there much later, or when the owner says so, is swapped to fresh secrets.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, select

from otrta_core import Keyset, Proof, Unit
from otrta_wallet import store
from otrta_wallet.custody import SET_ASIDE
from otrta_wallet.mint_book import MintBook
from otrta_wallet.mint_client import ProofState
from otrta_wallet.own_swaps import OwnSwaps
from otrta_wallet.scanning import BATCH, last_counter, signed_in_batch
from otrta_wallet.scans import MARGIN, MAX_COUNTER
from otrta_wallet.schema import ProofStatus, proofs
from otrta_wallet.schema import keysets as keysets_table
from otrta_wallet.transactions import Transactions

_LOOKED_AT = (ProofStatus.AVAILABLE, ProofStatus.HELD)


async def catch_up(
    transactions: Transactions, mints: MintBook, seed: bytes, mint: str, empty_batches: int
) -> dict[str, int]:
    """Mark what has been spent at a mint, and skip the counters that have been used there.

    Args:
        transactions: on the wallet's database.
        mints: of the wallet.
        seed: of the wallet.
        mint: a known one, its keysets up to date.
        empty_batches: after how many hundreds of counters in a row that the mint never signed the next one
            counts as unused.

    Returns:
        What is gone, by unit.

    Raises:
        MintError: the mint could not be asked; doing it again goes on from what was noted.

    Cancelled, what was found until then is noted.
    """
    client = mints.client(mint)
    for keyset in mints.keysets(mint).values():
        if keyset.unit in set(Unit):
            await _skip_used(transactions, mints, seed, mint, keyset, empty_batches)
    held = await transactions.run(_to_be_asked_for, mint)
    states = await client.check_state([proof.Y for proof in held])
    return await transactions.run(_note_states, mint, states)


async def _skip_used(
    transactions: Transactions, mints: MintBook, seed: bytes, mint: str, keyset: Keyset, empty_batches: int
) -> None:
    client = mints.client(mint)
    at, empty = await transactions.run(_next_counter, keyset.id), 0
    while empty < empty_batches and at < MAX_COUNTER:
        last = last_counter(await signed_in_batch(client, seed, keyset, at))
        empty = empty + 1 if last is None else 0
        at += BATCH
        if last is not None:
            await transactions.run(_skip, keyset.id, last + 1 + MARGIN)


def _next_counter(conn: Connection, _now: float, keyset_id: str) -> int:
    rows = conn.execute(keysets_table.select().where(keysets_table.c.id == keyset_id))
    return int(rows.one().counter)


def _skip(conn: Connection, _now: float, keyset_id: str, free: int) -> None:
    store.skip_counters(conn, keyset_id, free)


def _to_be_asked_for(conn: Connection, _now: float, mint: str) -> list[Proof]:
    return [proof for status in _LOOKED_AT for proof in store.proofs_with(conn, status=status, mint=mint)]


def _note_states(conn: Connection, now: float, mint: str, states: Mapping[str, ProofState]) -> dict[str, int]:
    known = store.proofs_by_y(conn, list(states))
    units = {keyset.id: keyset.unit for keyset in store.load_keysets(conn).get(mint, {}).values()}
    gone: dict[str, int] = {}
    for status in _LOOKED_AT:
        here = [proof for proof, known_as, _ in known.values() if known_as is status]
        spent = [proof for proof in here if states[proof.Y] == "SPENT"]
        _move(conn, now, spent, status, ProofStatus.SPENT)
        pending = [proof for proof in here if states[proof.Y] == "PENDING"]
        _move(conn, now, pending, status, ProofStatus.UNSETTLED)
        for proof in spent:
            gone[units[proof.id]] = gone.get(units[proof.id], 0) + proof.amount
    for unit, amount in sorted(gone.items()):
        store.record(conn, "restore", -amount, unit=unit, mint=mint, now=now)
    return gone


def _move(
    conn: Connection, now: float, moved: Sequence[Proof], was: ProofStatus, now_is: ProofStatus
) -> None:
    store.move_proofs(conn, [p.Y for p in moved], was=was, now_is=now_is, holder=None, now=now)


def set_aside(conn: Connection, now: float, mint: str) -> int:
    """Keep what is available at a mint from being handed out, and return how many proofs that are."""
    found = store.proofs_with(conn, status=ProofStatus.AVAILABLE, mint=mint)
    ys = [proof.Y for proof in found]
    was, now_is = ProofStatus.AVAILABLE, ProofStatus.HELD
    store.move_proofs(conn, ys, was=was, now_is=now_is, holder=SET_ASIDE, now=now)
    return len(ys)


async def take_back(
    transactions: Transactions, mints: MintBook, swaps: OwnSwaps, mint: str, older_than_s: float
) -> int:
    """Swap what was set aside at a mint and is not spent, and return how many swaps that took.

    Raises:
        MintError: the mint could not be asked.
        the errors of ``Executor.carry_out``.
    """

    def old(conn: Connection, now: float) -> list[str]:
        query = select(proofs.c.y).where(
            proofs.c.status == ProofStatus.HELD,
            proofs.c.holder == SET_ASIDE,
            proofs.c.mint == mint,
            proofs.c.changed_at <= now - older_than_s,
        )
        return list(conn.execute(query).scalars())

    ys = await transactions.run(old)
    if not ys:
        return 0
    states = await mints.client(mint).check_state(ys)
    await transactions.run(_note_states, mint, states)
    made = 0
    unspent = frozenset(y for y in ys if states[y] == "UNSPENT")
    units = {keyset.unit for keyset in mints.keysets(mint).values() if keyset.unit in set(Unit)}
    for unit in sorted(units):
        keyset = await mints.active_keyset(mint, unit)
        while (
            await swaps.move_held(mint, unit, SET_ASIDE, unspent, swaps.into_change(mint, keyset)) is not None
        ):
            made += 1
    return made
