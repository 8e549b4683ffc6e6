"""The answers that the gate itself gives: errors in each API's shape, 402s, and the headers of a payment."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from otrta_core import OtrtaError, PaymentRequest

Header = tuple[bytes, bytes]

EXPOSED = (
    "X-Cashu, X-Otrta-Paid-Msat, X-Otrta-Cost-Msat, X-Otrta-Fee-Msat, X-Otrta-Change-Msat, X-Otrta-Change"
)
RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer; its headers may hold change, so its repr shows the status only."""

    status: int
    body: bytes = field(repr=False)
    headers: tuple[Header, ...] = field(default=(), repr=False)


class GateError(OtrtaError):
    """A refusal of the gate, with its own code and status.

    Attributes:
        required_msat: what the call costs at most, where that is the matter.
        request: a payment request for the X-Cashu header, or None.
        change: change of an earlier payment to hand out again, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int,
        param: str | None = None,
        required_msat: int | None = None,
        request: PaymentRequest | None = None,
        change: str | None = None,
    ) -> None:
        super().__init__(message)
        self.gate_code = code
        self.status = status
        self.param = param
        self.required_msat = required_msat
        self.request = request
        self.change = change


def is_anthropics(path: str) -> bool:
    """Tell whether a path belongs to Anthropic's API, whose errors have another shape."""
    return path.startswith(("/v1/messages", "/anthropic/"))


def refusal(error: OtrtaError, *, anthropic: bool = False) -> Answer:
    """Render an error of the tree, with what the contract says of its headers.

    Args:
        error: what is refused, and why.
        anthropic: whether in Anthropic's shape instead of OpenAI's.
    """
    if isinstance(error, GateError):
        cashu = error.change or (error.request and error.request.encode())
        return _error(
            error.status,
            error.gate_code,
            error.message,
            error.param,
            error.required_msat,
            cashu or None,
            anthropic=anthropic,
        )
    param = getattr(error, "param", None)
    return _error(error.http_status, error.code, error.message, param, anthropic=anthropic)


def json_answer(status: int, body: Mapping[str, Any], *, cashu: str | None = None) -> Answer:
    """Render a JSON answer, with a token or payment request in X-Cashu where there is one."""
    data = json.dumps(body, separators=(",", ":")).encode()
    headers: list[Header] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(data)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if cashu is not None:
        headers.append((b"x-cashu", cashu.encode()))
    if status in (202, 409, 429, 503):
        headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
    return Answer(status, data, tuple(headers))


def payment_headers(
    paid_msat: int,
    fee_msat: int,
    cost_msat: int | None = None,
    change_msat: int | None = None,
    change: str | None = None,
    *,
    claim: bool = False,
) -> list[Header]:
    """Return the headers that tell a payer what became of a payment; what is None is left out."""
    values: Sequence[tuple[str, int | None]] = (
        ("x-otrta-paid-msat", paid_msat),
        ("x-otrta-fee-msat", fee_msat),
        ("x-otrta-cost-msat", cost_msat),
        ("x-otrta-change-msat", change_msat),
    )
    headers = [(name.encode(), str(value).encode()) for name, value in values if value is not None]
    if change is not None:
        headers.append((b"x-cashu", change.encode()))
    if claim:
        headers.append((b"x-otrta-change", b"claim"))
    return [*headers, (b"cache-control", b"no-store")]


def exposed(headers: Sequence[Header], *, origin: bytes | None) -> list[Header]:
    """Add what a browser needs to read the payment's headers, once, and keep the rest."""
    named = [value.decode("latin-1") for name, value in headers if name == b"access-control-expose-headers"]
    kept = [header for header in headers if header[0] != b"access-control-expose-headers"]
    kept.append((b"access-control-expose-headers", ", ".join([*named, EXPOSED]).encode("latin-1")))
    if origin is not None and not any(name == b"access-control-allow-origin" for name, _ in kept):
        kept.append((b"access-control-allow-origin", b"*"))
    return kept


def _error(
    status: int,
    code: str,
    message: str,
    param: str | None = None,
    required_msat: int | None = None,
    cashu: str | None = None,
    *,
    anthropic: bool = False,
) -> Answer:
    error: dict[str, Any] = {
        "message": message,
        "type": _TYPES.get(status, "invalid_request_error"),
        "param": param,
        "code": code,
    }
    if required_msat is not None:
        error["required_msat"] = required_msat
    shaped: dict[str, Any] = {"type": "error", "error": error} if anthropic else {"error": error}
    return json_answer(status, shaped, cashu=cashu)


_TYPES = {
    401: "authentication_error",
    402: "payment_required",
    429: "rate_limit_error",
    500: "api_error",
    503: "api_error",
}
