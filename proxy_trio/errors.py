"""The errors that the client proxy answers itself, and how they look to the app.

::

    OtrtaError
     └── ProxyError                      never raised itself
          ├── BudgetExceeded             budget_exceeded, 402
          ├── SpendingPaused             spending_paused, 402
          ├── ApprovalRequired           approval_required, 402
          ├── ApprovalDenied             approval_denied, 403
          ├── ModelNotAllowed            model_not_allowed, 403
          ├── WalletEmpty                wallet_empty, 402
          ├── LocalTokenRequired         local_token_required, 401
          ├── KeyRefused                 invalid_api_key, 401
          ├── ForeignCaller              never raised itself
          │    ├── ForeignAddress        foreign_address, 403
          │    ├── ForeignHost           foreign_host, 403
          │    └── ForeignOrigin         foreign_origin, 403
          ├── PathNotServed              path_not_served, 404
          ├── MethodNotAllowed           method_not_allowed, 405
          ├── BodyTooLarge               body_too_large, 413
          ├── GatewayFailure             never raised itself
          │    ├── GatewayUnreachable    gateway_unreachable, 502
          │    ├── GatewayRedirected     gateway_redirected, 502
          │    ├── GatewayBrokeOff       gateway_broke_off, 502
          │    ├── GatewayTimeout        gateway_timeout, 504
          │    └── GatewayAsksTooMuch    gateway_asks_too_much, 502
          ├── InternalFailure            internal_error, 500
          ├── Stopping                   stopping, 503
          ├── ActionUnknown              action_unknown, 404
          ├── ActionInvalid              action_invalid, 400
          ├── MoveTooDear                move_too_dear, 402
          ├── MintInUse                  mint_in_use, 409
          ├── KeyNotKnown                key_unknown, 404
          ├── KeyExists                  key_exists, 409
          ├── ApprovalNotKnown           approval_unknown, 404
          ├── ProxyInvalid               proxy_invalid, 400
          └── PortTaken                  port_taken, never answered: the proxy cannot start

A body that is wrong in itself is ``otrta_core.InvalidRequest`` (invalid_request, 400), the same error
that pricing it raises. Messages are fixed or carry sums and paths only: no token, no body, no header.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from otrta_core.errors import OtrtaError

_ABSTRACT = frozenset({"ProxyError", "ForeignCaller", "GatewayFailure"})

_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
}


class ProxyError(OtrtaError):
    """Base of the errors of the client proxy.

    ``may_have_paid`` says that a payment may have left: the SDKs' own retries, each of which would pay
    again, are then switched off with ``x-should-retry: false``.
    """

    code: ClassVar[str] = "proxy_error"
    http_status: ClassVar[int] = 500
    may_have_paid: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        if type(self).__name__ in _ABSTRACT:
            raise TypeError(f"{type(self).__name__} is a base class: raise one of its subclasses")
        super().__init__(message)

    @property
    def details(self) -> Mapping[str, int | str]:
        """Further members of the error object; sums in msat, times in unix seconds."""
        return {}

    @property
    def retry_after_s(self) -> int | None:
        """After how many seconds the same call may pass; None where waiting does not help."""
        return None


class BudgetExceeded(ProxyError):
    """Paying for this call would go beyond a budget that the user set."""

    code = "budget_exceeded"
    http_status = 402

    def __init__(
        self,
        message: str,
        *,
        required_msat: int,
        left_msat: int,
        renews_at: int | None = None,
        retry_after_s: int | None = None,
        budget: str = "request",
        key: str | None = None,
    ) -> None:
        super().__init__(message)
        self.required_msat = required_msat
        self.left_msat = left_msat
        self.renews_at = renews_at
        self.budget = budget
        self.key = key
        self._retry_after_s = retry_after_s

    @property
    def details(self) -> Mapping[str, int | str]:
        """What the call may cost, what is left, when (unix time) that renews, if it does, and of which."""
        known: dict[str, int | str] = {"required_msat": self.required_msat, "left_msat": self.left_msat}
        if self.renews_at is not None:
            known["renews_at"] = self.renews_at
        known["budget"] = self.budget
        return known if self.key is None else {**known, "key": self.key}

    @property
    def retry_after_s(self) -> int | None:
        """When the budget renews; None where the call is larger than all of it."""
        return self._retry_after_s


class SpendingPaused(ProxyError):
    """The user has paused all spending."""

    code = "spending_paused"
    http_status = 402


class ApprovalRequired(ProxyError):
    """The call may cost so much that the user is to be asked first, and has not answered yet."""

    code = "approval_required"
    http_status = 402

    def __init__(self, message: str, *, required_msat: int, approval_id: str | None) -> None:
        super().__init__(message)
        self.required_msat = required_msat
        self.approval_id = approval_id

    @property
    def details(self) -> Mapping[str, int | str]:
        """What the call may cost, and by which id it is approved; none where too many wait already."""
        known: dict[str, int | str] = {"required_msat": self.required_msat}
        return known if self.approval_id is None else {**known, "approval_id": self.approval_id}


class ApprovalDenied(ProxyError):
    """The user was asked for this call and said no."""

    code = "approval_denied"
    http_status = 403


class ModelNotAllowed(ProxyError):
    """The model is not among those that may be paid for, at all or by this app's key."""

    code = "model_not_allowed"
    http_status = 403


