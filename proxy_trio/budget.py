"""Budgets: what may leave for calls, decided from limits and sums alone. Every doubt is a refusal.

A limit is a number of msat, or None where the user has said that there is none; 0 lets nothing pass. Hours
begin with the hour of UTC, days at midnight and months on the first of this machine's time zone. Whatever
is dated after the beginning of a window counts in it, the future included: a clock that is set back renews
nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from math import ceil
from typing import Final

from otrta_core import format_msat
from proxy_trio.errors import BudgetExceeded


class Window(StrEnum):
    """A stretch of time that has a budget; ``TOTAL`` never ends."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that may leave, in msat: for one request, and in each window. None: no limit."""

    per_request_msat: int | None
    per_hour_msat: int | None
    per_day_msat: int | None
    per_month_msat: int | None
    total_msat: int | None = None

    def of(self, window: Window) -> int | None:
        """Return the limit of a window."""
        if window is Window.TOTAL:
            return self.total_msat
        limit: int | None = getattr(self, f"per_{window.value}_msat")
        return limit

    @property
    def windows(self) -> tuple[Window, ...]:
        """The windows that have a limit."""
        return tuple(window for window in Window if self.of(window) is not None)


DEFAULT_LIMITS: Final = Limits(
    per_request_msat=1_000_000, per_hour_msat=None, per_day_msat=10_000_000, per_month_msat=None
)
UNLIMITED: Final = Limits(per_request_msat=None, per_hour_msat=None, per_day_msat=None, per_month_msat=None)


@dataclass(frozen=True, slots=True)
class Line:
    """One limit and how it stands.

    Attributes:
        name: ``request``, or the window's.
        key: the app key that it belongs to; None where it is for all calls together.
        limit_msat: None: no limit.
        spent_msat: what counts against it already; 0 for a request.
        renews_at: unix seconds; None where it does not renew.
    """

    name: str
    key: str | None
    limit_msat: int | None
    spent_msat: int
    renews_at: int | None

    @property
    def left_msat(self) -> int | None:
        """What may still leave, never below 0; None: no limit."""
        return None if self.limit_msat is None else max(0, self.limit_msat - self.spent_msat)


@dataclass(frozen=True, slots=True)
class Account:
    """The limits of an app key, or of all calls together (``key`` None), and what was spent in each."""

    key: str | None
    limits: Limits
    spent: Mapping[Window, int]

    def lines(self, now: float, zone: tzinfo | None = None) -> Iterator[Line]:
        """Return every limit, that of a request first.

        Args:
            now: unix seconds.
            zone: where days and months begin; None for this machine's.
        """
        yield Line("request", self.key, self.limits.per_request_msat, 0, None)
        for window in Window:
            spent_msat = self.spent.get(window, 0)
            yield Line(window.value, self.key, self.limits.of(window), spent_msat, renews(window, now, zone))


def begins(window: Window, now: float, zone: tzinfo | None = None) -> float:
    """Return when the window that ``now`` is in began, in unix seconds."""
    match window:
        case Window.TOTAL:
            return 0.0
        case Window.HOUR:
            return now - now % 3600
        case Window.DAY:
            return _midnight(_today(now, zone), zone)
        case Window.MONTH:
            return _midnight(_today(now, zone).replace(day=1), zone)


def renews(window: Window, now: float, zone: tzinfo | None = None) -> int | None:
    """Return when the next window begins, in unix seconds; None for one that never ends."""
    match window:
        case Window.TOTAL:
            return None
        case Window.HOUR:
            return int(now - now % 3600) + 3600
        case Window.DAY:
            return ceil(_midnight(_today(now, zone) + timedelta(days=1), zone))
        case Window.MONTH:
            in_next = _today(now, zone).replace(day=1) + timedelta(days=31)
            return ceil(_midnight(in_next.replace(day=1), zone))


def check(
    amount_msat: int, accounts: Sequence[Account], now: float, zone: tzinfo | None = None
) -> int | None:
    """Allow a payment, or refuse it.

    Args:
        amount_msat: what would leave the wallet.
        accounts: that it counts against: all calls together, and the app key's.
        now: unix seconds.
        zone: where days and months begin; None for this machine's.

    Returns:
        The most that might leave at once, in msat; None where nothing bounds it.

    Raises:
        BudgetExceeded: says what is left and when it renews.
        ValueError: the amount is negative.
    """
    if amount_msat < 0:
        raise ValueError("a payment is not negative")
    lines = [line for account in accounts for line in account.lines(now, zone)]
    lefts = [line.left_msat for line in lines if line.left_msat is not None]
    exceeded = [line for line in lines if line.left_msat is not None and amount_msat > line.left_msat]
    if not exceeded:
        return min(lefts, default=None)
    # what is told is what holds the call up the longest
    worst = max(exceeded, key=lambda line: _waits_until(line, amount_msat))
    waits = _waits_until(worst, amount_msat)
    raise BudgetExceeded(
        _sentence(worst, amount_msat, now, zone),
        required_msat=amount_msat,
        left_msat=min(lefts),
        renews_at=worst.renews_at,
        retry_after_s=None if waits == _NEVER else max(1, ceil(waits - now)),
        budget=worst.name,
        key=worst.key,
    )


_NEVER: Final = float("inf")
_PER: Final = {"request": "one request", "hour": "an hour", "day": "a day", "month": "a month"}
_OPTIONS: Final = {"total": "--total"} | {name: f"--per-{name}" for name in _PER}


def _waits_until(line: Line, amount_msat: int) -> float:
    if line.renews_at is None or line.limit_msat is None or amount_msat > line.limit_msat:
        return _NEVER
    return line.renews_at


def _sentence(line: Line, amount_msat: int, now: float, zone: tzinfo | None) -> str:
    limit_msat, left_msat = line.limit_msat or 0, line.left_msat or 0
    budget = f"the budget for {_PER[line.name]}" if line.name in _PER else "the budget"
    if line.key is not None:
        budget += f" of the key {line.key}"
    told = f"This call may cost up to {format_msat(amount_msat)}, and "
    if line.name == "request" or amount_msat > limit_msat:
        told += f"{budget} is {format_msat(limit_msat)} in all"
    else:
        told += f"{format_msat(left_msat)} of {format_msat(limit_msat)} are left of {budget}"
    if line.renews_at is not None and amount_msat <= limit_msat:
        told += f". It renews at {_clock(line.renews_at, now, zone)}"
    elif line.renews_at is not None:
        told += f", {format_msat(left_msat)} of it left until {_clock(line.renews_at, now, zone)}"
    if line.name == "request" and limit_msat:
        told += ". Ask for less output, or raise it"
    else:
        told += ". Raise it"
    where = f"otrta config set budgets.per_{line.name}_sat SAT"
    if line.key is not None:
        where = f"otrta keys set {line.key} {_OPTIONS[line.name]} AMOUNT"
    return f"{told}: `{where}`."


def _clock(at: float, now: float, zone: tzinfo | None) -> str:
    there = datetime.fromtimestamp(at, zone)
    if there.date() == _today(now, zone):
        return f"{there:%H:%M}"
    if there.time() == time() and there.date() == _today(now, zone) + timedelta(days=1):
        return "midnight"
    return f"{there:%Y-%m-%d %H:%M}"


def _today(now: float, zone: tzinfo | None) -> date:
    return datetime.fromtimestamp(now, zone).date()


def _midnight(day: date, zone: tzinfo | None) -> float:
    return datetime.combine(day, time(), zone).timestamp()
