"""Reading from the end of a call what became of its payment. Pure: no store, no network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from otrta_core import (
    CallRequest,
    ModelPrice,
    OtrtaError,
    PaymentRequest,
    PaymentRequestError,
    Token,
    Usage,
    wire,
)
from otrta_core.sse import data_of
from otrta_core.usage import UsageReader, with_pieces
from proxy_trio.calls import PaidCall
from proxy_trio.gateway_info import GatewayInfo, GatewayKind
from proxy_trio.judge import Judgement, least_change_msat, most_charge_msat, verdict
from proxy_trio.payer import Attempt, Ending, Outcome

REFUSALS: Final = frozenset({400, 401, 402, 403, 404, 405, 413, 415, 422, 429, 503})
"""Statuses of which it is likely that the token was not touched, so that its mint is asked first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidAttempt(Attempt):
    """An attempt with what is needed to judge its change, and the gateways that had the call before."""

    request: CallRequest | None = None
    price: ModelPrice | None = None
    info: GatewayInfo = field(default_factory=GatewayInfo)
    may_retry: bool = True
    tried: frozenset[str] = frozenset()
    begun_at: float = 0.0


def may_keep_msat(call: PaidCall, attempt: PaidAttempt, outcome: Outcome) -> int:
    """Return the most that the gateway may keep of a payment, by how the call ended."""
    return _most_msat(call, attempt, outcome, loose=attempt.info.kind is GatewayKind.ROUTSTR)


def needs_no_change(call: PaidCall, attempt: PaidAttempt, outcome: Outcome) -> bool:
    """Tell whether a whole answer without a word on change leaves nothing to ask for."""
    if outcome.ending is not Ending.COMPLETE or attempt.info.kind is GatewayKind.OTRTA:
        return False
    if not attempt.info.gives_change:
        return True
    charge_msat = _most_msat(call, attempt, outcome, loose=False)
    return outcome.answer_whole and charge_msat >= call.paid_msat - call.fee_msat


def _most_msat(call: PaidCall, attempt: PaidAttempt, outcome: Outcome, *, loose: bool) -> int:
    return most_charge_msat(
        bound_msat=call.bound_msat,
        failed=outcome.status is not None and outcome.status >= 400,
        unit=call.unit,
        rounding=attempt.info.rounding,
        price=attempt.price,
        loose=loose,
        usage=_usage(attempt.request, outcome),
    )


def tokens_used(attempt: PaidAttempt, outcome: Outcome) -> dict[str, int]:
    """Return what the answer states to have used, as columns of a payment's row; empty if unstated."""
    usage = _usage(attempt.request, outcome)
    if usage is None:
        return {}
    return {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens}


def judge(call: PaidCall, bound_msat: int, outcome: Outcome, *, needs_none: bool = False) -> Judgement | None:
    """Judge what came back; None where the change has to be asked for first.

    Args:
        call: the payment, with the change that came.
        bound_msat: of ``may_keep_msat``.
        outcome: how the call ended.
        needs_none: of ``needs_no_change``.
    """
    least = least_change_msat(paid_msat=call.paid_msat, fee_msat=call.fee_msat, bound_msat=bound_msat)
    if call.change_msat is not None:
        return verdict(call.change_msat, least)
    told = outcome.head is not None and figure(outcome.head.get("x-otrta-change-msat")) == 0
    return verdict(0, least) if (told or needs_none) and least == 0 else None


def _owes(outcome: Outcome) -> bool:
    head = outcome.head
    owed = figure(head.get("x-otrta-change-msat")) if head else None
    return bool(owed) or (head is not None and head.get("x-otrta-change") == "claim")


def _usage(request: CallRequest | None, outcome: Outcome) -> Usage | None:
    """Return the usage that the answer states: of a stream the last that it states."""
    if outcome.head is None or not outcome.answer:
        return None
    reader = UsageReader("chat" if request is None else request.kind)
    if outcome.head.is_event_stream:
        for line in outcome.answer.splitlines():
            data = data_of(line)
            if data is not None:
                reader.feed(json_or_none(data))
        if not reader.final:
            return None
    elif outcome.answer_whole:
        reader.feed(json_or_none(outcome.answer))
    if reader.usage is None or request is None:
        return reader.usage
    return with_pieces(reader.usage, request)


def json_or_none(data: bytes) -> object:
    """Read what may be JSON; None where it is not."""
    try:
        return wire.from_json(data)
    except (ValueError, UnicodeError):
        return None


def asked_by(outcome: Outcome, *, any_400: bool = False) -> PaymentRequest | None:
    """Return what a refusal asks for, where it is one that paying again can answer.

    Args:
        outcome: how the call ended.
        any_400: whether a 400 asks for another payment whatever its body says, as NUT-24 has it.
    """
    text = outcome.head.get("x-cashu") if outcome.head else None
    if text is None or outcome.ending is not Ending.COMPLETE:
        return None
    if outcome.status == 400 and not any_400:
        body = json_or_none(outcome.answer)
        error = body.get("error") if isinstance(body, Mapping) else None
        if not isinstance(error, Mapping) or error.get("code") != "insufficient_payment":
            return None
    elif outcome.status not in (400, 402):
        return None
    try:
        asked = PaymentRequest.parse(text)
    except PaymentRequestError:
        return None
    return None if asked.nut10 is not None else asked  # locks are not made yet


def same_proofs(paid: str, change: str) -> bool:
    """Tell whether what a gateway calls change is the payment itself, which it did not take."""
    try:
        sent, came = Token.parse(paid), Token.parse(change)
    except OtrtaError:
        return False
    return {proof.secret for proof in came.proofs} <= {proof.secret for proof in sent.proofs}


def was_refused(outcome: Outcome) -> bool:
    """Tell whether the gateway refused the call before it took the token, as far as its answer shows."""
    return outcome.ending is Ending.COMPLETE and outcome.status in REFUSALS and not _owes(outcome)


def waiting_for(outcome: Outcome) -> str:
    """Say what an open payment waits for."""
    if was_refused(outcome):
        return f"refused with HTTP {outcome.status}: the token is being taken back"
    return "the change is being fetched"


def figure(text: str | None) -> int | None:
    """Read an amount in a header or comment; None where it is none."""
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
