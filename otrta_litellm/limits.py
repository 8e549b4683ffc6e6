"""Bounds on what strangers can make a gateway do before they have paid: memory, time and calls to mints.

All counts are of one process. Nothing here waits: who asks for too much is turned away, token untouched.
"""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from otrta_litellm.answers import GateError, Header

MAX_ADDRESSES = 10_000
KEPT_SHARE = 0.25
"""The share of all refusals that tokens without a lock cannot use up."""

UNSUSPECTED_SHARE = 0.5
"""The share that addresses cannot use up of which a token was refused within the last minute."""

ADDRESS_SHARE = 0.5
"""The share of the places for unpaid calls that one address can take."""

_IPV6_PREFIX = 64
_FORWARDED = b"x-forwarded-for"


class Bucket:
    """A token bucket: ``per_minute`` flow in, ``per_minute`` fit in."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.size = float(per_minute)
        self._clock = clock
        self._level, self._at = self.size, clock()

    @property
    def level(self) -> float:
        """How much is in it now; below zero where more was taken than there was."""
        now = self._clock()
        self._level = min(self.size, self._level + (now - self._at) * self.size / 60)
        self._at = now
        return self._level

    def take(self) -> None:
        """Take one, whether it is there or not, down to minus its size."""
        self._level = max(-self.size, self.level - 1)


class RefusalBudget:
    """How many tokens mints may refuse: for each address, and in all.

    Only refusals count, so whoever pays is never turned away for it; a swap that settles or recovers asks
    nobody here. Strangers with worthless tokens and many addresses can use up what all have together, but
    not all of it: an address with a refusal in its last minute leaves a half to the others, tokens without a
    lock leave a quarter to locked ones, and an address whose last token was taken is not asked about the
    others' at all. It is worth as much as a payment, and one refused token costs it.
    """

    def __init__(self, per_address: int, in_all: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_address = per_address
        self._clock = clock
        self._all = Bucket(in_all, clock)
        self._addresses: OrderedDict[str, Bucket] = OrderedDict()
        self._payers: OrderedDict[str, None] = OrderedDict()

    def check(self, address: str, *, locked: bool = False) -> None:
        """Let a token go to its mint.

        Args:
            address: of the caller, as ``address_of`` names it.
            locked: whether the token was locked to this gateway and checked, so that its mint will take it.

        Raises:
            GateError: 429, too many tokens were refused of late; this one is untouched.
        """
        own = self._addresses.get(address)
        if own is not None and own.level < 1:
            raise _rate_limited()
        if address in self._payers:
            return
        is_suspect = own is not None and own.level < own.size
        kept = 0.0 if locked else self._all.size * (UNSUSPECTED_SHARE if is_suspect else KEPT_SHARE)
        if self._all.level < kept + 1:
            raise _rate_limited()

    def refused(self, address: str) -> None:
        """Count a token that its mint refused."""
        self._all.take()
        self._payers.pop(address, None)
        if _is_loopback(address):  # a proxy on this machine is everybody: only the bound for all counts
            return
        bucket = self._addresses.pop(address, None) or Bucket(self._per_address, self._clock)
        bucket.take()
        self._addresses[address] = bucket
        if len(self._addresses) > MAX_ADDRESSES:
            self._addresses.popitem(last=False)

    def paid(self, address: str) -> None:
        """Note that a token of an address was taken."""
        if _is_loopback(address):
            return
        self._payers.pop(address, None)
        self._payers[address] = None
        if len(self._payers) > MAX_ADDRESSES:
            self._payers.popitem(last=False)


def _rate_limited() -> GateError:
    return GateError(
        "mints have refused too many tokens of late: this one is untouched; try again later",
        code="rate_limited",
        status=429,
    )


class Looks:
    """How often something is looked at for strangers: each by itself, and all together."""

    def __init__(
        self, per_minute: int, per_minute_in_all: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._all = Bucket(per_minute_in_all, clock)
        self._of: OrderedDict[str, Bucket] = OrderedDict()

    def may(self, name: str) -> bool:
        """Tell whether it may be looked at now, and count that it is."""
        bucket = self._of.pop(name, None) or Bucket(self._per_minute, self._clock)
        self._of[name] = bucket
        if len(self._of) > MAX_ADDRESSES:
            self._of.popitem(last=False)
        if min(bucket.level, self._all.level) < 1:
            return False
        bucket.take()
        self._all.take()
        return True


class UnpaidCalls:
    """Counts the calls whose body is being read and priced and which have not paid yet."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._of: dict[str, int] = {}
        self._all = 0

    @contextmanager
    def one_more(self, address: str) -> Iterator[None]:
        """Have a place for one call.

        Raises:
            GateError: 503, there is none; an address that is this machine's own may take all.
        """
        own = self._of.get(address, 0)
        share = self._most if _is_loopback(address) else max(1, int(self._most * ADDRESS_SHARE))
        if self._all >= self._most or own >= share:
            raise GateError(
                "the gateway is reading as many calls as it can: the token is untouched; try again later",
                code="overloaded",
                status=503,
            )
        self._all += 1
        self._of[address] = own + 1
        try:
            yield
        finally:
            self._all -= 1
            self._of[address] -= 1
            if not self._of[address]:
                del self._of[address]


def address_of(client: object, headers: Iterable[Header], trusted_proxies: int) -> str:
    """Return what a caller is counted under: its IPv4 address, or the /64 of its IPv6 address.

    Args:
        client: ``scope["client"]``.
        headers: of the request.
        trusted_proxies: how many proxies of the operator's own stand before the gateway, each of which adds
            to ``X-Forwarded-For``; with 0 the header is not looked at, since anybody can send it.
    """
    seen = [str(client[0])] if isinstance(client, tuple | list) and client else []
    if trusted_proxies:
        said = b",".join(value for name, value in headers if name == _FORWARDED).decode("latin-1").split(",")
        # the last entry is the address that the outermost call of the nearest proxy came from
        seen = [part.strip() for part in said[-trusted_proxies:]][:1] or seen
    try:
        address = ipaddress.ip_address(seen[0] if seen else "")
    except ValueError:
        return "unknown"
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::/64"
