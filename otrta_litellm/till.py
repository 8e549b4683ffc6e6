"""What a call is charged, from what is known of it when it has ended."""

import secrets
from dataclasses import dataclass

import litellm
from anyio import to_thread

from otrta_core import Settlement, Unit, Usage, cost_msat, round_charge_msat, settle
from otrta_litellm.admission import Admission, UsageSeen
from otrta_litellm.meter import BYTES_PER_TOKEN, Reading
from otrta_litellm.payments import Payment
from otrta_litellm.settings import GatewaySettings

LOG_WAIT_S = 2.0
"""How long LiteLLM's own count is waited for where the answer states no usage."""

FAILURE_WAIT_S = 0.25
"""How long an error of which nothing was logged yet may still turn out to be an answer that LiteLLM lost."""

TOKENIZER = "gpt-3.5-turbo"
"""Always at hand. By the model's own name LiteLLM would download a tokenizer for some."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended.

    Attributes:
        status: HTTP status of LiteLLM's answer; 500 where there was none.
        stream: whether it was an event stream.
        reading: what the answer says.
        whole: whether it can go out as it is; an error of the gate's own takes its place where not.
    """

    status: int
    stream: bool
    reading: Reading
    whole: bool = True


class Till:
    """Decides costs. It moves no money."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings

    async def settlement(self, payment: Payment, ending: Ending, admission: Admission) -> Settlement:
        """Divide a payment by what its call used.

        A failed call, and one that delivered nothing, costs nothing; one that LiteLLM answers with an error
        after the upstream had answered costs what LiteLLM counted. Unknown usage is charged by LiteLLM's
        count, else by counting the delivered text; never by what was paid.
        """
        usage = await self._usage(payment, ending, admission)
        return self._divide(payment, 0 if usage is None else cost_msat(payment.price, usage))

    def settlement_after_crash(self, payment: Payment) -> Settlement:
        """Divide a payment whose call died with its process: free, or what a live stream had delivered."""
        if not payment.live_tokens:
            return self._divide(payment, 0)
        prompt = _likely_prompt(payment)
        usage = Usage(prompt_tokens=prompt, completion_tokens=payment.live_tokens)
        return self._divide(payment, cost_msat(payment.price, usage))

    async def _usage(self, payment: Payment, ending: Ending, admission: Admission) -> Usage | None:
        if not ending.whole:
            return None
        stated = ending.reading.usage
        if ending.status >= 400:
            if admission.outcome is None:
                await admission.wait_for_usage(FAILURE_WAIT_S)
            return _seen(admission.usage_seen) if admission.outcome == "success" else None
        if ending.stream and ending.reading.error is not None and not ending.reading.delivered:
            return None
        if stated is not None:
            return stated
        if ending.reading.error is None:
            logged = _seen(await admission.wait_for_usage(LOG_WAIT_S))
            if logged is not None:
                return logged
        if ending.stream and not ending.reading.delivered:
            return None
        return await to_thread.run_sync(_count, payment, ending.reading)

    def _divide(self, payment: Payment, cost: int) -> Settlement:
        unit = Unit.parse(payment.unit)
        charge = round_charge_msat(
            cost,
            unit,
            self._settings.rounding,
            draw=secrets.randbelow(1000),
            allow_zero=self._settings.allow_zero,
        )
        return settle(payment.paid_msat, payment.fee_msat, charge)


def _seen(usage: UsageSeen | None) -> Usage | None:
    if usage is None:
        return None
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )


def _count(payment: Payment, reading: Reading) -> Usage:
    prompt = _likely_prompt(payment)
    return Usage(prompt_tokens=prompt, completion_tokens=_tokens(reading))


def _tokens(reading: Reading) -> int:
    """Count the delivered text; of a very long one its beginning, and the rest in proportion."""
    kept_bytes = len(reading.text.encode("utf-8", "surrogatepass"))
    if not kept_bytes:
        return reading.text_bytes // BYTES_PER_TOKEN
    try:
        counted = int(litellm.token_counter(model=TOKENIZER, text=reading.text))
    except Exception:  # whatever a tokenizer makes of a stranger's text, the call has to be settled
        counted = kept_bytes // BYTES_PER_TOKEN
    return counted * reading.text_bytes // kept_bytes


def _likely_prompt(payment: Payment) -> int:
    """Return how many tokens the prompt probably was, where nobody counted it."""
    return max(1, payment.call.prompt_tokens // BYTES_PER_TOKEN)
