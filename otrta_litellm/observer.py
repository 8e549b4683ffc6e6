"""LiteLLM's own count of a call, taken from its success and failure logs.

The logs are best effort: LiteLLM queues them, may drop them, and runs them 0-8 ms after the response
(sometimes later). So this is the second source of usage, never the one a settlement depends on.
"""

import math
from collections.abc import Mapping
from datetime import datetime

from litellm.integrations.custom_logger import CustomLogger

from otrta_litellm.admission import ADMISSION, Admission, UsageSeen


class Observer(CustomLogger):  # type: ignore[misc]  # litellm is untyped here
    """The callback that LiteLLM loads; it writes into the admission of the logged call and keeps nothing."""

    async def async_log_success_event(
        self, kwargs: Mapping[str, object], response_obj: object, start_time: datetime, end_time: datetime
    ) -> None:
        """Record LiteLLM's count for the admitted call; calls that the gate did not admit are ignored."""
        admission = _admission_of(kwargs)
        if admission is not None:
            admission.record_success(usage_of(kwargs, response_obj))

    async def async_log_failure_event(
        self, kwargs: Mapping[str, object], response_obj: object, start_time: datetime, end_time: datetime
    ) -> None:
        """Note the failed attempt; LiteLLM may still fall back to another deployment."""
        admission = _admission_of(kwargs)
        if admission is not None:
            admission.record_failure(type(kwargs.get("exception")).__name__)


def usage_of(kwargs: Mapping[str, object], response: object = None) -> UsageSeen | None:
    """Read the token counts from a log event's ``standard_logging_object``; None when it has none to trust.

    Where the upstream of a call without a stream reports no usage, LiteLLM logs zeros: they count as none.
    """
    log = kwargs.get("standard_logging_object")
    if not isinstance(log, Mapping):
        return None
    prompt_tokens = _tokens(log.get("prompt_tokens"))
    completion_tokens = _tokens(log.get("completion_tokens"))
    seconds = _seconds_of(response)
    if prompt_tokens is None or completion_tokens is None or not prompt_tokens + completion_tokens + seconds:
        return None
    metadata = log.get("metadata")
    usage = metadata.get("usage_object") if isinstance(metadata, Mapping) else None
    prompt = _details(usage, "prompt_tokens_details")
    completion = _details(usage, "completion_tokens_details")
    return UsageSeen(
        model=str(log.get("model_group") or log.get("model") or ""),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cached_tokens=_tokens(prompt.get("cached_tokens")) or 0,
        cache_write_tokens=_tokens(prompt.get("cache_creation_tokens")) or 0,
        reasoning_tokens=_tokens(completion.get("reasoning_tokens")) or 0,
        stream=log.get("stream") is True,
        seconds=seconds,
    )


def _admission_of(kwargs: Mapping[str, object]) -> Admission | None:
    admission = ADMISSION.get()
    if admission is None or kwargs.get("litellm_call_id") != admission.call_id:
        return None
    return admission


def _seconds_of(response: object) -> int:
    """Return how long the sound of a transcription was, which LiteLLM has from the file itself."""
    hidden = getattr(response, "_hidden_params", None)
    found = hidden.get("audio_transcription_duration") if isinstance(hidden, Mapping) else None
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        return 0
    return max(0, math.ceil(found))


def _details(usage: object, name: str) -> Mapping[str, object]:
    details = usage.get(name) if isinstance(usage, Mapping) else None
    return details if isinstance(details, Mapping) else {}


def _tokens(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
