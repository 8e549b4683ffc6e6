"""Which calls the proxy forwards: what gateways sell, and the list of their models, which is free."""

from dataclasses import dataclass
from typing import Final

from otrta_core.requests import FORM_KINDS, PAYABLE_PATHS, PayablePath, find_payable
from proxy_trio.errors import MethodNotAllowed, PathNotServed

_MODELS: Final = ("/v1/models", "/models")
_PREFIX: Final = "/v1/"
_LONGEST: Final = 1024


@dataclass(frozen=True, slots=True)
class Served:
    """What is done with a call.

    Attributes:
        bought: what it buys; None where it is free.
    """

    bought: PayablePath | None

    @property
    def content_type(self) -> str | None:
        """The media type that its body must have; None for a call without a body."""
        if self.bought is None:
            return None
        return "multipart/form-data" if self.bought.kind in FORM_KINDS else "application/json"


LISTED: Final = (
    *(f"POST {path}" for path in PAYABLE_PATHS if path.startswith(_PREFIX)),
    f"GET {_MODELS[0]}",
)
"""What is served, without LiteLLM's aliases of it."""


def find_served(method: str, path: str) -> Served:
    """Return what is done with a call.

    Args:
        method: the HTTP method.
        path: decoded and without its query.

    Raises:
        PathNotServed: nothing is served on this path.
        MethodNotAllowed: it is served, with another method.
    """
    bought = find_payable(path) if len(path) <= _LONGEST else None
    if bought is not None:
        _allow(method, path, ("POST",))
    elif path.startswith(_MODELS) and _is_about_models(path):
        _allow(method, path, ("GET", "HEAD"))
    else:
        raise PathNotServed(f"Nothing is served on this path. Served: {', '.join(LISTED)}.")
    return Served(bought)


def _is_about_models(path: str) -> bool:
    return any(
        path == base or (path.startswith(f"{base}/") and len(base) + 1 < len(path) <= _LONGEST)
        for base in _MODELS
    )


def _allow(method: str, path: str, allowed: tuple[str, ...]) -> None:
    if method not in allowed:
        raise MethodNotAllowed(f"{path} is served with {allowed[0]} only.", allowed=allowed)
