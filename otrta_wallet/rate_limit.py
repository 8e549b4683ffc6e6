"""When a mint that said "too many requests" may be asked again (RFC 6585 §4, RFC 9110 §10.2.3). Pure.

A mint that names no time is left alone for longer after each such answer in a row. The longest pause is
over a minute: Nutshell's window of a minute begins anew with every request, refused ones too.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

PAUSES_S = (1.0, 4.0, 16.0, 64.0)
"""How long a mint that names no time is left alone, after the first, second, … such answer in a row."""
LONGEST_S = 3600.0
"""The longest pause that a mint can ask for; the shortest is the first of ``PAUSES_S``."""
WAIT_S = 90.0
"""How long one call waits for its turn; all of ``PAUSES_S`` fit."""

_LONGEST_HEADER = 64


class RateLimit:
    """Until when one mint wants to be left alone. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._not_before = float("-inf")
        self._paused_at = float("-inf")
        self._in_a_row = 0

    def wait_s(self, now: float) -> float:
        """Return how long a call has to wait from now on, zero for not at all."""
        return max(0.0, self._not_before - now)

    def limited(self, sent_at: float, now: float, retry_after_s: float | None) -> None:
        """Note that the mint said "too many requests".

        Args:
            sent_at: when the request went out: of many that were under way together only one counts.
            now: when the answer came.
            retry_after_s: how long the mint asks to be left alone, or None.
        """
        if sent_at >= self._paused_at:
            self._in_a_row += 1
            self._paused_at = now
        pause_s = PAUSES_S[min(self._in_a_row, len(PAUSES_S)) - 1]
        if retry_after_s is not None:
            pause_s = min(max(retry_after_s, PAUSES_S[0]), LONGEST_S)
        self._not_before = max(self._not_before, now + pause_s)

    def answered(self, sent_at: float) -> None:
        """Note that the mint answered a request in another way."""
        if sent_at >= self._paused_at:
            self._in_a_row = 0


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Read ``Retry-After``: seconds, or a date, which counts from the answer's own ``Date``.

    Args:
        headers: of the answer; names in any case, as httpx has them.
        now: unix time, for an answer without a date.

    Returns:
        Seconds, zero or more and without an upper bound; None where there is nothing to be read.
    """
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,12}", text):
        return float(text)
    until = _http_date(text)
    if until is None:
        return None
    since = _http_date(headers.get("date", ""))
    return max(0.0, until - (now if since is None else since))


def _http_date(text: str) -> float | None:
    if not 0 < len(text) <= _LONGEST_HEADER:
        return None
    try:
        read = parsedate_to_datetime(text)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
    try:
        return _aware(read).timestamp()
    except (ValueError, OverflowError):
        return None


def _aware(read: datetime) -> datetime:
    return read if read.tzinfo is not None else read.replace(tzinfo=UTC)
