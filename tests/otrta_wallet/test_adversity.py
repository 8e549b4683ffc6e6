"""What others do in the middle: a worker gives up what lands, a restore is faster, a mint writes nonsense."""

import json
from dataclasses import replace
from functools import partial

import anyio
import pytest
from anyio import to_thread
from sqlalchemy import update

from otrta_core import Token, TokenError
from otrta_wallet import MintRefused, OutcomeUnknown, closing
from otrta_wallet.closing import Failure
from otrta_wallet.decisions import Verdict
from otrta_wallet.executor import LANDS_WITHIN_S
from otrta_wallet.schema import outputs
from tests.fault_proxy import NOT_THESE, Fault
from tests.otrta_wallet.lightning import LIGHTNING_FEE, offer
from tests.otrta_wallet.reckoning import accounted_for, assert_really_there, available, pending, top_up

pytestmark = pytest.mark.anyio

MELT = "^/v1/melt/bolt11$"
DROPPED = Fault("dropped", forwards=0, keeps=None)
REFUSED = Fault("refused", forwards=0, answer=NOT_THESE)
ANSWER_LOST = Fault("answer-lost", keeps=None)
NONE_SIGNED = Fault("none-signed", answer=(200, b'{"outputs": [], "signatures": []}'))


@pytest.fixture
def alice(far_alice):
    return far_alice


@pytest.fixture
def bob(far_bob):
    return far_bob


def closes_before_the_answer(wallet, monkeypatch):
    """Have another worker give an operation up while the mint's answer to its post is on the way."""
    client = wallet.mints.client(wallet.mints.urls[0])
    swap = client.swap

    async def swap_slowly(inputs, outputs):
        signatures = await swap(inputs, outputs)
        [operation] = await wallet.open_operations()
        failure = Failure(Verdict.FAIL_REFUSED, "no", {}, may_land=True, promised=True)
        await wallet.transactions.run(lambda conn, now: closing.fail(conn, operation, failure, (), now))
        return signatures

    monkeypatch.setattr(client, "swap", swap_slowly)


async def test_what_landed_after_another_worker_gave_it_up_is_stored_at_once(alice, network, monkeypatch):
    await top_up(alice, network.url, 100)
    transfer = await alice.send(network.url, 60, "msat")
    closes_before_the_answer(alice, monkeypatch)
    assert (await alice.reclaim(transfer.id)).state == "done"
    assert (await available(alice), await pending(alice)) == (100, 0)
    await assert_really_there(alice)


async def test_a_kept_token_that_landed_after_another_worker_gave_it_up_is_stored_at_once(
    alice, bob, network, monkeypatch
):
    await top_up(alice, network.url, 100)
    token = Token.parse((await alice.send(network.url, 60, "msat")).token)
    closes_before_the_answer(bob, monkeypatch)
    assert (await bob.receive(token)).state == "done"
    assert (await available(bob), await bob.kept()) == (60, [])
    await assert_really_there(bob)


async def test_change_that_a_restore_found_first_is_not_taken_twice(alice, network, fee_mint):
    await top_up(alice, network.url, 10_000)
    quote_id = await offer(alice, network.url, fee_mint.url)
    network.spoil(MELT, ANSWER_LOST)
    network.spoil("^/v1/restore$", NONE_SIGNED, NONE_SIGNED)
    assert (await alice.melt(quote_id)).state == "paid"
    await alice.restore(network.url, empty_batches=1)
    await alice.recover()
    await alice.recover()
    assert await available(alice) == 10_000 - 1_000 - LIGHTNING_FEE
    assert await accounted_for(alice) == 10_000
    assert sum(line.amount_msat for line in await alice.history()) == await available(alice)
    await assert_really_there(alice)


@pytest.mark.parametrize("preimage", ["ab\0cd", "a" * 201], ids=["zero", "long"])
@pytest.mark.parametrize("store_kind", ["postgresql"])
async def test_a_receipt_that_cannot_be_stored_holds_up_no_payment(alice, network, fee_mint, preimage):
    await top_up(alice, network.url, 10_000)
    quote_id = await offer(alice, network.url, fee_mint.url)
    lie = Fault(
        "lie", twist=lambda body: json.dumps(json.loads(body) | {"payment_preimage": preimage}).encode()
    )
    network.spoil(MELT, lie)
    network.spoil("^/v1/melt/quote/bolt11/.", lie, lie)
    melt = await alice.melt(quote_id)
    assert (melt.state, melt.preimage) == ("paid", None)


