"""Who is logged in to the wallet page. No I/O: clock and randomness are handed in.

A session has two secrets, and takes both: a cookie that scripts cannot read, and a word in the path of every
page. Cookies belong to a host, not to a port: the browser would show this one to any program that serves
another port of 127.0.0.1, were its path not one that only this page's own links name.
"""

import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

PAGE_PREFIX: Final = "/wallet"

CODE_S: Final = 600.0
"""How long a one-time link can be opened."""
IDLE_S: Final = 3_600.0
LONGEST_S: Final = 12 * 3_600.0

_MOST_SESSIONS: Final = 16
_MOST_CODES: Final = 16
_MOST_KEPT: Final = 64


class Kept(OrderedDict[str, str]):
    """A few texts by name; the oldest goes when there are too many."""

    def put(self, name: str, text: str) -> None:
        """Keep a text."""
        self[name] = text
        self.move_to_end(name)
        while len(self) > _MOST_KEPT:
            self.popitem(last=False)


@dataclass(slots=True)
class Session:
    """One browser that is logged in.

    Attributes:
        key: the word in the path of its pages.
        cookie: the secret of its cookie.
        csrf: what each of its forms has to send.
        began: when it logged in.
        used: when it last asked for anything.
        to_show: tokens that its next look at a sent token shows, by the transfer's id.
        quotes: ids of mints' quotes, by the name that they have in paths.
        offers: mints' offers to pay invoices, as JSON, by the same name.
        begun: the names of those that were taken up.
        done: where each form that was sent has led, by the form's own number.
        notes: a sentence for the next page, by its kind.
    """

    key: str
    cookie: str = field(repr=False)
    csrf: str = field(repr=False)
    began: float
    used: float
    to_show: Kept = field(default_factory=Kept, repr=False)
    quotes: Kept = field(default_factory=Kept, repr=False)
    offers: Kept = field(default_factory=Kept, repr=False)
    begun: Kept = field(default_factory=Kept, repr=False)
    done: Kept = field(default_factory=Kept, repr=False)
    notes: Kept = field(default_factory=Kept, repr=False)

    def is_over(self, now: float) -> bool:
        """Whether it has to log in again."""
        return now - self.used > IDLE_S or now - self.began > LONGEST_S

    def sent_by_itself(self, csrf: str) -> bool:
        """Whether a form comes from one of its pages."""
        return _same(csrf, self.csrf)


class Sessions:
    """Sessions and the one-time codes that begin them."""

    def __init__(
        self,
        local_token: str,
        *,
        now: Callable[[], float] = time.monotonic,
        make: Callable[[], str] = lambda: secrets.token_urlsafe(24),
    ) -> None:
        self._local_token = local_token
        self._now = now
        self._make = make
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._codes: OrderedDict[str, float] = OrderedDict()

    def new_code(self) -> str:
        """Make a code that logs one browser in, once and for ``CODE_S`` at most."""
        code = self._make()
        self._codes[code] = self._now()
        while len(self._codes) > _MOST_CODES:
            self._codes.popitem(last=False)
        return code

    def redeem(self, code: str) -> Session | None:
        """Begin a session for a code, or None where it is unknown, used or too old."""
        made = self._codes.pop(code, None)
        return None if made is None or self._now() - made > CODE_S else self._begin()

    def log_in(self, local_token: str) -> Session | None:
        """Begin a session for who has the local token, or None."""
        return self._begin() if _same(local_token, self._local_token) else None

    def find(self, key: str, cookie: str | None) -> Session | None:
        """Return the session of a path's word and a cookie, which counts as used now; None if it is over."""
        session = self._sessions.get(key)
        if session is None or cookie is None or not _same(cookie, session.cookie):
            return None
        now = self._now()
        if session.is_over(now):
            del self._sessions[key]
            return None
        session.used = now
        return session

    def end(self, session: Session) -> None:
        """Log out."""
        self._sessions.pop(session.key, None)

    def _begin(self) -> Session:
        now = self._now()
        for key in [key for key, session in self._sessions.items() if session.is_over(now)]:
            del self._sessions[key]
        session = Session(self._make(), self._make(), self._make(), now, now)
        self._sessions[session.key] = session
        while len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return session


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())
