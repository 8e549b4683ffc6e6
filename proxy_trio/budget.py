"""Budgets: the one place that decides whether money may leave for a call. It fails closed."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from otrta_core import format_msat
from proxy_trio.errors import BudgetExceeded

DEFAULT_PER_REQUEST_MSAT = 1_000_000
DEFAULT_PER_DAY_MSAT = 10_000_000


@dataclass(frozen=True, slots=True)
class Budgets:
    """The most that may leave the wallet for calls, in msat. A day is one of UTC."""

    per_request_msat: int = DEFAULT_PER_REQUEST_MSAT
    per_day_msat: int = DEFAULT_PER_DAY_MSAT


def day_begins(now: float) -> float:
    """Return when the day of ``now`` began, in unix seconds."""
    return datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


def check(budgets: Budgets, amount_msat: int, spent_today_msat: int, now: float) -> None:
    """Allow a payment, or refuse it.

    Args:
        budgets: what the user allows.
        amount_msat: what would leave the wallet.
        spent_today_msat: what this day's calls have spent or may still spend.
        now: unix seconds.

    Raises:
        BudgetExceeded: says what is left and when it renews.
    """
    if amount_msat > budgets.per_request_msat:
        raise BudgetExceeded(
            f"This call may cost up to {format_msat(amount_msat)}, and the budget for one request is "
            f"{format_msat(budgets.per_request_msat)}. Ask for less output, or raise it in config.toml.",
            required_msat=amount_msat,
            left_msat=budgets.per_request_msat,
        )
    left_msat = max(0, budgets.per_day_msat - spent_today_msat)
    if amount_msat > left_msat:
        begins = datetime.fromtimestamp(day_begins(now), UTC)
        renews_at = int((begins + timedelta(days=1)).timestamp())
        raise BudgetExceeded(
            f"This call may cost up to {format_msat(amount_msat)}, and {format_msat(left_msat)} of today's "
            "budget are left. It renews at midnight UTC; it is set in config.toml.",
            required_msat=amount_msat,
            left_msat=left_msat,
            renews_at=renews_at,
        )
