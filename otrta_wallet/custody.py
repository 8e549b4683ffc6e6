"""Proofs that change hands: a token comes in, a token goes out, and what was set aside is let go."""

import uuid
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, select, update

from otrta_core import Proof, Token, TokenError
from otrta_wallet import journal, store
from otrta_wallet.errors import TokenPending, TokenSpent
from otrta_wallet.incoming import Incoming
from otrta_wallet.records import Operation, OperationKind, OperationState, Transfer, new_operation
from otrta_wallet.schema import ProofStatus, proofs

DEBT = "debt:"
SET_ASIDE = "copy:"
"""Holds what another life of this wallet may have handed out; see ``otrta_wallet.copies``."""
"""A holder that begins so is a debt: nothing that is held for it is ever let go."""

HELD_S = 120.0
"""How long proofs stay set aside for a token that was then never made."""


def take_token(
    conn: Connection,
    now: float,
    incoming: Incoming,
    kind: OperationKind,
    state: OperationState,
    reference: str | None,
    due_at: float | None = None,
) -> Operation:
    """Journal that a token is to be taken, and store its proofs; raises as ``take_in``."""
    token = incoming.token
    operation = replace(
        new_operation(kind, token.mint, token.unit, incoming.net, incoming.fee, now, reference=reference),
        state=state,
        due_at=due_at,
    )
    journal.create(conn, operation, token.proofs)
    take_in(conn, token, operation.id, now)
    return operation


def take_in(conn: Connection, token: Token, operation_id: str, now: float) -> None:
    """Store a token's proofs as those of a journalled operation; ones that we handed out before come back.

    Raises:
        TokenSpent, TokenPending: the wallet knows a proof as spent, or has it.
        TokenError: it handed out another proof under the same secret.
    """
    ys = [proof.Y for proof in token.proofs]
    known = store.proofs_by_y(conn, ys)
    statuses = {status for _, status, _ in known.values()}
    if ProofStatus.SPENT in statuses:
        raise TokenSpent("the token has been spent already")
    if statuses - {ProofStatus.SENT}:
        raise TokenPending("the token is in this wallet already")
    if any(_stamp(p) != _stamp(known[p.Y][0]) for p in token.proofs if p.Y in known):
        raise TokenError("a proof of the token has been altered since it left this wallet")
    store.forget_proofs(conn, list(known))
    proofs = [(proof, operation_id) for proof in token.proofs]
    store.insert_proofs(conn, proofs, mint=token.mint, unit=token.unit, status=ProofStatus.INCOMING, now=now)
    for y, (_, _, holder) in known.items():
        if holder is not None:
            journal.note_origin(conn, operation_id, y, holder)


def _stamp(proof: Proof) -> tuple[str, int, str]:
    return proof.id, proof.amount, proof.C


def hand_out(
    conn: Connection,
    now: float,
    mint: str,
    unit: str,
    chosen: Sequence[Proof],
    memo: str | None,
    with_dleq: bool,
    reference: str | None,
    record: str | None,
) -> Transfer:
    """Make available proofs into a token and its transfer; ``record`` is the kind of the history's line."""
    token = Token(mint, unit, tuple(sorted(chosen, key=lambda p: (p.amount, p.Y))), memo)
    text = (token if with_dleq else token.without_dleq()).encode()
    transfer = Transfer(uuid.uuid4().hex, mint, unit, token.amount, text, "open", reference, now)
    store.save_transfer(conn, transfer)
    store.move_proofs(
        conn,
        [p.Y for p in chosen],
        was=ProofStatus.AVAILABLE,
        now_is=ProofStatus.SENT,
        holder=transfer.id,
        now=now,
    )
    if record is not None:
        store.record(conn, record, -token.amount, unit=unit, mint=mint, reference=transfer.id, now=now)
    return transfer


def sent_in(conn: Connection, _now: float, transfer_id: str) -> list[Proof]:
    """Return the proofs that are out in a transfer."""
    return store.proofs_with(conn, status=ProofStatus.SENT, holder=transfer_id)


def undo_transfer(conn: Connection, now: float, transfer_id: str) -> None:
    """See ``Wallet.undo_transfer``."""
    if store.set_transfer_state(conn, transfer_id, was=("open",), now_is="reclaimed", now=now):
        _move_sent(conn, now, transfer_id, now_is=ProofStatus.AVAILABLE, holder=None)


def close_transfer(conn: Connection, now: float, transfer_id: str) -> None:
    """See ``Wallet.close_transfer``."""
    store.erase_token(conn, transfer_id)
    if store.set_transfer_state(conn, transfer_id, was=("open",), now_is="claimed", now=now):
        _move_sent(conn, now, transfer_id, now_is=ProofStatus.SPENT, holder=transfer_id)


def _move_sent(
    conn: Connection, now: float, transfer_id: str, *, now_is: ProofStatus, holder: str | None
) -> None:
    """Move the proofs that a transfer has handed out."""
    sent = store.proofs_with(conn, status=ProofStatus.SENT, holder=transfer_id)
    ys = [proof.Y for proof in sent]
    store.move_proofs(conn, ys, was=ProofStatus.SENT, now_is=now_is, holder=holder, now=now)


def let_go(conn: Connection, now: float) -> None:
    """Make proofs available again that were held for a token which was then never made."""
    # one from the future was held before the clock was set back
    is_old = ~proofs.c.changed_at.between(now - HELD_S, now + HELD_S)
    forgotten = select(proofs.c.y).where(
        proofs.c.status == ProofStatus.HELD,
        is_old,
        proofs.c.holder.not_like(f"{DEBT}%"),
        proofs.c.holder != SET_ASIDE,
    )
    free = forgotten.with_for_update(skip_locked=True)  # what somebody has in hand is not forgotten
    freed = update(proofs).where(proofs.c.y.in_(free))
    conn.execute(freed.values(status=ProofStatus.AVAILABLE, holder=None, changed_at=now))
