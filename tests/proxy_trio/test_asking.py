"""What a refusal asks for, read as data, and what is remembered of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import PaymentRequest, Unit
from otrta_core.payment_request import Nut10Option, Transport
from proxy_trio.asking import ASK_HOLDS_S, Asked, AskedPrices, read_ask
from proxy_trio.gateway_info import GatewayInfo, GatewayKind
from proxy_trio.payer import Ending, Head, Outcome

OTRTA, PLAIN = GatewayInfo(), GatewayInfo(kind=GatewayKind.NUT24)
MINTS = ["https://a", "https://b", "https://c"]
CALL = ("https://g", "/v1/chat/completions", "m")


def refused(status, request, body=b"{}"):
    head = Head(status, ((b"X-Cashu", request.encode().encode()),))
    return Outcome(ending=Ending.COMPLETE, may_have_left=True, head=head, answer=body, answer_whole=True)


def asked(amount=7, mints=()):
    return Asked(amount, (Unit.MSAT,), frozenset(mints))


def test_what_is_asked_in_sat_is_counted_in_msat():
    request = PaymentRequest(amount=3, unit="sat", mints=("https://A/", "https://b"))
    assert read_ask(refused(402, request), OTRTA) == Asked(
        3000, (Unit.SAT,), frozenset({"https://a", "https://b"})
    )


@pytest.mark.parametrize(
    "request_",
    [
        PaymentRequest(unit="sat"),
        PaymentRequest(amount=3, unit="usd"),
        PaymentRequest(amount=3, unit="sat", mints=("file:///etc/passwd",)),
        PaymentRequest(amount=3, unit="sat", nut10=Nut10Option("P2PK", "02aa")),
    ],
)
def test_what_cannot_be_paid_is_not_asked(request_):
    assert read_ask(refused(402, request_), OTRTA) is None


def test_transports_are_passed_over():
    request = PaymentRequest(amount=3, unit="sat", transports=(Transport("post", "https://evil/pay"),))
    assert read_ask(refused(402, request), OTRTA) == Asked(3000, (Unit.SAT,))


def test_a_400_asks_for_more_where_nut24_is_all_that_a_gateway_knows():
    request = PaymentRequest(amount=3, unit="msat")
    assert read_ask(refused(400, request), PLAIN) == Asked(3, (Unit.MSAT,))
    assert read_ask(refused(400, request), OTRTA) is None
    told = json.dumps({"error": {"code": "insufficient_payment"}}).encode()
    assert read_ask(refused(400, request, told), OTRTA) == Asked(3, (Unit.MSAT,))


@given(st.sets(st.sampled_from([*MINTS, "https://foreign"])))
def test_only_mints_of_the_wallet_ever_pay(mints):
    sources = asked(mints=mints).sources(MINTS)
    assert {url for url, _ in sources} == (mints & set(MINTS) if mints else set(MINTS))


def test_a_price_is_known_for_a_call_of_the_same_size_and_for_a_while():
    prices = AskedPrices()
    prices.note(*CALL, (100, None), asked(), 0)
    assert prices.look_up(*CALL, (100, None), 1) == asked()
    assert prices.look_up(*CALL, (101, None), 1) is None
    assert prices.look_up(*CALL, (100, 5), 1) is None
    assert prices.look_up("https://h", *CALL[1:], (100, None), 1) is None
    assert prices.look_up(*CALL, (100, None), ASK_HOLDS_S) is None
    prices.forget(*CALL)
    assert prices.look_up(*CALL, (100, None), 1) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3)), max_size=20), st.integers(0, 9))
def test_another_size_is_paid_like_the_others_only_if_all_were_asked_the_same(asks, size):
    prices = AskedPrices()
    latest = {}
    for at, (bytes_, amount) in enumerate(asks):
        prices.note(*CALL, (bytes_, None), asked(amount), at)
        latest[bytes_] = amount
    found = prices.look_up(*CALL, (size, None), len(asks))
    if size in latest:
        assert found == asked(latest[size])
    elif len(latest) > 1 and len(set(latest.values())) == 1:
        assert found == asked(next(iter(latest.values())))
    else:
        assert found is None


def test_names_that_a_gateway_or_an_app_makes_up_do_not_fill_the_memory():
    prices = AskedPrices()
    for number in range(1000):
        prices.note("https://g", "/v1/chat/completions", str(number), (number, None), asked(), 0)
    known = [n for n in range(1000) if prices.look_up(*CALL[:2], str(n), (n, None), 1)]
    assert known == list(range(800, 1000))
