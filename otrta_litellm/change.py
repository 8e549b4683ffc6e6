"""Making change: from proofs at hand in the settling transaction itself, else by a swap.

Either way the change is written with its payment before anybody hears of it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

import anyio
from sqlalchemy import Connection, exists, func, select, update

from otrta_core import OtrtaError, Proof, Settlement, Token, Unit, pick_exact
from otrta_litellm import payments
from otrta_litellm.change_float import ChangeFloat
from otrta_litellm.payments import LeaseLost, Payment
from otrta_litellm.schema import payments as payments_table
from otrta_wallet import Wallet, at_hand, journal, store
from otrta_wallet.custody import DEBT
from otrta_wallet.schema import ProofStatus, proofs

MAX_CHANGE_BYTES = 4000

CHANGE_WITHIN_S = 5.0
"""How long a swap for change may take before it is owed; the caller's answer waits for it."""


async def settle(
    wallet: Wallet,
    payment: Payment,
    settled: Settlement,
    outcome: str,
    change_float: ChangeFloat | None = None,
    redeemed: Callable[[], Awaitable[bool]] | None = None,
) -> Payment:
    """Settle a redeemed payment and make its change, as far as that is possible now.

    Args:
        wallet: the gateway's.
        payment: as its owner has it.
        settled: how it is divided.
        outcome: of the call, for the books.
        change_float: what running calls count on; None where there are none.
        redeemed: waits for the payment's own swap where that may still be under way, and tells whether that
            brought proofs.

    Returns:
        The payment as it is now: ``change_due`` says that the change is owed and not yet made. One that was
        settled before in the same way is returned as it was left.

    Raises:
        LeaseLost: somebody else settles the payment, or has settled it otherwise: another worker that took
            this one for dead, or this one's recovery.

    Cancelled, it is settled or not; what is then missing is done by recovery.
    """
    lasting = frozenset(k.id for k in wallet.mints.keysets(payment.mint).values() if k.active)

    place, amount = (payment.mint, payment.unit), settled.change // Unit.parse(payment.unit).msat

    def pick(pieces: Sequence[Proof], _fees: Mapping[str, int]) -> list[Proof] | None:
        return (change_float or ChangeFloat()).pick(payment.id, place, pieces, amount)

    def from_proofs_at_hand(conn: Connection, now: float) -> Payment:
        taken = at_hand.take(conn, *place, pick, most=64, only_keysets=lasting)
        if taken is not None:
            _hand_over(conn, now, payment, taken.proofs, was=ProofStatus.AVAILABLE)
            if change_float is not None:  # here, since a swap that is planned now sees these proofs gone
                change_float.let_go(payment.id)
        return payments.load(conn, payment.id)

    def in_one_go(conn: Connection, now: float) -> Payment:
        if payments.settle(conn, now, payment, settled, outcome) and settled.change:
            return from_proofs_at_hand(conn, now)
        return payments.load(conn, payment.id)

    current = await wallet.transactions.run(in_one_go)
    if (current.owner, current.lease) != (payment.owner, payment.lease):
        raise LeaseLost("another worker of this gateway settles this payment")
    if (current.cost_msat, current.change_msat) != (settled.charged, settled.change):
        raise LeaseLost("this payment was settled otherwise before")
    if current.change_due:
        with suppress(Exception):  # the call is settled and its answer has to go out: recovery tries again
            if redeemed is not None and await redeemed():
                current = await wallet.transactions.run(from_proofs_at_hand)
            return await make_due_change(wallet, current) if current.change_due else current
    return current


async def make_due_change(wallet: Wallet, payment: Payment) -> Payment:
    """Make change that is owed, by a swap; the payment comes back still owing where that failed.

    Never raises for what the mint does, and takes about ``CHANGE_WITHIN_S`` at most.
    """
    holder = DEBT + payment.id
    amount = (payment.change_msat or 0) // Unit.parse(payment.unit).msat

    def hand_over(conn: Connection, now: float) -> tuple[Payment, bool]:
        held = store.proofs_with(conn, status=ProofStatus.HELD, holder=holder)
        chosen = _exactly(held, payment.change_msat or 0, payment.unit)
        if chosen is not None:
            _hand_over(conn, now, payment, chosen, was=ProofStatus.HELD)
        under_way = any(op.state == "prepared" for op in journal.by_reference(conn, holder))
        return payments.load(conn, payment.id), under_way

    current, under_way = await wallet.transactions.run(hand_over)
    if not current.change_due or under_way:
        return current
    with anyio.move_on_after(CHANGE_WITHIN_S) as patience:
        try:
            await wallet.hold_exact(payment.mint, amount, payment.unit, holder)
        except OtrtaError:
            return current
    if patience.cancelled_caught:
        return current
    return (await wallet.transactions.run(hand_over))[0]


def free_what_nobody_is_owed(conn: Connection, now: float) -> None:
    """Make proofs available again that are held for a debt which has been paid with others."""
    debtor = func.substr(proofs.c.holder, len(DEBT) + 1)
    owed = exists().where(payments_table.c.id == debtor, payments_table.c.change_due)
    forgotten = select(proofs.c.y).where(
        proofs.c.status == ProofStatus.HELD, proofs.c.holder.like(f"{DEBT}%"), ~owed
    )
    freed = update(proofs).where(proofs.c.y.in_(forgotten.with_for_update(skip_locked=True)))
    conn.execute(freed.values(status=ProofStatus.AVAILABLE, holder=None, changed_at=now))


def _exactly(usable: Sequence[Proof], change_msat: int, unit: str) -> list[Proof] | None:
    amount = change_msat // Unit.parse(unit).msat
    return pick_exact(usable, amount, max_proofs=amount.bit_length())


def _hand_over(
    conn: Connection, now: float, payment: Payment, chosen: Sequence[Proof], *, was: ProofStatus
) -> None:
    token = Token(payment.mint, payment.unit, tuple(sorted(chosen, key=lambda p: (p.amount, p.Y))))
    text = token.encode()
    if len(text) > MAX_CHANGE_BYTES:
        text = token.without_dleq().encode()
    if payments.put_change(conn, now, payment, text):
        store.move_proofs(
            conn,
            [proof.Y for proof in chosen],
            was=was,
            now_is=ProofStatus.SENT,
            holder=payment.id,
            now=now,
        )
