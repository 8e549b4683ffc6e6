"""Which gateway has a call: price first, then who had the last one and who is fast; the ill ones last."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import Unit
from proxy_trio.choice import (
    ALIKE_PPM,
    STAY_PPM,
    another_may_try,
    asks_too_much,
    in_order,
    is_back,
)
from proxy_trio.gateway_info import GatewayInfo
from proxy_trio.health import (
    FAILURES,
    FIRST_REST_S,
    LONGEST_REST_S,
    PROBE_S,
    Health,
    Standing,
    retry_after_s,
    says_ill,
)
from proxy_trio.offers import Offer
from proxy_trio.payer import Ending, Head, Outcome

PAYABLE = (("https://mint", Unit.MSAT),)


def offer(url, price, *, sold=True, sources=PAYABLE):
    return Offer(url, GatewayInfo(), price, sources, sold)


def ended(status=None, *, ending=Ending.COMPLETE, body=b"{}", headers=()):
    head = None if status is None else Head(status, tuple(headers))
    return Outcome(ending=ending, may_have_left=True, head=head, answer=body, answer_whole=True)


def well(_url):
    return Standing()


def first(offers, standing=well, favourite=None):
    return in_order(offers, standing, favourite)[0].url


offers_ = st.lists(
    st.builds(
        offer,
        st.uuids().map(str),
        st.none() | st.integers(0, 10**6),
        sold=st.booleans(),
        sources=st.sampled_from([(), PAYABLE]),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda each: each.url,
)
standings = st.builds(Standing, resting=st.booleans(), latency_s=st.none() | st.floats(0, 60))


@given(offers_, st.data())
def test_the_order_holds_every_offer_and_the_better_kinds_first(offers, data):
    stands = {each.url: data.draw(standings) for each in offers}
    favourite = data.draw(st.none() | st.sampled_from([each.url for each in offers]))
    ordered = in_order(offers, stands.__getitem__, favourite)
    assert sorted(each.url for each in ordered) == sorted(each.url for each in offers)

    def kind(each):
        unknown = each.quote_msat is None
        return not each.sold, stands[each.url].resting, not unknown and not each.sources, unknown

    assert [kind(each) for each in ordered] == sorted(kind(each) for each in offers)
    best = ordered[0]
    alike = [each for each in offers if kind(each) == kind(best)]
    least = min(each.quote_msat or 0 for each in alike)
    assert (best.quote_msat or 0) * 10**6 <= least * (10**6 + max(ALIKE_PPM, STAY_PPM))


@given(st.lists(st.tuples(st.integers(9_800, 10_200), st.integers(9_800, 10_200)), min_size=1, max_size=30))
def test_prices_that_waver_a_little_do_not_make_calls_wander(prices):
    favourite = first([offer("a", prices[0][0]), offer("b", prices[0][1])])
    for one, other in prices:
        assert first([offer("a", one), offer("b", other)], favourite=favourite) == favourite


def test_a_clearly_cheaper_one_has_the_call_whoever_had_the_last():
    assert first([offer("a", 1000), offer("b", 900)], favourite="a") == "b"
    assert first([offer("a", 1000), offer("b", 960)], favourite="a") == "a"


def test_of_those_alike_in_price_the_fastest_has_the_call():
    stands = {"a": Standing(latency_s=2.0), "b": Standing(latency_s=0.5), "c": Standing(latency_s=0.1)}
    offers = [offer("a", 1000), offer("b", 1010), offer("c", 2000)]
    assert first(offers, stands.__getitem__) == "b"


def test_one_that_rests_is_still_tried_where_nobody_else_sells_the_call():
    stands = {"a": Standing(resting=True), "b": Standing()}
    assert first([offer("a", 1), offer("b", None, sold=False)], stands.__getitem__) == "a"


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


FAILED = ended(500)


def test_after_failures_in_a_row_a_gateway_rests_and_one_call_tries_it_then(clock):
    health = Health(clock)
    for _ in range(FAILURES):
        assert not health.standing("g").resting
        health.ended("g", FAILED)
    assert health.standing("g").resting
    clock.now += FIRST_REST_S
    assert not health.standing("g").resting
    health.begun("g")
    assert health.standing("g").resting  # the others wait for how it ends
    health.ended("g", FAILED)
    clock.now += FIRST_REST_S
    assert health.standing("g").resting  # twice as long this time
    clock.now += FIRST_REST_S
    health.begun("g")
    health.ended("g", ended(200))
    assert health.standing("g") == Standing()


def test_a_try_whose_end_is_never_told_does_not_shut_a_gateway_out(clock):
    health = Health(clock)
    for _ in range(FAILURES):
        health.ended("g", FAILED)
    clock.now += FIRST_REST_S
    health.begun("g")
    clock.now += PROBE_S
    assert not health.standing("g").resting


@given(st.lists(st.sampled_from([200, 404, 429, 500, 503, None]), max_size=60), st.data())
def test_no_rest_is_longer_than_the_longest(statuses, data):
    clock = Clock()
    health = Health(clock)
    for status in statuses:
        health.begun("g")
        health.ended("g", ended(status), data.draw(st.none() | st.floats(0, 1e9)))
        clock.now += data.draw(st.floats(0, 100))
    clock.now += max(LONGEST_REST_S, PROBE_S)
    assert not health.standing("g").resting


def test_one_that_asks_to_be_left_alone_is(clock):
    health = Health(clock)
    busy = ended(429, headers=[(b"Retry-After", b"30")])
    health.ended("g", busy, retry_after_s(busy))
    clock.now += 29
    assert health.standing("g").resting
    clock.now += 1
    assert not health.standing("g").resting


@pytest.mark.parametrize("text", [b"", b"-1", b"1e9", b"Wed, 21 Oct 2026 07:28:00 GMT", b"9" * 40])
def test_other_words_in_retry_after_are_passed_over(text):
    assert retry_after_s(ended(429, headers=[(b"Retry-After", text)])) is None


def test_how_long_answers_take_is_averaged(clock):
    health = Health(clock)
    health.answered("g", 1.0)
    health.answered("g", 2.0)
    assert health.standing("g").latency_s == pytest.approx(1.2)
    health.forget("g")
    assert health.standing("g") == Standing()


@pytest.mark.parametrize(
    ("outcome", "ill"),
    [
        (ended(200), False),
        (ended(400), False),
        (ended(402), False),
        (ended(429), True),
        (ended(502), True),
        (ended(ending=Ending.UNREACHABLE), True),
        (ended(ending=Ending.TIMEOUT), True),
        (ended(200, ending=Ending.BROKE_OFF), True),
        (ended(200, ending=Ending.ABANDONED), None),
        (ended(ending=Ending.STOPPED), None),
        (ended(ending=Ending.NOT_SENT), None),
    ],
)
def test_only_what_a_gateway_did_is_held_against_it(outcome, ill):
    assert says_ill(outcome) is ill


def coded(code):
    return ended(400, body=json.dumps({"error": {"code": code}}).encode())


@pytest.mark.parametrize(
    ("outcome", "may"),
    [
        (ended(ending=Ending.UNREACHABLE), True),
        (ended(200, ending=Ending.BROKE_OFF), True),
        (ended(500), True),
        (ended(503), True),
        (ended(429), True),
        (ended(404), True),
        (ended(402), True),
        (coded("mint_not_accepted"), True),
        (coded("invalid_request"), False),
        (ended(400, body=b"[]"), False),
        (ended(413), False),
        (ended(422), False),
        (ended(200), False),
        (ended(ending=Ending.STOPPED), False),
        (ended(200, ending=Ending.ABANDONED), False),
        (ended(ending=Ending.FAILED), False),
    ],
)
def test_another_gateway_has_a_call_only_where_the_call_itself_may_be_right(outcome, may):
    assert another_may_try(outcome) is may


@given(st.integers(1, 10**9), st.integers(0, 1000), st.none() | st.integers(0, 10**9))
def test_a_payment_is_back_when_only_the_fee_is_missing(paid, fee, change):
    assert is_back(paid_msat=paid, fee_msat=fee, change_msat=change) is (
        change is not None and paid - change <= fee
    )


@pytest.mark.parametrize(
    ("asked", "published", "too_much"), [(200, 100, False), (201, 100, True), (10**12, None, False)]
)
def test_what_is_asked_may_be_twice_what_is_published(asked, published, too_much):
    assert asks_too_much(asked, published) is too_much
