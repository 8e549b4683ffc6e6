"""What should be at hand before anybody pays: twice what calls have lately counted on at the same time.

A token that is redeemed behind its call brings its money too late for the change of that call. Where the
gateway has money of its own, change is made of that, if it is there in the denominations that change takes.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

PERIOD_S: Final = 600.0
"""For how long at least, and twice that at most, a rush is remembered."""

MOST_OF_A_KIND: Final = 32
"""Of each denomination: who serves more at once waits for swaps now and then."""


@dataclass(slots=True)
class Standing:
    """How many proofs of each denomination calls count on at once, at one mint and in one unit."""

    clock: Callable[[], float] = time.monotonic
    _now: Counter[int] = field(default_factory=Counter)
    _peak: Counter[int] = field(default_factory=Counter)
    _peak_before: Counter[int] = field(default_factory=Counter)
    _since: float = float("-inf")

    def begin(self, needs: Mapping[int, int]) -> None:
        """Note that a call counts on these, from now on."""
        self._turn()
        self._now.update(needs)
        self._peak |= self._now

    def end(self, needs: Mapping[int, int]) -> None:
        """Note that a call counts on these no more."""
        self._now.subtract(needs)

    def wanted(self) -> dict[int, int]:
        """Return how many proofs of each denomination there should be; none where no calls came lately."""
        self._turn()
        return {piece: min(2 * n, MOST_OF_A_KIND) for piece, n in (self._peak | self._peak_before).items()}

    def _turn(self) -> None:
        now = self.clock()
        if now - self._since >= PERIOD_S:
            is_old = now - self._since >= 2 * PERIOD_S
            self._peak_before = Counter() if is_old else self._peak
            self._peak, self._since = +self._now, now
