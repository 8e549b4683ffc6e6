"""Making change: from proofs at hand in the settling transaction itself, else by a swap.

Either way the change is written with its payment before anybody hears of it.
"""

from collections.abc import Sequence

from sqlalchemy import Connection

from otrta_core import Proof, Settlement, Token, Unit, pick_exact
from otrta_litellm import payments
from otrta_litellm.payments import Payment
from otrta_wallet import Wallet, WalletError, store
from otrta_wallet.custody import DEBT
from otrta_wallet.schema import ProofStatus

MAX_CHANGE_BYTES = 4000


async def settle(wallet: Wallet, payment: Payment, settled: Settlement, outcome: str) -> Payment:
    """Settle a redeemed payment and make its change, as far as that is possible now.

    Returns:
        The payment as it is now: ``change_due`` says that the change is owed and not yet made. A payment
        that somebody else settled first is returned as they left it.

    Cancelled, it is settled or not; what is then missing is done by recovery.
    """

    def in_one_go(conn: Connection, now: float) -> Payment:
        if payments.settle(conn, now, payment.id, settled, outcome) and settled.change:
            amount = settled.change // Unit.parse(payment.unit).msat
            at_hand = store.proofs_with(
                conn, status=ProofStatus.AVAILABLE, mint=payment.mint, unit=payment.unit
            )
            chosen = pick_exact(at_hand, amount, max_proofs=amount.bit_length())
            if chosen is not None:
                _hand_over(conn, now, payment, chosen, was=ProofStatus.AVAILABLE)
        return payments.load(conn, payment.id)

    current = await wallet.transactions.run(in_one_go)
    return await make_due_change(wallet, current) if current.change_due else current


async def make_due_change(wallet: Wallet, payment: Payment) -> Payment:
    """Make change that is owed, by a swap; the payment comes back still owing where that failed.

    Never raises for what the mint does.
    """
    holder = DEBT + payment.id
    amount = (payment.change_msat or 0) // Unit.parse(payment.unit).msat

    def hand_over(conn: Connection, now: float) -> Payment:
        held = store.proofs_with(conn, status=ProofStatus.HELD, holder=holder)
        if sum(proof.amount for proof in held) == amount:
            _hand_over(conn, now, payment, held, was=ProofStatus.HELD)
        return payments.load(conn, payment.id)

    current = await wallet.transactions.run(hand_over)
    if not current.change_due:
        return current
    try:
        await wallet.hold_exact(payment.mint, amount, payment.unit, holder)
    except WalletError:
        return current
    return await wallet.transactions.run(hand_over)


def _hand_over(
    conn: Connection, now: float, payment: Payment, chosen: Sequence[Proof], *, was: ProofStatus
) -> None:
    token = Token(payment.mint, payment.unit, tuple(sorted(chosen, key=lambda p: (p.amount, p.Y))))
    text = token.encode()
    if len(text) > MAX_CHANGE_BYTES:
        text = token.without_dleq().encode()
    if payments.put_change(conn, now, payment.id, text):
        store.move_proofs(
            conn,
            [proof.Y for proof in chosen],
            was=was,
            now_is=ProofStatus.SENT,
            holder=payment.id,
            now=now,
        )
