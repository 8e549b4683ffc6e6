"""How the gateways have done lately: which one is left alone for a while, and how fast each answers.

A gateway that fails ``FAILURES`` times in a row is left alone, at first for ``FIRST_REST_S``, then twice as
long each time. When that is over one call tries it; only if that call succeeds do others follow. One that
asks to be left alone (429 or 503 with ``Retry-After``) is, as long as it asks, within bounds. It is a matter
of preference alone: where no other gateway sells a call, one that is left alone is tried all the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from proxy_trio.payer import Ending, Outcome

FAILURES: Final = 3
FIRST_REST_S: Final = 10.0
LONGEST_REST_S: Final = 600.0
PROBE_S: Final = 60.0
"""After so long without an end, a call that tries a gateway no longer keeps others from it."""
_WEIGHT: Final = 0.2
_FAILED: Final = frozenset({Ending.UNREACHABLE, Ending.BROKE_OFF, Ending.TIMEOUT, Ending.REDIRECTED})


@dataclass(frozen=True, slots=True)
class Standing:
    """How a gateway stands.

    Attributes:
        resting: whether it is to be left alone now.
        failures: in a row.
        latency_s: until the head of an answer, averaged over the last ones; None where none is known.
        rests_until: when it is tried again, by the clock of its ``Health``; None where it may be now.
    """

    resting: bool = False
    failures: int = 0
    latency_s: float | None = None
    rests_until: float | None = None


@dataclass(slots=True)
class _Record:
    failures: int = 0
    rest_s: float = 0.0
    rests_until: float | None = None
    probed_at: float | None = None
    latency_s: float | None = None


class Health:
    """What is known of each gateway; it is not kept over a restart."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Make one that knows nothing.

        Args:
            clock: seconds from any beginning.
        """
        self._clock = clock
        self._of: dict[str, _Record] = {}

    def standing(self, url: str) -> Standing:
        """Return how a gateway stands now."""
        record = self._of.get(url)
        if record is None:
            return Standing()
        now = self._clock()
        rests = record.rests_until is not None and now < record.rests_until
        probed = record.probed_at is not None and now - record.probed_at < PROBE_S
        until = record.rests_until if rests else None
        return Standing(rests or probed, record.failures, record.latency_s, until)

    def begun(self, url: str) -> None:
        """Note that a call goes to a gateway; after a rest it is the one that tries it."""
        record = self._of.setdefault(url, _Record())
        if record.rests_until is not None and self._clock() >= record.rests_until:
            record.probed_at = self._clock()

    def answered(self, url: str, latency_s: float) -> None:
        """Note how long the head of an answer took."""
        record = self._of.setdefault(url, _Record())
        known = record.latency_s
        record.latency_s = latency_s if known is None else known + _WEIGHT * (latency_s - known)

    def ended(self, url: str, outcome: Outcome, retry_after_s: float | None = None) -> None:
        """Note how a call ended; an end that says nothing of the gateway changes nothing.

        Args:
            url: of the gateway.
            outcome: of the call.
            retry_after_s: how long it asks to be left alone.
        """
        record = self._of.setdefault(url, _Record())
        failed = says_ill(outcome)
        if failed is None:
            record.probed_at = None
            return
        if not failed and retry_after_s is None:
            record.failures, record.rest_s = 0, 0.0
            record.rests_until = record.probed_at = None
            return
        record.failures += 1
        tried = record.probed_at is not None
        record.probed_at = None
        if retry_after_s is not None:
            record.rests_until = self._clock() + min(max(retry_after_s, 1.0), LONGEST_REST_S)
        elif tried or record.failures >= FAILURES:
            record.rest_s = min(LONGEST_REST_S, record.rest_s * 2 or FIRST_REST_S)
            record.rests_until = self._clock() + record.rest_s

    def forget(self, url: str) -> None:
        """Forget a gateway, because a person says that it is well, or it left the list."""
        self._of.pop(url, None)


def says_ill(outcome: Outcome) -> bool | None:
    """Tell whether an end is the gateway's failure; None where it tells nothing of the gateway."""
    if outcome.ending in _FAILED:
        return True
    if outcome.status is None:
        return None
    if outcome.status >= 500 or outcome.status == 429:
        return True
    return False if outcome.ending is Ending.COMPLETE else None


def retry_after_s(outcome: Outcome) -> float | None:
    """Return how long a gateway that refused asks to be left alone, where it says so in seconds."""
    if outcome.head is None or outcome.status not in (429, 503):
        return None
    text = (outcome.head.get("retry-after") or "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 9 else None
