"""What became of money after a call had ended: late landings, stolen quotes, old copies of the database."""

import pytest
from anyio import to_thread
from sqlalchemy import func, select

from otrta_core import Token
from otrta_wallet import MintRefused, NotEnoughFunds, OutcomeUnknown, TokenSpent, WalletError, quotes
from otrta_wallet.closing import WATCH_S
from otrta_wallet.custody import HELD_S
from otrta_wallet.executor import LANDS_WITHIN_S
from otrta_wallet.recovery import CLAIM_AGAIN_S
from otrta_wallet.schema import operations, outputs
from tests.fault_proxy import NOT_THESE, Fault
from tests.otrta_wallet.reckoning import accounted_for, assert_really_there, available, pending, top_up

pytestmark = pytest.mark.anyio

DROPPED = Fault("dropped", forwards=0, keeps=None)
REFUSED = Fault("refused", forwards=0, answer=NOT_THESE)


@pytest.fixture
def alice(far_alice):
    return far_alice


@pytest.fixture
def bob(far_bob):
    return far_bob


async def fail_with_a_post_in_flight(network, clock, wallet, start):
    """Have an operation refused for good while its first post is still on its way; returns how to land it."""
    network.spoil("^/v1/(swap|mint/bolt11)$", DROPPED, REFUSED)
    with pytest.raises(OutcomeUnknown):
        await start()
    in_flight = next(seen for seen in network.seen if seen.path in ("/v1/swap", "/v1/mint/bolt11"))
    clock.ahead_s += LANDS_WITHIN_S + 1
    network.spoil("^/v1/(swap|mint/bolt11)$", REFUSED)
    assert (await wallet.recover()).failed == 1
    return lambda: network.forward(in_flight)


async def test_a_swap_that_lands_after_it_was_given_up_is_found(alice, network, clock):
    await top_up(alice, network.url, 100)
    transfer = await alice.send(network.url, 60, "msat")
    network.seen.clear()
    land = await fail_with_a_post_in_flight(network, clock, alice, lambda: alice.reclaim(transfer.id))
    assert (await available(alice), await pending(alice)) == (40, 60)
    assert land()[0] == 200
    assert (await alice.recover()).finished == 1
    assert (await available(alice), await alice.transfers()) == (100, [])
    await assert_really_there(alice)


async def test_a_quote_minted_after_it_was_given_up_is_found_by_whoever_claims_it(alice, network, clock):
    quote = await alice.request_invoice(network.url, 100, "msat")
    land = await fail_with_a_post_in_flight(network, clock, alice, lambda: alice.claim_quote(quote.id))
    assert land()[0] == 200
    assert await alice.claim_quote(quote.id) == 100
    assert await alice.claim_quote(quote.id) == 100
    assert await accounted_for(alice) == 100
    await assert_really_there(alice)


async def test_a_kept_token_swapped_after_that_was_given_up_is_found_before_new_outputs(
    alice, bob, network, clock
):
    await top_up(alice, network.url, 100)
    token = Token.parse((await alice.send(network.url, 60, "msat")).token)
    kept = await bob.transactions.run(bob.keep, await bob.inspect(token), None)
    network.seen.clear()
    land = await fail_with_a_post_in_flight(network, clock, bob, lambda: bob.redeem(kept.id))
    assert [op.id for op in await bob.kept()] == [kept.id]
    assert land()[0] == 200
    assert (await bob.redeem(kept.id)).state == "done"
    assert await available(bob) == 60
    await assert_really_there(bob)


async def test_what_is_given_up_is_looked_at_for_a_day_only(alice, network, clock):
    await top_up(alice, network.url, 100)
    transfer = await alice.send(network.url, 60, "msat")
    await fail_with_a_post_in_flight(network, clock, alice, lambda: alice.reclaim(transfer.id))
    await alice.reclaim(transfer.id)
    network.seen.clear()
    await alice.recover()
    assert any(seen.path == "/v1/checkstate" for seen in network.seen)
    network.seen.clear()
    clock.ahead_s += WATCH_S
    await alice.recover()
    assert network.seen == []


async def test_a_token_that_was_said_to_be_journalled_is_kept_when_its_mint_refuses_it(
    alice, bob, network, clock
):
    """Its giver may have thrown it away by then."""
    await top_up(alice, network.url, 100)
    token = Token.parse((await alice.send(network.url, 60, "msat")).token)
    await fail_with_a_post_in_flight(network, clock, bob, lambda: bob.receive(token))
    [kept] = await bob.kept()
    assert (kept.kind, await available(bob)) == ("redeem", 60)
    assert (await bob.redeem(kept.id)).state == "done"
    assert [(line.kind, line.amount_msat) for line in await bob.history()] == [("receive", 60)]
    await assert_really_there(bob)


