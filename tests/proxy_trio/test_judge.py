"""What a gateway may keep, and what is said of it when it keeps more."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import ModelPrice, PaymentRequest, Usage, settle
from otrta_core.payment_request import Nut10Option
from proxy_trio.calls import PaidCall
from proxy_trio.gateway_info import GatewayInfo
from proxy_trio.judge import least_change_msat, most_charge_msat, verdict
from proxy_trio.payer import Ending, Head, Outcome
from proxy_trio.reckoning import PaidAttempt, asked_by, judge, may_keep_msat, was_refused
from proxy_trio.schema import CallState

PRICE = ModelPrice(input_msat_per_mtok=1_000_000, output_msat_per_mtok=5_000_000)
USAGE = {"prompt_tokens": 10, "completion_tokens": 20}
COST = 110


def most(bound=5000, *, failed=False, unit="msat", rounding="up", price=PRICE, usage=None):
    return most_charge_msat(
        bound_msat=bound, failed=failed, unit=unit, rounding=rounding, price=price, usage=usage
    )


def paid(*, change=None, bound=5000, amount=6000, fee=0, unit="msat"):
    return PaidCall(
        id="p",
        state=CallState.IN_FLIGHT,
        gateway="https://g",
        model="m",
        stream=False,
        mint="https://mint",
        unit=unit,
        transfer_id="t",
        paid_msat=amount,
        fee_msat=fee,
        bound_msat=bound,
        cost_msat=None,
        change_msat=change,
        change_token=None,
        missing_msat=None,
        reason=None,
        refused=False,
        tries=0,
        next_try_at=0.0,
        created_at=0.0,
    )


def ended(status=200, *, body=b"{}", headers=(), ending=Ending.COMPLETE, whole=True):
    return Outcome(
        ending=ending,
        may_have_left=True,
        head=None if status is None else Head(status, tuple(headers)),
        answer=body,
        answer_whole=whole,
    )


def attempt(price=PRICE):
    return PaidAttempt(payment_id="p", gateway_url="https://g", token="t", price=price, info=GatewayInfo())


def test_the_usage_bounds_what_may_be_kept():
    assert most(usage=Usage(prompt_tokens=10, completion_tokens=20)) == COST


def test_a_usage_beyond_the_quote_does_not_raise_it():
    assert most(50, usage=Usage(prompt_tokens=10, completion_tokens=20)) == 50


def test_without_usage_or_price_the_quote_counts():
    assert most(price=None, usage=Usage(prompt_tokens=1, completion_tokens=1)) == most() == 5000


def test_nothing_may_be_kept_of_a_failed_call():
    assert most(failed=True, usage=Usage(prompt_tokens=10, completion_tokens=20)) == 0


@pytest.mark.parametrize(("rounding", "kept"), [("up", 2000), ("stochastic", 2000), ("down", 1000)])
def test_sat_tokens_are_rounded_as_the_gateway_says(rounding, kept):
    assert most(1500, unit="sat", rounding=rounding) == kept


@given(st.integers(1, 10**12), st.integers(0, 1000), st.integers(0, 10**12))
def test_an_honest_gateway_is_never_disputed(amount, fee, cost):
    fee = min(fee, amount)
    division = settle(amount, fee, cost)
    bound = min(cost, amount - fee)
    least = least_change_msat(paid_msat=amount, fee_msat=fee, bound_msat=bound)
    assert verdict(division.change, least).state is CallState.DONE


@given(st.integers(1, 10**12), st.integers(0, 10**12), st.integers(1, 10**12))
def test_what_is_missing_is_told_to_the_msat(amount, bound, short):
    least = least_change_msat(paid_msat=amount, fee_msat=0, bound_msat=bound)
    judgement = verdict(least - short, least)
    assert (judgement.state, judgement.missing_msat) == (CallState.DISPUTED, short)


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (json.dumps({"usage": USAGE}).encode(), COST),
        (b"{}", 5000),
        (b"not json", 5000),
        (json.dumps({"usage": None}).encode(), 5000),
        (json.dumps({"usage": {"prompt_tokens": -1, "completion_tokens": 2}}).encode(), 5000),
    ],
)
def test_the_usage_of_a_plain_answer_is_read(body, kept):
    assert may_keep_msat(paid(), attempt(), ended(body=body)) == kept


def test_the_usage_of_an_answer_that_is_not_whole_is_not():
    outcome = ended(body=json.dumps({"usage": USAGE}).encode(), whole=False, ending=Ending.BROKE_OFF)
    assert may_keep_msat(paid(), attempt(), outcome) == 5000


def test_the_last_usage_of_a_stream_counts_and_a_later_null_does_not_erase_it():
    sse = [(b"content-type", b"text/event-stream")]
    lines = [{"usage": {"prompt_tokens": 1, "completion_tokens": 1}}, {"usage": USAGE}, {"usage": None}]
    body = b"".join(b"data: " + json.dumps(line).encode() + b"\n\n" for line in lines) + b"data: [DONE]\n\n"
    assert may_keep_msat(paid(), attempt(), ended(body=body, headers=sse)) == COST


def test_a_call_without_change_is_asked_for_unless_the_gateway_says_that_there_is_none():
    nothing = [(b"X-Otrta-Change-Msat", b"0")]
    assert judge(paid(), 6000, ended()) is None
    assert judge(paid(), 6000, ended(headers=nothing)).state is CallState.DONE
    assert judge(paid(), 5999, ended(headers=nothing)) is None


def test_change_that_came_closes_a_call_however_it_ended():
    assert judge(paid(change=1000), 5000, ended(ending=Ending.BROKE_OFF)).state is CallState.DONE
    assert judge(paid(change=999), 5000, ended(ending=Ending.TIMEOUT)).state is CallState.DISPUTED


@pytest.mark.parametrize(
    ("outcome", "refused"),
    [
        (ended(402), True),
        (ended(400), True),
        (ended(503), True),
        (ended(500), False),
        (ended(200), False),
        (ended(429, headers=[(b"x-otrta-change-msat", b"5000")]), False),
        (ended(402, ending=Ending.BROKE_OFF), False),
    ],
)
def test_a_refusal_is_told_from_a_failed_call(outcome, refused):
    assert was_refused(outcome) is refused


CREQ = PaymentRequest(amount=5, unit="msat", mints=("https://mint",))
INSUFFICIENT = json.dumps({"error": {"code": "insufficient_payment"}}).encode()


def refusal(status, text, body=b"{}", **options):
    return ended(status, headers=[(b"X-Cashu", text.encode())], body=body, **options)


@pytest.mark.parametrize(
    ("outcome", "asked"),
    [
        (refusal(402, CREQ.encode()), CREQ),
        (refusal(402, CREQ.encode("creqB")), CREQ),
        (refusal(402, CREQ.encode("creqB").lower()), CREQ),
        (refusal(400, CREQ.encode(), INSUFFICIENT), CREQ),
        (refusal(400, CREQ.encode()), None),
        (refusal(400, CREQ.encode(), b'{"error": "insufficient_payment"}'), None),
        (refusal(429, CREQ.encode()), None),
        (refusal(402, "creqAnonsense"), None),
        (refusal(402, "creqB1nonsense"), None),
        (refusal(402, CREQ.encode(), ending=Ending.BROKE_OFF), None),
        (ended(402), None),
        (ended(None), None),
        (refusal(402, PaymentRequest(nut10=Nut10Option("P2PK", "02aa")).encode()), None),
        (refusal(402, PaymentRequest(nut10=Nut10Option("P2PK", "02aa")).encode("creqB")), None),
    ],
)
def test_only_what_paying_again_can_answer_is_paid_again(outcome, asked):
    assert asked_by(outcome) == asked
