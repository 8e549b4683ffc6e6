"""What a bitcoin is taken to cost in USD, decided from what several feeds say.

Pure: readings and the time go in, the next state comes out. A rate is the median of readings that are fresh
and that agree; one that jumps has to be seen again and again before it counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

CONFIRMATIONS = 3
"""How many polls in a row have to show a rate that jumped."""

AHEAD_S = 60.0
"""How far a feed's clock may be ahead of ours."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one feed says.

    Attributes:
        feed: which one, for the log.
        usd: for one bitcoin.
        at: unix time that the feed gives its price, or of its answer where it gives none.
    """

    feed: str
    usd: Decimal
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRules:
    """What is believed.

    Attributes:
        max_age_s: an older reading, or rate, does not count.
        max_jump: the share by which readings may differ from their median, and a rate from the one before.
        min_feeds: how many readings have to agree.
    """

    max_age_s: float
    max_jump: Decimal
    min_feeds: int


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate in USD for one bitcoin, and when it was seen."""

    usd: Decimal
    at: float


@dataclass(frozen=True, slots=True)
class RateState:
    """What is known of the rate.

    Attributes:
        rate: the last one that counted, fresh or not.
        doubted: one that jumped away from it and has not been seen often enough yet.
        seen: in how many polls in a row it was seen.
    """

    rate: Rate | None = None
    doubted: Rate | None = None
    seen: int = 0

    def fresh(self, rules: RateRules, now: float) -> Rate | None:
        """Return the rate, unless it is too old."""
        rate = self.rate
        return rate if rate is not None and now < rate.at + rules.max_age_s else None


def median(values: Iterable[Decimal]) -> Decimal:
    """Return the median; of an even number of values the mean of the two in the middle."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def agreed(readings: Iterable[Reading], rules: RateRules, now: float) -> Rate | None:
    """Return the median of fresh readings, or None where too few agree with it.

    It is as old as the oldest reading that agrees with it.
    """
    fresh = [r for r in readings if now - rules.max_age_s < r.at <= now + AHEAD_S]
    if not fresh:
        return None
    middle = median(reading.usd for reading in fresh)
    close = [reading for reading in fresh if _near(reading.usd, middle, rules.max_jump)]
    if len(close) < rules.min_feeds:
        return None
    return Rate(middle, min(now, *(reading.at for reading in close)))


def after_poll(state: RateState, readings: Iterable[Reading], rules: RateRules, now: float) -> RateState:
    """Return the state after a poll of all feeds.

    A poll without an agreed rate changes nothing, so the last rate ages. One whose rate is too far from the
    last leaves that rate to age until ``CONFIRMATIONS`` polls in a row have shown about the same.
    """
    found = agreed(readings, rules, now)
    if found is None:
        return state
    if state.rate is None or _near(found.usd, state.rate.usd, rules.max_jump):
        return RateState(found)
    again = state.doubted is not None and _near(found.usd, state.doubted.usd, rules.max_jump)
    seen = state.seen + 1 if again else 1
    return RateState(found) if seen >= CONFIRMATIONS else replace(state, doubted=found, seen=seen)


def _near(value: Decimal, other: Decimal, share: Decimal) -> bool:
    return abs(value - other) <= other * share
