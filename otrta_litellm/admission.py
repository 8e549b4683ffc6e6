"""Who may enter LiteLLM without a key: the calls that the gate has admitted, and nothing else.

The gate sets ``ADMISSION`` before it calls LiteLLM's app. LiteLLM's tasks and its logging worker run in
copies of that context, and a copy shares the object, so what `custom_auth` grants and what the observer
records belong to one call.
"""

import asyncio
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal
from uuid import uuid4

from fastapi import Request
from litellm.proxy._types import LitellmUserRoles, ProxyException, UserAPIKeyAuth


@dataclass(frozen=True, slots=True)
class UsageSeen:
    """LiteLLM's own count of one call: tokens and, of sound that was heard, seconds. Never the first choice.

    LiteLLM counts the delivered text itself where the upstream reported nothing, and does not say which it
    was.
    """

    model: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    stream: bool
    seconds: int = 0


@dataclass(slots=True)
class Admission:
    """One call that the gate lets in: what it may reach, and what LiteLLM reported about it.

    ``path`` is the ASGI ``scope["path"]`` given to LiteLLM, ``model`` the model that path or body
    name (None on paths that have none). The gate sends ``call_id`` as the ``x-litellm-call-id`` request
    header; calls that LiteLLM makes on its own account within the same context carry other ids and are not
    counted.
    """

    kind: Literal["paid", "free"]
    path: str
    model: str | None = None
    payment_id: str | None = None
    call_id: str = field(default_factory=lambda: str(uuid4()))
    usage_seen: UsageSeen | None = None
    outcome: Literal["success", "failure"] | None = None
    failure: str | None = None
    logged: asyncio.Event = field(default_factory=asyncio.Event)

    def record_success(self, usage: UsageSeen | None) -> None:
        """Keep LiteLLM's count and wake whoever waits; a success overrides earlier failures."""
        self.usage_seen = usage
        self.outcome = "success"
        self.logged.set()

    def record_failure(self, failure: str) -> None:
        """Note the exception's class name of a failed attempt; a fallback may still succeed after it."""
        self.failure = failure
        if self.outcome is None:
            self.outcome = "failure"
        self.logged.set()

    async def wait_for_usage(self, timeout_s: float, failure_grace_s: float = 0.05) -> UsageSeen | None:
        """Wait until LiteLLM has logged this call and return its count, or None.

        Call it after the response has ended, where the response itself had no usage. A failure is believed
        only after ``failure_grace_s``, because the log of a fallback's success may be behind it in the queue.
        A plain call that was cancelled is never logged and costs the whole ``timeout_s``. Cancellation
        changes nothing.
        """
        deadline_s = time.monotonic() + timeout_s
        while self.outcome != "success":
            self.logged.clear()
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                break
            wait_s = left_s if self.outcome is None else min(left_s, failure_grace_s)
            try:
                await asyncio.wait_for(self.logged.wait(), wait_s)
            except TimeoutError:
                break
        return self.usage_seen


ADMISSION: ContextVar[Admission | None] = ContextVar("otrta_admission", default=None)


async def custom_auth(request: Request, api_key: str) -> UserAPIKeyAuth | None:
    """Accept the call that the gate admitted; None leaves every other call to LiteLLM's own auth.

    Raises:
        ProxyException: 403, the admission is for another path, query or model. Nothing else is asked then:
            an operator's own auth that lets strangers in cannot widen what was paid for.
    """
    admission = ADMISSION.get()
    if admission is None:
        return None
    if request.scope.get("path") != admission.path:
        raise _refused(admission, "path")
    # LiteLLM takes `?model=` before the body's model, so a paid call has no query string.
    if admission.kind == "paid" and request.scope.get("query_string"):
        raise _refused(admission, "query")
    if admission.model is not None and await _requested_model(request) != admission.model:
        raise _refused(admission, "model")
    name = f"otrta-{admission.kind}"
    # One constant name for all strangers: nothing in LiteLLM's logs or limits tells one payer from another.
    return UserAPIKeyAuth(
        api_key=name,
        key_alias=name,
        user_role=LitellmUserRoles.INTERNAL_USER,
        models=[] if admission.model is None else [admission.model],
    )


async def _requested_model(request: Request) -> object:
    in_path = request.path_params.get("model")
    if in_path is not None:
        return in_path
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        return (await request.form()).get("model")
    try:
        body: object = await request.json()
    except ValueError:
        return None
    return body.get("model") if isinstance(body, dict) else None


def _refused(admission: Admission, what: str) -> ProxyException:
    return ProxyException(
        message=f"This {admission.kind} call was admitted for another {what}.",
        type="permission_denied",
        param=what,
        code=403,
    )
