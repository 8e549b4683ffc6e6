"""How often a mint is asked about what it is waited for, and that waiting loses nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from otrta_core import Token
from otrta_wallet import MintRefused, OutcomeUnknown, polling
from otrta_wallet.executor import LANDS_WITHIN_S
from otrta_wallet.polling import (
    DAY_S,
    FIRST_S,
    GRACE_S,
    LATE_S,
    LONGEST_S,
    WITHOUT_EXPIRY_S,
    next_look,
    next_quote_look,
)
from otrta_wallet.schema import operations
from tests.fault_proxy import NOT_THESE, Fault
from tests.otrta_wallet.reckoning import accounted_for, assert_really_there, available, top_up

MADE = 1_000_000.0
UNPAID = Fault("unpaid", forwards=0, answer=(200, b'{"quote": "q", "request": "lnbc1", "state": "UNPAID"}'))
AWAY = Fault("away", forwards=0, keeps=None)
ASKED = "^/v1/mint/quote/bolt11/"
times = st.floats(0, 1e10)


@given(times, times)
def test_the_pause_grows_with_age_within_bounds(age, more):
    assert FIRST_S <= polling.pause_s(age) <= polling.pause_s(age + more) <= LONGEST_S


def test_an_hour_of_waiting_takes_few_questions():
    now, asked = MADE, 0
    while now < MADE + 3600:
        now, asked = next_look(MADE, now), asked + 1
    assert 30 <= asked <= 70


@given(st.none() | st.integers(-(2**63), 2**63 - 1), st.floats(0, 1e9))
def test_every_invoice_is_given_up_in_the_end_whatever_its_mint_states(expiry, age):
    now = MADE + age
    at = next_quote_look(MADE, expiry, now)
    assert at is None or now + FIRST_S <= at <= now + DAY_S
    assert (at is None) or age < WITHOUT_EXPIRY_S + GRACE_S + LATE_S
    assert next_quote_look(MADE, expiry, MADE + WITHOUT_EXPIRY_S + GRACE_S + LATE_S) is None


@pytest.mark.parametrize(
    ("after_expiry_s", "wanted_s"),
    [
        (0, polling.pause_s(600)),
        (GRACE_S - 1, polling.pause_s(600 + GRACE_S - 1)),
        (GRACE_S, DAY_S),
        (GRACE_S + LATE_S - 1, DAY_S),
        (GRACE_S + LATE_S, None),
    ],
)
def test_after_its_expiry_an_invoice_is_asked_for_daily_and_then_no_more(after_expiry_s, wanted_s):
    now = MADE + 600 + after_expiry_s
    at = next_quote_look(MADE, MADE + 600, now)
    assert (None if at is None else pytest.approx(at - now)) == wanted_s


@pytest.fixture
def alice(far_alice):
    return far_alice


def asked(network, path):
    return sum(seen.path.startswith(path) for seen in network.seen)


@pytest.mark.anyio
async def test_on_a_timer_an_invoice_is_asked_for_ever_more_rarely(alice, network, clock):
    quote = await alice.request_invoice(network.url, 100, "msat")
    network.spoil(ASKED, *[UNPAID] * 1000)
    for _ in range(60):
        await alice.recover(everything=False)
        clock.ahead_s += 60
    assert 15 <= asked(network, "/v1/mint/quote/bolt11/") <= 35
    network._armed.clear()
    clock.ahead_s += polling.pause_s(3600)
    assert (await alice.recover(everything=False)).finished == 1
    assert (await available(alice), await alice.quotes("open")) == (100, [])
    assert await alice.claim_quote(quote.id) == 100


@pytest.mark.anyio
async def test_when_to_look_again_outlives_a_restart_and_a_person_need_not_wait(open_wallet, network, clock):
    async with open_wallet("dora", clock=clock) as dora:
        await dora.mints.add(network.url)
        await dora.request_invoice(network.url, 100, "msat")
        clock.ahead_s += 3600
        network.spoil(ASKED, UNPAID)
        await dora.recover(everything=False)
    async with open_wallet("dora", clock=clock) as dora:
        await dora.recover(everything=False)
        assert await available(dora) == 0
        assert (await dora.recover()).finished == 1
        assert await available(dora) == 100


@pytest.mark.anyio
async def test_an_invoice_is_given_up_only_by_a_mint_that_says_that_it_is_unpaid(alice, network, clock):
    quote = await alice.request_invoice(network.url, 100, "msat")
    clock.ahead_s += WITHOUT_EXPIRY_S + GRACE_S + LATE_S + 1
    network.spoil(ASKED, *[AWAY] * 3)
    assert (await alice.recover(everything=False)).open == 1
    assert [open_.id for open_ in await alice.quotes("open")] == [quote.id]
    clock.ahead_s += DAY_S
    network.spoil(ASKED, UNPAID)
    await alice.recover(everything=False)
    assert [given_up.id for given_up in await alice.quotes("expired")] == [quote.id]
    network.seen.clear()
    await alice.recover()
    assert asked(network, "/v1/mint") == 0


@pytest.mark.anyio
@pytest.mark.parametrize("by_hand", [True, False])
async def test_an_invoice_that_was_given_up_can_still_be_claimed(alice, network, clock, by_hand):
    quote = await alice.request_invoice(network.url, 100, "msat")
    clock.ahead_s += WITHOUT_EXPIRY_S + GRACE_S + LATE_S + 1
    network.spoil(ASKED, UNPAID)
    await alice.recover()
    if by_hand:
        assert await alice.claim_quote(quote.id) == 100
    else:
        assert (await alice.recover(expired=True)).finished == 1
    assert (await available(alice), await alice.quotes("expired")) == (100, [])
    await assert_really_there(alice)


@pytest.mark.anyio
async def test_what_was_given_up_is_watched_ever_more_rarely(alice, network, clock):
    await top_up(alice, network.url, 100)
    transfer = await alice.send(network.url, 60, "msat", reference="not looked at itself")
    network.spoil("^/v1/swap$", AWAY, Fault("refused", forwards=0, answer=NOT_THESE))
    with pytest.raises(OutcomeUnknown):
        await alice.reclaim(transfer.id)
    [landing] = {seen.body: seen for seen in network.seen if seen.path == "/v1/swap"}.values()
    clock.ahead_s += LANDS_WITHIN_S + 1
    network.spoil("^/v1/swap$", Fault("refused", forwards=0, answer=NOT_THESE))
    assert (await alice.recover(everything=False)).failed == 1
    network.seen.clear()
    for _ in range(60):
        await alice.recover(everything=False)
        clock.ahead_s += 60
    assert 15 <= asked(network, "/v1/checkstate") <= 35
    assert network.forward(landing)[0] == 200
    clock.ahead_s += polling.pause_s(3600)
    assert (await alice.recover(everything=False)).finished == 1
    assert await accounted_for(alice) == 100
    await assert_really_there(alice)


@pytest.mark.anyio
async def test_sent_tokens_are_asked_after_ever_more_rarely(alice, far_bob, network, clock):
    await top_up(alice, network.url, 100)
    transfer = await alice.send(network.url, 60, "msat")
    network.seen.clear()
    for _ in range(60):
        await alice.recover(everything=False)
        clock.ahead_s += 60
    assert 15 <= asked(network, "/v1/checkstate") <= 35
    await far_bob.receive(Token.parse(transfer.token))
    clock.ahead_s += polling.pause_s(3600)
    await alice.recover(everything=False)
    assert await alice.transfers() == []


@pytest.mark.anyio
async def test_a_paid_invoice_that_its_mint_refuses_is_put_off_too(alice, network, clock):
    quote = await alice.request_invoice(network.url, 100, "msat")
    network.spoil("^/v1/mint/bolt11$", *[Fault("refused", forwards=0, answer=NOT_THESE)] * 50)
    with pytest.raises(MintRefused):
        await alice.claim_quote(quote.id)
    for _ in range(60):
        await alice.recover(everything=False)
        clock.ahead_s += 60
    tried = await alice.transactions.run(lambda conn, _now: len(conn.execute(select(operations.c.id)).all()))
    assert 3 <= tried <= 8
    network._armed.clear()
    assert await alice.claim_quote(quote.id) == 100
