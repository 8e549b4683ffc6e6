"""How much is risked on calls that run before their payment is certain: ``redeem: with_call``.

Each worker counts its own, so that it need not ask for what is too much anyway, and what all have at risk is
counted in the store, in the transaction that claims a payment's proofs.
"""

from dataclasses import dataclass, field

from sqlalchemy import Connection, func, or_, select, update

from otrta_litellm.one_by_one import one_by_one
from otrta_litellm.schema import PaymentState, payments

LONGEST_PAUSE_S = 3600.0


@dataclass(slots=True)
class Risk:
    """What this worker has at risk now, and whether more may be.

    After a lost swap every call waits for its payment again for a while: at first ``pause_s``, and twice as
    long for each further loss that comes before a swap has gone well after the pause.

    Attributes:
        limit_msat: the most that may be at risk at any moment.
        pause_s: how long nothing is risked after a loss.
    """

    limit_msat: int
    pause_s: float
    at_risk_msat: int = 0
    _not_before: float = float("-inf")
    _next_pause_s: float = field(default=0.0)

    def take(self, amount_msat: int, now: float) -> bool:
        """Put an amount at risk, if that may be; ``now`` is any clock that only goes forward, in seconds."""
        if now < self._not_before or self.at_risk_msat + amount_msat > self.limit_msat:
            return False
        self.at_risk_msat += amount_msat
        return True

    def won(self, amount_msat: int, now: float) -> None:
        """Note that an amount is certain."""
        self.at_risk_msat -= amount_msat
        if now >= self._not_before:
            self._next_pause_s = self.pause_s

    def lost(self, amount_msat: int, now: float) -> None:
        """Note that a swap was lost, or is not certain in time."""
        self.at_risk_msat -= amount_msat
        if now >= self._not_before:  # of calls that ran at the same time one is enough
            pause_s = max(self._next_pause_s, self.pause_s)
            self._not_before = now + pause_s
            self._next_pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def risked_by_all(self, conn: Connection, now: float, payment_id: str, amount_msat: int) -> bool:
        """Put a payment at risk, if that is not too much with what all workers have at risk.

        Nor is it done for a while after any of them has lost one.

        Args:
            conn: in the transaction that claims the payment's proofs.
            now: unix time.
            payment_id: of the payment, which is redeeming.
            amount_msat: what its call may cost.
        """
        one_by_one(conn, "at risk")
        lost = payments.c.state == PaymentState.REJECTED
        query = select(
            func.coalesce(func.sum(payments.c.at_risk_msat).filter(~lost), 0),
            func.count().filter(lost),
        ).where(
            payments.c.at_risk_msat.is_not(None),
            or_(
                payments.c.state == PaymentState.REDEEMING,
                lost & (payments.c.changed_at > now - self.pause_s),
            ),
        )
        at_risk_msat, lost_lately = conn.execute(query).one()
        if lost_lately or at_risk_msat + amount_msat > self.limit_msat:
            return False
        conn.execute(update(payments).where(payments.c.id == payment_id).values(at_risk_msat=amount_msat))
        return True
