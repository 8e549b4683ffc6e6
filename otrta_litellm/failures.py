"""What is said of a call that failed, and whose words may go out."""

import json
from collections.abc import Mapping
from typing import Any

from otrta_core.requests import Kind
from otrta_litellm.admission import Admission
from otrta_litellm.answers import GateError

CALL_FAILED = GateError(
    "the call failed: what was paid is in the X-Cashu header", code="call_failed", status=500
)

UNSETTLED = GateError(
    "the gateway failed: if it had taken a token, what is left of it can be fetched from "
    "/v1/cashu/change in a moment",
    code="internal_error",
    status=500,
)

_OF_THE_UPSTREAM = frozenset(
    {
        "APIConnectionError",
        "APIError",
        "APIResponseValidationError",
        "AuthenticationError",
        "BadGatewayError",
        "BadRequestError",
        "ContentPolicyViolationError",
        "ContextWindowExceededError",
        "InternalServerError",
        "MidStreamFallbackError",
        "NotFoundError",
        "OpenAIError",
        "PermissionDeniedError",
        "RateLimitError",
        "ServiceUnavailableError",
        "Timeout",
        "UnprocessableEntityError",
        "UnsupportedParamsError",
    }
)


def hides(admission: Admission, status: int) -> bool:
    """Tell whether an error's text may hold an answer that nobody pays for.

    The text of an upstream's refusal does not, nor does LiteLLM's own refusal of a request. That of any
    other failure may, such as of a check of the finished answer.
    """
    if admission.outcome == "success":
        return True
    if admission.failure is None:
        return status >= 500
    return admission.failure not in _OF_THE_UPSTREAM


def error_status(error: Mapping[str, Any]) -> int:
    """Return the status of an error that came inside an answer: its code, or what its type stands for."""
    for said in (error.get("code"), error.get("type")):
        status = _STATUSES.get(str(said)) or _number(said)
        if 400 <= status < 600:
            return status
    return 502


def error_body(error: Mapping[str, Any], kind: Kind) -> bytes:
    """Return the body of such an error, as its API has them."""
    shaped = {"error": dict(error)}
    return json.dumps({"type": "error", **shaped} if kind == "messages" else shaped).encode()


def _number(said: object) -> int:
    text = str(said)
    return int(text) if len(text) == 3 and text.isascii() and text.isdigit() else 0


_STATUSES = {
    "authentication_error": 401,
    "invalid_request_error": 400,
    "not_found_error": 404,
    "overloaded_error": 529,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "request_too_large": 413,
    "timeout_error": 504,
}
"""By Anthropic's types and the codes of Responses; what is not here is the upstream's own failure."""