async def test_a_token_refused_at_once_is_left_to_its_giver(alice, bob, network):
    await top_up(alice, network.url, 100)
    token = Token.parse((await alice.send(network.url, 60, "msat")).token)
    network.spoil("/v1/swap", REFUSED)
    with pytest.raises(MintRefused, match="does not want these"):
        await bob.receive(token)
    assert (await bob.kept(), await bob.balances(), await bob.open_operations()) == ([], [], [])
    assert (await bob.receive(token)).amount == 60


async def test_a_quote_that_somebody_else_minted_is_given_up_once(alice, bob, network):
    quote = await alice.request_invoice(network.url, 100, "msat")
    await bob.transactions.run(lambda conn, now: quotes.save_quote(conn, quote, now))
    assert await bob.claim_quote(quote.id) == 100
    with pytest.raises(MintRefused, match="not to this wallet"):
        await alice.claim_quote(quote.id)
    tried = await count(alice, outputs)
    await alice.recover()
    with pytest.raises(WalletError, match="not to this wallet"):
        await alice.claim_quote(quote.id)
    assert await count(alice, outputs) == tried
    assert await available(alice) == 0


async def test_a_paid_quote_that_its_mint_refuses_is_tried_ever_more_rarely(alice, network, clock):
    quote = await alice.request_invoice(network.url, 100, "msat")
    network.spoil("^/v1/mint/bolt11$", *[REFUSED] * 20)
    with pytest.raises(MintRefused):
        await alice.claim_quote(quote.id)
    for _ in range(48):
        clock.ahead_s += CLAIM_AGAIN_S
        await alice.recover()
    assert 3 <= await count(alice, operations) <= 7
    network._armed.clear()
    assert await alice.claim_quote(quote.id) == 100


async def count(wallet, table):
    query = select(func.count()).select_from(table)
    return await wallet.transactions.run(lambda conn, _now: conn.execute(query).scalar_one())


async def test_what_was_set_aside_for_a_token_that_was_never_made_is_let_go(alice, network, clock):
    await top_up(alice, network.url, 100)
    await alice.hold_exact(network.url, 30, "msat", "somebody")
    await alice.hold_exact(network.url, 20, "msat", "debt:somebody")
    assert (await available(alice), await pending(alice)) == (50, 50)
    await alice.recover()
    assert await available(alice) == 50
    clock.ahead_s += HELD_S + 1
    await alice.recover()
    assert (await available(alice), await pending(alice)) == (80, 20)


async def test_a_copy_of_the_database_mints_past_the_counters_it_has_forgotten(
    open_wallet, empty_store, tmp_path, mint
):
    amount = 37
    async with open_wallet("alice") as alice:
        await alice.mints.add(mint.url)
        await top_up(alice, mint.url, 64)
    await to_thread.run_sync(empty_store.copy, tmp_path, "alice", "copy")
    async with open_wallet("alice") as alice:
        await top_up(alice, mint.url, 100)
        await top_up(alice, mint.url, 100)
    async with open_wallet("copy") as copy:
        quote = await copy.request_invoice(mint.url, amount, "msat")
        assert await copy.claim_quote(quote.id) == amount
        assert await available(copy) == 64 + amount
        await assert_really_there(copy)
        before = await count(copy, outputs)
        await top_up(copy, mint.url, amount)
        assert await count(copy, outputs) < 2 * before


async def test_a_copy_of_the_database_swaps_past_the_counters_it_has_forgotten(
    alice, open_wallet, empty_store, tmp_path, network
):
    async with open_wallet("bob") as bob:
        await bob.mints.add(network.url)
    await to_thread.run_sync(empty_store.copy, tmp_path, "bob", "copy")
    await top_up(alice, network.url, 300)
    tokens = [Token.parse((await alice.send(network.url, 60, "msat")).token) for _ in range(3)]
    async with open_wallet("bob") as bob:
        await bob.receive(tokens[0])
    async with open_wallet("copy") as copy:
        assert (await copy.receive(tokens[1])).amount == 60
        assert (await copy.receive(tokens[2])).amount == 60
        assert await available(copy) == 120
        await assert_really_there(copy)


async def test_a_copy_of_the_database_finds_out_what_was_spent_since(
    open_wallet, empty_store, tmp_path, mint
):
    async with open_wallet("alice") as alice:
        await alice.mints.add(mint.url)
        await top_up(alice, mint.url, 64)
    await to_thread.run_sync(empty_store.copy, tmp_path, "alice", "copy")
    async with open_wallet("alice") as alice, open_wallet("bob") as bob:
        await bob.mints.add(mint.url)
        await bob.receive(Token.parse((await alice.send(mint.url, 32, "msat")).token))
    async with open_wallet("copy") as copy:
        with pytest.raises(TokenSpent):
            await copy.hold_exact(mint.url, 33, "msat", "somebody")
        assert await available(copy) == 32
        assert [(line.kind, line.amount_msat) for line in await copy.history()] == [
            ("lost", -32),
            ("invoice", 64),
        ]
        with pytest.raises(NotEnoughFunds):
            await copy.send(mint.url, 33, "msat")
        await assert_really_there(copy)