async def test_a_token_of_ours_with_another_amount_is_not_taken(alice, network):
    await top_up(alice, network.url, 100)
    transfer = await alice.send(network.url, 64, "msat")
    token = Token.parse(transfer.token)
    forged = replace(token, proofs=(replace(token.proofs[0], amount=1024), *token.proofs[1:]))
    with pytest.raises(TokenError, match="altered"):
        await alice.receive(forged)
    assert await pending(alice) == 64
    await alice.reclaim(transfer.id)
    assert await available(alice) == 100


async def test_a_part_that_came_back_and_was_refused_can_be_taken_back_too(alice, network):
    await top_up(alice, network.url, 100)
    transfer = await alice.send(network.url, 96, "msat")
    token = Token.parse(transfer.token)
    part = replace(token, proofs=token.proofs[:1])
    incoming = await alice.inspect(part)
    operation = await alice.prepare_receive(incoming)
    await alice.reclaim(transfer.id)
    network.spoil("^/v1/swap$", REFUSED)
    with pytest.raises(MintRefused, match="does not want these"):
        await alice.carry_out(operation)
    assert [t.id for t in await alice.transfers()] == [transfer.id]
    await alice.reclaim(transfer.id)
    assert (await available(alice), await pending(alice)) == (100, 0)
    await assert_really_there(alice)


async def test_an_operation_that_cannot_be_ended_holds_up_no_other(alice, network):
    await top_up(alice, network.url, 100)
    transfers = [await alice.send(network.url, amount, "msat") for amount in (32, 16)]
    for transfer in transfers:
        network.spoil("^/v1/swap$", ANSWER_LOST)
        network.spoil("^/v1/restore$", *[Fault("silent", forwards=0, keeps=None)] * 3)
        with pytest.raises(OutcomeUnknown):
            await alice.reclaim(transfer.id)
    older, _ = await alice.open_operations()
    spoilt = update(outputs).where(outputs.c.operation_id == older.id).values(keyset_id="00" * 8)
    await alice.transactions.run(lambda conn, _now: conn.execute(spoilt))
    found = await alice.recover()
    assert (found.finished, found.open) == (1, 1)
    assert (await available(alice), await pending(alice)) == (68, 32)


async def test_a_payment_that_waited_for_its_turn_may_land_as_long_as_any(
    alice, network, fee_mint, clock, monkeypatch
):
    """Its time is that of its post: it was journalled long before."""
    await top_up(alice, network.url, 10_000)
    quote_id = await offer(alice, network.url, fee_mint.url)
    limit, begun = alice.mints.client(network.url)._limit, []

    def wait_s(_now):
        if not begun:
            return 0.0
        begun.clear()
        clock.ahead_s += LANDS_WITHIN_S + 1
        return 0.01

    monkeypatch.setattr(limit, "wait_s", wait_s)
    network.spoil(MELT, Fault("on-its-way", forwards=0, keeps=None, silent_s=0.5))
    network.met_one.clear()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(alice.melt, quote_id, also=lambda *_: begun.append(True)))
        await to_thread.run_sync(network.met_one.wait, 10)
        tasks.cancel_scope.cancel()
    with pytest.raises(OutcomeUnknown):
        await alice.melt(quote_id)
    assert await pending(alice) > 1_000
    clock.ahead_s += LANDS_WITHIN_S + 1
    assert (await alice.recover()).failed == 1
    assert (await available(alice), await pending(alice)) == (10_000, 0)


async def test_what_began_while_the_clock_was_ahead_is_not_held_up_until_that_time(
    alice, network, fee_mint, clock
):
    clock.ahead_s = 1_000.0
    await top_up(alice, network.url, 10_000)
    await alice.hold_exact(network.url, 1_000, "msat", "nobody")
    quote_id = await offer(alice, network.url, fee_mint.url)
    network.spoil(MELT, DROPPED)
    with pytest.raises(OutcomeUnknown):
        await alice.melt(quote_id)
    clock.ahead_s = 0.0
    assert (await alice.recover()).open == 1
    clock.ahead_s += LANDS_WITHIN_S + 1
    assert (await alice.recover()).failed == 1
    assert (await available(alice), await pending(alice)) == (10_000, 0)
