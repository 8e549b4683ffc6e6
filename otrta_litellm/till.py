"""What a call is charged, from what is known of it when it has ended."""

import secrets
from dataclasses import dataclass

from anyio import to_thread

from otrta_core import Settlement, Unit, Usage, cost_msat, round_charge_msat, settle
from otrta_core.usage import with_pieces
from otrta_litellm.admission import Admission, UsageSeen
from otrta_litellm.counting import completed, counted, likely_prompt
from otrta_litellm.meter import Reading
from otrta_litellm.payments import Payment
from otrta_litellm.settings import GatewaySettings

LOG_WAIT_S = 2.0
"""How long LiteLLM's own count is waited for where the answer states no usage."""

FAILURE_WAIT_S = 0.25
"""How long an error of which nothing was logged yet may still turn out to be an answer that LiteLLM lost."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended.

    Attributes:
        status: HTTP status of LiteLLM's answer; 500 where there was none.
        stream: whether it was an event stream.
        reading: what the answer says.
        whole: whether it can go out as it is; an error of the gate's own takes its place where not.
        cache_hit: whether LiteLLM gave an answer that it had kept.
        failed: whether the answer was an error that LiteLLM passed on as a success.
    """

    status: int
    stream: bool
    reading: Reading
    whole: bool = True
    cache_hit: bool = False
    failed: bool = False


class Till:
    """Decides costs. It moves no money."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings

    async def settlement(self, payment: Payment, ending: Ending, admission: Admission) -> Settlement:
        """Divide a payment by what its call used.

        A failed call, and one that delivered nothing, costs nothing; one that LiteLLM answers with an error
        after the upstream had answered costs what LiteLLM counted. Unknown usage is charged by LiteLLM's
        count, else by counting what was delivered; never by what was paid.
        """
        usage = await self._usage(payment, ending, admission)
        return self._divide(payment, 0 if usage is None else cost_msat(payment.price, usage))

    def settlement_after_crash(self, payment: Payment) -> Settlement:
        """Divide a payment whose call died with its process: free, or what a live stream had delivered."""
        if not payment.live_tokens:
            return self._divide(payment, 0)
        usage = Usage(
            prompt_tokens=likely_prompt(payment.call, payment.price),
            completion_tokens=payment.live_tokens,
        )
        return self._divide(payment, cost_msat(payment.price, usage))

    async def _usage(self, payment: Payment, ending: Ending, admission: Admission) -> Usage | None:
        reading, call = ending.reading, payment.call
        if not ending.whole or ending.failed:
            return None
        if ending.status >= 400:
            if admission.outcome is None:
                await admission.wait_for_usage(FAILURE_WAIT_S)
            lost = _seen(admission.usage_seen) if admission.outcome == "success" else None
            return None if lost is None else with_pieces(lost, call)
        if ending.cache_hit and self._settings.cache_hit == "free":
            return None
        usage = reading.usage if reading.final else None
        if usage is None and reading.error is None and reading.usage is None:
            usage = _seen(await admission.wait_for_usage(LOG_WAIT_S))
        if usage is None and ending.stream and not reading.delivered:
            return None
        if usage is None:
            usage = await to_thread.run_sync(counted, call, payment.price, reading)
            if reading.usage is not None:
                usage = completed(reading.usage, usage)
        return with_pieces(usage, call)

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
        seconds=usage.seconds,
    )
