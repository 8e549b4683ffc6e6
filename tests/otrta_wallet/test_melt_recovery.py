"""Payments whose answer was lost, late or a lie: what was not spent is ours, what comes back is found."""

import json
from itertools import cycle

import pytest
from anyio import to_thread

from otrta_wallet import InvoicePaid, OutcomeUnknown, PaymentFailed, quotes
from otrta_wallet.closing import WATCH_S
from otrta_wallet.custody import HELD_S
from otrta_wallet.executor import LANDS_WITHIN_S
from otrta_wallet.polling import next_look
from otrta_wallet.schema import ProofStatus
from tests.fault_proxy import LOCKED, NOT_THESE, Fault, fault_proxy
from tests.otrta_wallet.lightning import LIGHTNING_FEE, RESERVE_MSAT, offer
from tests.otrta_wallet.reckoning import (
    accounted_for,
    assert_really_there,
    available,
    paid_out,
    pending,
    states_at_the_mint,
    top_up,
)

pytestmark = pytest.mark.anyio

MELT = "^/v1/melt/bolt11$"
STATE = "^/v1/melt/quote/bolt11/."
MINTED = 10_000
AFTER = MINTED - 1_000 - LIGHTNING_FEE
DROPPED = Fault("dropped", forwards=0, keeps=None)
ANSWER_LOST = Fault("answer-lost", keeps=None)
REFUSED = Fault("refused", forwards=0, answer=NOT_THESE)
NONE_SIGNED = Fault("none-signed", answer=(200, b'{"outputs": [], "signatures": []}'))


@pytest.fixture
async def alice(far_alice, network):
    await top_up(far_alice, network.url, MINTED)
    return far_alice


@pytest.fixture
async def quote_id(alice, network, fee_mint):
    """An offer to pay 1,000 msat."""
    return await offer(alice, network.url, fee_mint.url)


def twisted(change):
    """A fault that changes the mint's reply."""
    return Fault("lie", twist=lambda body: json.dumps(change(json.loads(body))).encode())


def saying(**fields):
    return twisted(lambda reply: reply | fields)


async def assert_paid(wallet, network):
    assert (await available(wallet), await pending(wallet)) == (AFTER, 0)
    assert await accounted_for(wallet) == MINTED
    await assert_really_there(wallet)


async def test_a_lost_answer_is_found_with_all_of_its_change(alice, network, quote_id):
    network.spoil(MELT, ANSWER_LOST)
    melt = await alice.melt(quote_id)
    assert (melt.state, melt.fee) == ("paid", LIGHTNING_FEE)
    await assert_paid(alice, network)


async def test_what_may_still_land_is_not_freed_and_not_posted_again(alice, network, quote_id, clock):
    network.spoil(MELT, DROPPED)
    with pytest.raises(OutcomeUnknown):
        await alice.melt(quote_id)
    with pytest.raises(OutcomeUnknown):
        await alice.melt(quote_id)
    assert (await alice.recover()).open == 1
    assert await pending(alice) == 1_000 + RESERVE_MSAT
    clock.ahead_s += LANDS_WITHIN_S + 1
    assert (await alice.recover()).failed == 1
    assert (await available(alice), await pending(alice)) == (MINTED, 0)
    assert len([seen for seen in network.seen if seen.path == "/v1/melt/bolt11"]) == 1
    assert (await alice.melt(quote_id)).state == "paid"
    await assert_paid(alice, network)


async def test_a_payment_that_lands_after_it_was_given_up_is_found(alice, network, quote_id, clock):
    network.spoil(MELT, DROPPED)
    with pytest.raises(OutcomeUnknown):
        await alice.melt(quote_id)
    in_flight = next(seen for seen in network.seen if seen.path == "/v1/melt/bolt11")
    clock.ahead_s += LANDS_WITHIN_S + 1
    await alice.recover()
    assert network.forward(in_flight)[0] == 200
    # between landing and the next look the mint calls spent what the wallet does not, and the sums hold
    assert "SPENT" in await states_at_the_mint(alice, ProofStatus.AVAILABLE)
    assert (await accounted_for(alice), await paid_out(alice)) == (MINTED, 0)
    assert (await alice.recover()).finished == 1
    assert (await alice.melt_status(quote_id)).state == "paid"
    await assert_paid(alice, network)


async def test_a_mint_that_is_asked_too_much_is_asked_again(alice, network, quote_id):
    busy = Fault("429", forwards=0, answer=(429, b'{"detail": "Rate limit exceeded."}'))
    network.spoil(MELT, busy)
    assert (await alice.melt(quote_id)).state == "paid"
    assert network.met == [busy]
    await assert_paid(alice, network)


