"""Mints that are away: after a few failures in a row their tokens are refused at once, until one answers.

A token sent to a mint that does not answer is journalled and its payer waits; one refused here is untouched.
"""

import time
from collections.abc import Callable

FAILURES = 3
"""After how many failures in a row a mint counts as away."""

FIRST_PROBE_S = 2.0
LONGEST_S = 60.0


class Breaker:
    """Whether one mint is away, and when it is asked next."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._pause_s = FIRST_PROBE_S
        self._probe_at = 0.0

    @property
    def open(self) -> bool:
        """Whether the mint counts as away."""
        return self._failures >= FAILURES

    @property
    def probe_due(self) -> bool:
        """Whether it is time to ask a mint that is away."""
        return self.open and self._clock() >= self._probe_at

    def failed(self) -> None:
        """Note that the mint did not answer a call, or a probe."""
        was_open = self.open
        self._failures += 1
        if self.open:
            self._pause_s = min(self._pause_s * 2, LONGEST_S) if was_open else FIRST_PROBE_S
            self._probe_at = self._clock() + self._pause_s

    def answered(self) -> None:
        """Note that it did, whatever it said."""
        self._failures = 0


class Breakers:
    """One for each mint."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._of: dict[str, Breaker] = {}

    def of(self, mint: str) -> Breaker:
        """Return the breaker of a mint that is taken here."""
        return self._of.setdefault(mint, Breaker(self._clock))

    def to_probe(self) -> list[str]:
        """Return the mints that are away and are to be asked now."""
        return [mint for mint, breaker in self._of.items() if breaker.probe_due]

    @property
    def away(self) -> list[str]:
        """The mints that count as away."""
        return [mint for mint, breaker in self._of.items() if breaker.open]
