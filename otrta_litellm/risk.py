"""How much is risked on calls that run before their payment is certain: ``redeem: with_call``."""

from dataclasses import dataclass, field

LONGEST_PAUSE_S = 3600.0


@dataclass(slots=True)
class Risk:
    """What is at risk now, and whether more may be.

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