async def test_a_refusal_is_believed_where_the_mints_state_agrees(alice, network, quote_id):
    network.spoil(MELT, REFUSED)
    with pytest.raises(PaymentFailed, match="does not want these"):
        await alice.melt(quote_id)
    assert (await available(alice), await pending(alice)) == (MINTED, 0)
    network.spoil(MELT, Fault("refused-after-the-commit", answer=LOCKED))
    assert (await alice.melt(quote_id)).state == "paid"
    await assert_paid(alice, network)


# --- lies ------------------------------------------------------------------------------------------------


def change(lie):
    """A lie about the list of change."""
    return lambda reply: reply | {"change": lie(reply["change"])}


def first(**fields):
    return change(lambda signed: [signed[0] | fields, *signed[1:]])


LIES = {
    "not-paid": lambda reply: reply | {"state": "UNPAID", "change": []},
    "pending": lambda reply: reply | {"state": "PENDING", "change": []},
    "another-quote": lambda reply: reply | {"quote": "another"},
    "no-state": lambda reply: {key: value for key, value in reply.items() if key != "state"},
    "too-much-change": first(amount=1 << 40),
    "a-little-too-much": first(amount=2 * RESERVE_MSAT),
    "too-many": change(lambda signed: signed * 4),
    "nothing-worth": first(amount=0),
    "another-keyset": first(id="00" + "00" * 7),
    "anothers-signature": change(lambda signed: [signed[0] | {"C_": signed[1]["C_"]}, *signed[1:]]),
    "swapped-round": change(lambda signed: signed[::-1]),
    "no-point": first(C_="02" + "00" * 32),
    "bad-dleq": first(dleq={"e": "11" * 32, "s": "22" * 32}),
}


@pytest.mark.parametrize(
    ("anyio_backend", "lie"), list(zip(cycle(["asyncio", "trio"]), LIES.values(), strict=False)), ids=LIES
)
async def test_false_change_is_not_stored_and_the_right_one_is_asked_for(alice, network, quote_id, lie):
    network.spoil(MELT, twisted(lie))
    assert (await alice.melt(quote_id)).fee == LIGHTNING_FEE
    assert len(network.met) == 1
    await assert_paid(alice, network)


async def test_a_mint_that_keeps_lying_leaves_the_payment_open(alice, network, quote_id):
    network.spoil(MELT, twisted(LIES["bad-dleq"]))
    too_much = twisted(
        lambda reply: reply | {"signatures": [s | {"amount": 1 << 40} for s in reply["signatures"]]}
    )
    network.spoil("^/v1/restore$", too_much, too_much)
    with pytest.raises(OutcomeUnknown):
        await alice.melt(quote_id)
    assert (await alice.recover()).open == 1
    assert await pending(alice) == 1_000 + RESERVE_MSAT
    assert (await alice.recover()).finished == 1
    await assert_paid(alice, network)


async def test_a_payment_that_leaves_our_money_unspent_is_none(alice, network, quote_id, clock):
    reply = await alice.mints.client(network.url).melt_quote(quote_id)
    paid = json.loads(reply.model_dump_json()) | {"quote": quote_id, "state": "PAID", "change": []}
    lie = Fault("paid", forwards=0, answer=(200, json.dumps(paid).encode()))
    network.spoil(MELT, lie)
    network.spoil(STATE, *[saying(state="PAID")] * 3)
    with pytest.raises(OutcomeUnknown):
        await alice.melt(quote_id)
    assert await pending(alice) == 1_000 + RESERVE_MSAT
    clock.ahead_s += LANDS_WITHIN_S + 1
    network.spoil(STATE, *[saying(state="PAID")] * 3)
    assert (await alice.recover()).failed == 1
    assert (await available(alice), await pending(alice)) == (MINTED, 0)
    with pytest.raises(InvoicePaid):
        await alice.melt(quote_id)
    await assert_really_there(alice)


async def test_unpaid_with_our_money_spent_is_not_believed_at_once(alice, network, quote_id):
    network.spoil(MELT, ANSWER_LOST)
    network.spoil(STATE, *[saying(state="UNPAID")] * 3)
    with pytest.raises(OutcomeUnknown):
        await alice.melt(quote_id)
    assert (await alice.recover()).finished == 1
    await assert_paid(alice, network)


async def test_what_the_mint_says_was_spent_otherwise_is_looked_for_again(alice, network, quote_id, clock):
    network.spoil(MELT, ANSWER_LOST)
    network.spoil(STATE, *[saying(state="UNPAID")] * 6)
    with pytest.raises(OutcomeUnknown):
        await alice.melt(quote_id)
    clock.ahead_s += LANDS_WITHIN_S + 1
    assert (await alice.recover()).failed == 1
    assert await accounted_for(alice) == MINTED - 1_000 - RESERVE_MSAT
    assert (await alice.recover()).finished == 1
    await assert_paid(alice, network)


