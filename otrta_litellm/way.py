"""What is done with a request, decided by its method, path and headers alone."""

from collections.abc import Collection, Iterable
from enum import Enum, auto
from typing import Final

from otrta_core.requests import find_payable
from otrta_litellm.answers import Header

INFO: Final = "/v1/cashu/info"
CHANGE: Final = "/v1/cashu/change"
REFUND: Final = "/v1/wallet/refund"
ADMIN: Final = "/v1/cashu/admin/"
"""What begins so is for the operator, who has LiteLLM's master key."""
METRICS: Final = "/v1/cashu/metrics"
CASHU_PATHS: Final = frozenset({INFO, CHANGE, REFUND})
FREE_PATHS = frozenset(
    {"/v1/models", "/models", "/health/liveliness", "/health/liveness", "/health/readiness"}
)
KEY_HEADERS = frozenset({b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"})

_TOKEN_HEADERS = frozenset({b"x-cashu"})
_PREFLIGHT_HEADERS = frozenset({b"origin", b"access-control-request-method"})


class Way(Enum):
    """What is done with a request."""

    THROUGH = auto()  # LiteLLM's own auth decides
    FREE = auto()
    ROUTE = auto()  # one of the gateway's own
    ADMIN = auto()  # one of its operator's
    BUY = auto()
    ASK = auto()  # payable, without a token: 402
    NOT_PAYABLE = auto()
    NO_KEY = auto()


def way_of(method: str, path: str, headers: Iterable[Header]) -> Way:
    """Decide what is done with a request. What is not named here passes nothing."""
    named = list(headers)
    if method == "OPTIONS" and all(_has(named, {name}) for name in _PREFLIGHT_HEADERS):
        return Way.THROUGH  # a browser's question has no credentials; LiteLLM's CORS layer answers it
    if path in CASHU_PATHS:
        return Way.ROUTE
    payable = method == "POST" and find_payable(path) is not None
    free = method in ("GET", "HEAD") and path in FREE_PATHS
    if has_token(named):
        if payable:
            return Way.BUY
        return Way.FREE if free else Way.NOT_PAYABLE
    if path.startswith(ADMIN) or path == METRICS:
        return Way.ADMIN
    if has_key(named):
        return Way.THROUGH
    if payable:
        return Way.ASK
    return Way.FREE if free else Way.NO_KEY


def has_token(headers: Iterable[Header]) -> bool:
    """Tell whether there is an X-Cashu header that is not empty."""
    return _has(headers, _TOKEN_HEADERS)


def has_key(headers: Iterable[Header]) -> bool:
    """Tell whether there is what LiteLLM may take for a key."""
    return _has(headers, KEY_HEADERS)


def tokens_of(headers: Iterable[Header]) -> list[str]:
    """Return the values of all X-Cashu headers that are not empty."""
    return [v.decode("latin-1") for name, v in headers if name in _TOKEN_HEADERS and v.strip()]


def _has(headers: Iterable[Header], names: Collection[bytes]) -> bool:
    return any(name in names and value.strip() for name, value in headers)
