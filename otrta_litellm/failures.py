"""What is said of a call that failed, and whose words may go out."""

from otrta_litellm.admission import Admission
from otrta_litellm.answers import GateError, refusal

CALL_FAILED = refusal(
    GateError("the call failed: what was paid is in the X-Cashu header", code="call_failed", status=500)
).body

UNSETTLED = refusal(
    GateError(
        "the gateway failed: if it had taken a token, what is left of it can be fetched from "
        "/v1/cashu/change in a moment",
        code="internal_error",
        status=500,
    )
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
    if admission.failure is None:
        return status >= 500
    return admission.failure not in _OF_THE_UPSTREAM
