"""When a mint is asked again about what it is waited for: often at first, ever more rarely later. Pure.

Subscriptions (NUT-17) are not used: a question now and then needs no connection that stays open.
"""

FIRST_S = 2.0
SHARE = 0.1
LONGEST_S = 6 * 3600.0

GRACE_S = 3600.0
"""How long after its expiry an invoice may well have been paid in time, and is asked for as before."""
DAY_S = 86_400.0
LATE_S = 28 * DAY_S
"""How long after that it is asked for once a day, in case it was paid late."""
WITHOUT_EXPIRY_S = 7 * DAY_S
"""How long an invoice counts as payable where its mint states no end, or an absurd one."""


def pause_s(age_s: float) -> float:
    """Return how long to leave the mint alone about something that began so long ago.

    A tenth of its age: every 2 s at first, every 6 minutes after an hour, never longer than 6 hours.
    """
    return min(max(SHARE * age_s, FIRST_S), LONGEST_S)


def next_look(began_at: float, now: float) -> float:
    """Return when to ask again about something that was still open when it was asked for now."""
    return now + pause_s(now - began_at)


def next_quote_look(created_at: float, expiry: float | None, now: float) -> float | None:
    """Return when to ask again for an invoice that was not paid yet when it was asked for now.

    Args:
        created_at: unix time.
        expiry: unix time as the mint states it, or None.
        now: unix time.

    Returns:
        Unix time, or None where it is time to give it up.
    """
    if expiry is None or not created_at <= expiry <= created_at + WITHOUT_EXPIRY_S:
        expiry = created_at + WITHOUT_EXPIRY_S
    late_from = expiry + GRACE_S
    if now < late_from:
        return next_look(created_at, now)
    return now + DAY_S if now < late_from + LATE_S else None