class WalletEmpty(ProxyError):
    """The wallet holds less than the call may cost."""

    code = "wallet_empty"
    http_status = 402

    def __init__(self, message: str, *, required_msat: int, available_msat: int) -> None:
        super().__init__(message)
        self.required_msat = required_msat
        self.available_msat = available_msat

    @property
    def details(self) -> Mapping[str, int | str]:
        """What the call may cost and what the wallet can spend now."""
        return {"required_msat": self.required_msat, "available_msat": self.available_msat}


class LocalTokenRequired(ProxyError):
    """A wallet action was asked for without the token of this machine's user."""

    code = "local_token_required"
    http_status = 401


class KeyRefused(ProxyError):
    """The app's key is unknown, removed or past its time, or it gave none where one is asked for."""

    code = "invalid_api_key"
    http_status = 401


class ForeignCaller(ProxyError):
    """The request was not meant for, or not made by, an app of this machine."""

    http_status = 403


class ForeignAddress(ForeignCaller):
    """Another machine asked for what is done from this one only."""

    code = "foreign_address"


class ForeignHost(ForeignCaller):
    """The Host header names another machine: a DNS name that was pointed at this one."""

    code = "foreign_host"


class ForeignOrigin(ForeignCaller):
    """A web page of another site made this request."""

    code = "foreign_origin"


class PathNotServed(ProxyError):
    """Nothing is served on this path."""

    code = "path_not_served"
    http_status = 404


class MethodNotAllowed(ProxyError):
    """The path is served, with another method."""

    code = "method_not_allowed"
    http_status = 405

    def __init__(self, message: str, *, allowed: tuple[str, ...] = ("POST",)) -> None:
        super().__init__(message)
        self.allowed = allowed


class BodyTooLarge(ProxyError):
    """The app's body is larger than the proxy forwards."""

    code = "body_too_large"
    http_status = 413


class GatewayFailure(ProxyError):
    """The gateway gave no whole answer."""

    http_status = 502
    may_have_paid = True


class GatewayUnreachable(GatewayFailure):
    """No connection came about, so no byte of the payment has left."""

    code = "gateway_unreachable"
    may_have_paid = False


class GatewayRedirected(GatewayFailure):
    """The gateway answered with a redirect; a payment never follows one."""

    code = "gateway_redirected"


class GatewayBrokeOff(GatewayFailure):
    """The connection ended, or stopped making sense, before the answer was whole."""

    code = "gateway_broke_off"


class GatewayTimeout(GatewayFailure):
    """The gateway was silent for longer than the idle timeout."""

    code = "gateway_timeout"
    http_status = 504


class GatewayAsksTooMuch(GatewayFailure):
    """The gateway refused the call and asks for far more than it publishes; nothing was paid."""

    code = "gateway_asks_too_much"
    may_have_paid = False


class InternalFailure(ProxyError):
    """The proxy itself failed; the payment, if there was one, stays in the journal."""

    code = "internal_error"
    may_have_paid = True


class Stopping(ProxyError):
    """The proxy is being stopped."""

    code = "stopping"
    http_status = 503
    may_have_paid = True


class ActionUnknown(ProxyError):
    """There is no wallet action of this name."""

    code = "action_unknown"
    http_status = 404


class ActionInvalid(ProxyError):
    """A parameter of a wallet action is missing, unknown or out of bounds."""

    code = "action_invalid"
    http_status = 400


class MoveTooDear(ProxyError):
    """Moving value between two mints may cost more than the settings allow; nothing has left."""

    code = "move_too_dear"
    http_status = 402


class MintInUse(ProxyError):
    """The mint cannot be taken off the list: money is there, or the settings name it."""

    code = "mint_in_use"
    http_status = 409


class KeyNotKnown(ProxyError):
    """There is no app key of this name."""

    code = "key_unknown"
    http_status = 404


class KeyExists(ProxyError):
    """There is an app key of this name already."""

    code = "key_exists"
    http_status = 409


class ApprovalNotKnown(ProxyError):
    """No call waits for approval under this id."""

    code = "approval_unknown"
    http_status = 404


class ProxyInvalid(ProxyError):
    """A SOCKS proxy is not named in the way that is understood, or cannot be used."""

    code = "proxy_invalid"
    http_status = 400


class PortTaken(ProxyError):
    """The port cannot be bound, because something else listens there."""

    code = "port_taken"


@dataclass(frozen=True, slots=True)
class LocalReply:
    """An answer that the proxy writes itself, ready for ASGI."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def speaks_anthropic(path: str) -> bool:
    """Tell whether apps on this path expect Anthropic's error shape."""
    return path == "/v1/messages" or path.startswith("/v1/messages/")


def render(error: OtrtaError, path: str) -> LocalReply:
    """Write an error in the shape of the API that the path belongs to.

    Args:
        error: Any error of this project; its message is shown to the app.
        path: The path of the app's request.

    Returns:
        Status, headers and JSON body.
    """
    status = error.http_status
    fields: dict[str, object] = {
        "message": error.message,
        "type": _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error"),
        "param": getattr(error, "param", None),
        "code": error.code,
    }
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    if isinstance(error, ProxyError):
        fields.update(error.details)
        if error.may_have_paid:
            headers.append((b"x-should-retry", b"false"))
        if error.retry_after_s is not None:
            headers.append((b"retry-after", str(error.retry_after_s).encode()))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    shaped: dict[str, object] = {"error": fields}
    if speaks_anthropic(path):
        shaped = {"type": "error", **shaped}
    body = json.dumps(shaped).encode()
    headers.append((b"content-length", str(len(body)).encode()))
    return LocalReply(status, tuple(headers), body)