async def test_a_quote_that_the_mint_has_forgotten_frees_what_is_not_spent(alice, network, quote_id, clock):
    network.spoil(MELT, DROPPED)
    gone = Fault("gone", forwards=0, answer=(404, b'{"detail": "quote not found"}'))
    network.spoil(STATE, *[gone] * 2)
    with pytest.raises(OutcomeUnknown):
        await alice.melt(quote_id)
    clock.ahead_s += LANDS_WITHIN_S + 1
    assert (await alice.recover()).failed == 1
    assert (await available(alice), await pending(alice)) == (MINTED, 0)


async def test_a_forgotten_quote_whose_money_is_spent_stays_open(alice, network, quote_id, clock):
    network.spoil(MELT, ANSWER_LOST)
    gone = Fault("gone", forwards=0, answer=(404, b'{"detail": "quote not found"}'))
    network.spoil(STATE, *[gone] * 6)
    network.spoil("^/v1/restore$", NONE_SIGNED, NONE_SIGNED)
    with pytest.raises(OutcomeUnknown):
        await alice.melt(quote_id)
    clock.ahead_s += WATCH_S
    assert (await alice.recover()).open == 1
    assert (await alice.recover()).finished == 1
    await assert_paid(alice, network)


async def test_a_forgotten_quote_whose_change_is_signed_was_paid(alice, network, quote_id):
    network.spoil(MELT, ANSWER_LOST)
    gone = Fault("gone", forwards=0, answer=(404, b'{"detail": "quote not found"}'))
    network.spoil(STATE, *[gone] * 3)
    melt = await alice.melt(quote_id)
    assert (melt.state, melt.fee, melt.preimage) == ("paid", LIGHTNING_FEE, None)
    await assert_paid(alice, network)


# --- change that comes late ------------------------------------------------------------------------------


async def test_change_that_the_mint_had_not_signed_yet_is_found_later(alice, network, quote_id, clock):
    network.spoil(MELT, ANSWER_LOST)
    network.spoil("^/v1/restore$", NONE_SIGNED, NONE_SIGNED)
    melt = await alice.melt(quote_id)
    assert (melt.state, melt.fee) == ("paid", RESERVE_MSAT)
    assert await accounted_for(alice) == MINTED
    assert (await alice.recover()).finished == 0
    assert (await alice.recover()).finished == 1
    assert (await alice.melt_status(quote_id)).fee == LIGHTNING_FEE
    late, paid, _ = await alice.history()
    assert (late.kind, late.amount_msat) == ("change", RESERVE_MSAT - LIGHTNING_FEE)
    assert (paid.kind, paid.amount_msat) == ("pay", -1_000 - RESERVE_MSAT)
    await assert_paid(alice, network)
    clock.ahead_s += next_look(0.0, 60.0)
    assert (await alice.recover()).finished == 0
    await assert_paid(alice, network)


@pytest.fixture
def fee_network(fee_mint):
    """A proxy before a mint that takes fees."""
    with fault_proxy(fee_mint.port) as proxy:
        yield proxy


async def test_change_that_a_mint_keeps_back_is_owed_and_named_until_it_comes(
    open_wallet, fee_network, mint, clock
):
    """One piece pays, since a swap costs too much: what is above the reserve must come back."""
    async with open_wallet("dave", clock=clock) as dave:
        await dave.mints.add(fee_network.url)
        await top_up(dave, fee_network.url, 4_098)
        await dave.hold_exact(fee_network.url, 4_096, "msat", "nobody")
        clock.ahead_s += HELD_S + 1
        await dave.recover()
        assert await available(dave) == 4_096
        quote_id = await offer(dave, fee_network.url, mint.url, 2_094)
        fee_network.spoil(MELT, saying(change=[]))
        melt = await dave.melt(quote_id)
        assert melt.fee == 1 + RESERVE_MSAT + 1
        assert [(q.id, q.owed) for q in await owing(dave)] == [(quote_id, 1)]
        assert (await dave.recover()).finished == 1
        assert await owing(dave) == []
        assert await available(dave) == 4_096 - 2_094 - 1 - LIGHTNING_FEE
        assert await accounted_for(dave) == 4_098
        await assert_really_there(dave)


async def owing(wallet):
    return await wallet.transactions.run(lambda conn, _now: quotes.owing_melt_quotes(conn))


# --- an earlier life of the wallet -----------------------------------------------------------------------


async def test_a_copy_of_the_database_pays_past_the_counters_it_has_forgotten(
    open_wallet, empty_store, tmp_path, mint, fee_mint
):
    async with open_wallet("erin") as erin:
        await erin.mints.add(mint.url)
        await top_up(erin, mint.url, MINTED)
    await to_thread.run_sync(empty_store.copy, tmp_path, "erin", "copy")
    async with open_wallet("erin") as erin:
        await top_up(erin, mint.url, 100)
    async with open_wallet("copy") as copy:
        assert (await copy.melt(await offer(copy, mint.url, fee_mint.url))).fee == LIGHTNING_FEE
        assert await available(copy) == AFTER
        await assert_really_there(copy)
