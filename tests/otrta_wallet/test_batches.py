"""Many tokens by one swap, and one token by many: each gets what is its own, whatever the others do."""

import json
import os
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from otrta_cli.processes import free_port
from otrta_core import P2PK, SigFlag, Token, TokenTooLarge, input_fee
from otrta_wallet import (
    MintNotKnown,
    MintRefused,
    MintUnreachable,
    OutcomeUnknown,
    TokenPartlyTaken,
    TokenPending,
    TokenSpent,
    batches,
    invoices,
    journal,
    receiving,
    store,
)
from otrta_wallet.batches import MAX_TOKENS, grouped
from otrta_wallet.custody import hand_out
from otrta_wallet.executor import LANDS_WITHIN_S
from otrta_wallet.incoming import Incoming
from otrta_wallet.receiving import in_parts
from otrta_wallet.schema import ProofStatus, operations
from tests.fault_proxy import NOT_THESE, Fault
from tests.otrta_wallet.reckoning import accounted_for, assert_really_there, available, pending, top_up
from tests.otrta_wallet.rows import KEYSET, MINT, operation, proof

LONG = os.environ.get("OTRTA_LONG") == "1"
DROPPED = Fault("dropped", keeps=None)
AWAY = Fault("away", forwards=0, keeps=None)
REFUSED = Fault("refused", forwards=0, answer=NOT_THESE)
POSTS = "^/v1/swap$"


@given(st.lists(st.integers(1, batches.MAX_INPUTS), max_size=40))
def test_groups_keep_the_order_and_fit_a_swap(sizes):
    sized = [(operation("receive"), size) for size in sizes]
    by_id = {op.id: size for op, size in sized}
    groups = grouped(sized)
    assert [op.id for group in groups for op in group] == [op.id for op, _ in sized]
    for group in groups:
        assert 0 < len(group) <= MAX_TOKENS
        assert sum(by_id[op.id] for op in group) <= batches.MAX_INPUTS
    for one, following in pairwise(groups):
        together = sum(by_id[op.id] for op in one) + by_id[following[0].id]
        assert len(one) == MAX_TOKENS or together > batches.MAX_INPUTS


@given(st.lists(st.integers(0, 12).map(lambda bit: 1 << bit), min_size=1, max_size=60), st.integers(0, 3000))
def test_the_parts_of_a_large_token_are_all_of_it_that_is_worth_taking(amounts, ppk):
    fee_ppk = {KEYSET.id: ppk}
    token = Token(MINT, "msat", tuple(proof(amount) for amount in amounts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(receiving, "MAX_INPUTS", 7)
        parts = in_parts(Incoming(token, input_fee(token.proofs, fee_ppk)), fee_ppk)
    taken = [each for part in parts for each in part.token.proofs]
    assert len(set(taken)) == len(taken)
    assert set(taken) <= set(token.proofs)
    for part in parts:
        assert part.fee == input_fee(part.token.proofs, fee_ppk)
        assert len(part.token.proofs) <= 7 or (parts == [part] and len(amounts) <= 7)
    if len(amounts) > 7:
        assert all(part.net > 0 for part in parts)
        left = set(token.proofs) - set(taken)
        assert all(1000 * each.amount - ppk <= 1000 * 7 for each in left)
        if 1000 * min(amounts) >= 2 * ppk:
            assert not left or sum(each.amount for each in left) <= 1


async def sent(wallet, mint, *amounts):
    return [Token.parse((await wallet.send(mint, amount, "msat")).token) for amount in amounts]


async def of_kind(wallet, kind):
    def found(conn, _now):
        ids = conn.execute(select(operations.c.id).where(operations.c.kind == kind)).scalars()
        return [journal.load(conn, operation_id) for operation_id in list(ids)]

    return await wallet.transactions.run(found)


def amounts_of(received):
    assert [each.error for each in received] == [None] * len(received)
    return [each.amount for each in received]


@pytest.fixture
def alice(far_alice):
    return far_alice


@pytest.fixture
def bob(far_bob):
    return far_bob


@pytest.mark.anyio
async def test_tokens_share_swaps_and_each_gets_its_own_amount(alice, bob, network):
    await top_up(alice, network.url, 10_000)
    amounts = [100 + number for number in range(MAX_TOKENS + 3)]
    tokens = await sent(alice, network.url, *amounts)
    network.seen.clear()
    assert amounts_of(await bob.receive_many(tokens)) == amounts
    assert sum(seen.path == "/v1/swap" for seen in network.seen) == 2
    history = await bob.history()
    assert sorted(line.amount_msat for line in history) == amounts
    assert {line.kind for line in history} == {"receive"}
    await alice.recover()
    assert await alice.transfers() == []
    assert await accounted_for(alice, bob) == 10_000
    await assert_really_there(alice, bob)
    assert await bob.receive_many([]) == []


@pytest.mark.anyio
async def test_what_a_shared_swap_saves_of_the_fees_is_booked_by_itself(open_wallet, fee_mint):
    async with open_wallet("alice") as alice, open_wallet("bob") as bob:
        for wallet in (alice, bob):
            await wallet.mints.add(fee_mint.url)
        await top_up(alice, fee_mint.url, 1_000)
        tokens = await sent(alice, fee_mint.url, 64, 32, 16)
        received = await bob.receive_many(tokens)
        assert [(each.amount, each.fee) for each in received] == [(63, 1), (31, 1), (15, 1)]
        [batch] = await of_kind(bob, "batch")
        assert (batch.state, batch.amount, batch.fee) == ("done", 2, -2)
        assert await available(bob) == 63 + 31 + 15 + 2
        assert sum(line.amount_msat for line in await bob.history()) == await available(bob)
        await alice.recover()
        assert await accounted_for(alice, bob) == 1_000
        await assert_really_there(alice, bob)


@pytest.mark.anyio
async def test_one_spent_token_is_reported_and_the_others_are_taken(alice, bob, open_wallet, network):
    await top_up(alice, network.url, 1_000)
    tokens = await sent(alice, network.url, 100, 60, 40)
    async with open_wallet("carol") as carol:
        await carol.mints.add(network.url)
        await carol.receive(tokens[1])
        network.seen.clear()
        first, spent, last = await bob.receive_many(tokens)
        assert sum(seen.path == "/v1/swap" for seen in network.seen) == 3  # all, the first, the last
        assert isinstance(spent.error, TokenSpent)
        assert amounts_of([first, last]) == [100, 40]
        assert (await available(bob), await pending(bob)) == (140, 0)
        [batch] = await of_kind(bob, "batch")
        assert batch.state == "failed"
        await alice.recover()
        assert await accounted_for(alice, bob, carol) == 1_000
        await assert_really_there(alice, bob, carol)


@pytest.mark.anyio
async def test_what_cannot_be_taken_is_no_hindrance(alice, bob, network):
    await top_up(alice, network.url, 1_000)
    good, forged, strange = await sent(alice, network.url, 100, 60, 40)
    forged = replace(
        forged, proofs=tuple(replace(each, secret=f"never signed {each.Y}") for each in forged.proofs)
    )
    strange = replace(strange, mint="http://127.0.0.1:9")
    received = await bob.receive_many([strange, good, forged, good])
    assert [type(each.error) for each in received] == [MintNotKnown, type(None), MintRefused, TokenPending]
    assert [each.amount for each in received] == [0, 100, 0, 0]
    assert (await available(bob), await pending(bob), await bob.open_operations()) == (100, 0, [])


@pytest.mark.anyio
async def test_with_the_mint_away_all_are_left_untouched(alice, bob, network, free_port_url):
    await top_up(alice, network.url, 1_000)
    tokens = await sent(alice, network.url, 100, 60)
    real, client = network.url, bob.mints.client(network.url)
    client.url = free_port_url
    received = await bob.receive_many(tokens)
    assert [type(each.error) for each in received] == [MintUnreachable] * 2
    assert (await bob.balances(), await bob.open_operations(), await bob.kept()) == ([], [], [])
    client.url = real
    assert amounts_of(await bob.receive_many(tokens)) == [100, 60]


@pytest.fixture
def free_port_url():
    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.anyio
async def test_of_an_unknown_outcome_each_token_stays_journalled_and_is_taken_by_recovery(
    alice, bob, network
):
    await top_up(alice, network.url, 1_000)
    tokens = await sent(alice, network.url, 100, 60)
    network.spoil(POSTS, DROPPED)
    network.spoil("^/v1/checkstate$", *[AWAY] * 3)
    received = await bob.receive_many(tokens)
    assert [type(each.error) for each in received] == [OutcomeUnknown] * 2
    assert len(await bob.open_operations()) == 1
    assert (await available(bob), await pending(bob)) == (0, 160)
    assert (await bob.recover()).finished == 1
    assert (await available(bob), await pending(bob), await bob.open_operations()) == (160, 0, [])
    assert sorted(line.amount_msat for line in await bob.history()) == [60, 100]


@pytest.mark.anyio
async def test_tokens_that_were_only_queued_are_taken_by_recovery(alice, bob, network):
    await top_up(alice, network.url, 1_000)
    tokens = await sent(alice, network.url, 100, 60, 40)
    for token in tokens:
        await bob.transactions.run(bob.queue_receive, await bob.inspect(token))
    assert {operation.state for operation in await bob.open_operations()} == {"waiting"}
    network.seen.clear()
    assert (await bob.recover()).finished == 3
    assert sum(seen.path == "/v1/swap" for seen in network.seen) == 1
    assert (await available(bob), await bob.open_operations()) == (200, [])


@pytest.mark.anyio
async def test_a_batch_that_lands_after_it_was_dissolved_is_found(alice, bob, network, clock):
    await top_up(alice, network.url, 1_000)
    tokens = await sent(alice, network.url, 100, 60)
    network.seen.clear()
    network.spoil(POSTS, AWAY, REFUSED)
    received = await bob.receive_many(tokens)
    assert [type(each.error) for each in received] == [OutcomeUnknown] * 2
    landing = next(seen for seen in network.seen if seen.path == "/v1/swap")
    clock.ahead_s += LANDS_WITHIN_S + 1
    network.spoil(POSTS, REFUSED)  # the batch again, which dissolves it
    network.spoil("^/v1/checkstate$", *[Fault("none")] * 2, *[AWAY] * 6)  # then each token alone
    assert (await bob.recover()).open == 2
    assert {batch.state for batch in await of_kind(bob, "batch")} == {"failed"}
    network._armed.clear()
    assert network.forward(landing)[0] == 200
    for _ in range(3):
        await bob.recover()
        clock.ahead_s += LANDS_WITHIN_S + 1
    assert {batch.state for batch in await of_kind(bob, "batch")} == {"done"}
    assert (await available(bob), await pending(bob), await bob.kept()) == (160, 0, [])
    assert sorted(line.amount_msat for line in await bob.history()) == [60, 100]
    await alice.recover()
    assert await accounted_for(alice, bob) == 1_000
    await assert_really_there(alice, bob)


@pytest.mark.anyio
async def test_a_batch_that_its_mint_refused_and_carries_out_all_the_same_is_found(alice, bob, network):
    await top_up(alice, network.url, 1_000)
    tokens = await sent(alice, network.url, 100, 60)
    network.seen.clear()
    network.spoil(POSTS, *[REFUSED] * 3)
    received = await bob.receive_many(tokens)
    assert [type(each.error) for each in received] == [MintRefused] * 2
    batch = next(seen for seen in network.seen if seen.path == "/v1/swap")
    assert (await bob.balances(), await bob.open_operations()) == ([], [])
    assert network.forward(batch)[0] == 200
    assert (await bob.recover()).finished == 1
    assert sorted(line.amount_msat for line in await bob.history()) == [60, 100]
    await alice.recover()
    assert await accounted_for(alice, bob) == 1_000
    await assert_really_there(alice, bob)


@pytest.mark.anyio
async def test_who_signs_a_whole_swap_shares_it_with_nobody(alice, bob, network):
    await top_up(alice, network.url, 1_000)
    lock = P2PK(bob.lock_keys.public, sigflag=SigFlag.SIG_ALL)
    locked = [await alice.send_locked(network.url, amount, "msat", lock) for amount in (100, 60)]
    tokens = [Token.parse(transfer.token) for transfer in locked]
    tokens += await sent(alice, network.url, 40, 30)
    network.seen.clear()
    assert amounts_of(await bob.receive_many(tokens)) == [100, 60, 40, 30]
    inputs = [json.loads(seen.body)["inputs"] for seen in network.seen if seen.path == "/v1/swap"]
    assert sorted(sum(each["amount"] for each in swap) for swap in inputs) == [60, 70, 100]
    await alice.recover()
    assert await accounted_for(alice, bob) == 1_000


class Listener:
    def __init__(self):
        self.told = []

    def operation_done(self, conn, operation):
        self.told.append((operation.reference, operation.kind, "done", operation.amount, operation.fee))

    def operation_failed(self, conn, operation, verdict):
        self.told.append((operation.reference, operation.kind, verdict.name))


@pytest.mark.anyio
@pytest.mark.parametrize("spent", [False, True])
async def test_participants_are_told_of_each_token_as_if_it_were_alone(alice, open_wallet, network, spent):
    await top_up(alice, network.url, 1_000)
    tokens = await sent(alice, network.url, 100, 60, 40)
    listener = Listener()
    async with open_wallet("shop", participants=[listener]) as shop:
        await shop.mints.add(network.url)
        if spent:
            await alice.reclaim((await alice.transfers())[1].id)
        queued = [
            await shop.transactions.run(shop.queue_receive, await shop.inspect(token), f"payment-{number}")
            for number, token in enumerate(tokens)
        ]
        ended = await shop.carry_out_together(queued)
        assert [getattr(each, "reference", type(each)) for each in ended] == [
            "payment-0",
            TokenSpent if spent else "payment-1",
            "payment-2",
        ]
        of_payments = sorted(told for told in listener.told if told[0] is not None)
        assert of_payments == [
            ("payment-0", "receive", "done", 100, 0),
            ("payment-1", "receive", "FAIL_SPENT") if spent else ("payment-1", "receive", "done", 60, 0),
            ("payment-2", "receive", "done", 40, 0),
        ]
        assert await shop.history() == []  # whoever has a reference keeps books of his own
        await alice.recover()
        assert await accounted_for(alice, shop) == 1_000


async def many_small_proofs(wallet, mint, count, monkeypatch):
    """Mint proofs of 1 msat, and make one token of them."""
    with monkeypatch.context() as patch:
        patch.setattr(invoices, "split_for_change", lambda amount, _keys: [1] * amount)
        for at in range(0, count, 900):
            await top_up(wallet, mint, min(900, count - at))
    token = await wallet.transactions.run(
        lambda conn, _now: Token(mint, "msat", tuple(found_available(conn, mint)))
    )
    assert len(token.proofs) == count
    return token.without_dleq()


def found_available(conn, mint):
    return store.proofs_with(conn, status=ProofStatus.AVAILABLE, mint=mint, unit="msat")


@pytest.mark.anyio
async def test_a_token_of_more_proofs_than_a_mint_takes_at_once_is_taken_whole(
    alice, bob, network, monkeypatch
):
    count = 3_000 if LONG else 1_001
    token = await many_small_proofs(alice, network.url, count, monkeypatch)
    network.seen.clear()
    operation = await bob.receive(Token.parse(token.encode()))
    assert (operation.state, operation.amount) == ("done", count)
    swaps = [json.loads(seen.body) for seen in network.seen if seen.path == "/v1/swap"]
    assert sum(len(swap["inputs"]) for swap in swaps) == count
    assert len(swaps) == -(-count // batches.MAX_INPUTS)
    assert await available(bob) == count
    await assert_really_there(bob)


@pytest.fixture
def small_swaps(monkeypatch):
    """Swaps of at most ten inputs, so that tokens of a few proofs take several."""
    for module in (batches, receiving):
        monkeypatch.setattr(module, "MAX_INPUTS", 10)
    monkeypatch.setattr("otrta_wallet.wallet.MAX_INPUTS", 10)


@pytest.mark.anyio
@pytest.mark.usefixtures("small_swaps")
async def test_of_a_token_that_was_taken_in_part_every_part_is_accounted_for(
    alice, bob, network, monkeypatch
):
    token = await many_small_proofs(alice, network.url, 25, monkeypatch)
    await alice.transactions.run(lambda conn, now: send_all(conn, now, network.url, token))
    network.spoil(POSTS, Fault("none"), REFUSED)
    with pytest.raises(TokenPartlyTaken, match="of the rest") as caught:
        await bob.receive(token)
    taken = caught.value.amount
    assert isinstance(caught.value.reason, MintRefused)
    assert 0 < taken == await available(bob) < 25
    assert await bob.open_operations() == []
    with pytest.raises(TokenSpent):
        await bob.receive(token)
    await alice.recover()
    [transfer] = await alice.transfers()
    rest = [each for each in token.proofs if each.Y not in await bob_has(bob, token)]
    assert (await bob.receive(replace(token, proofs=tuple(rest)))).amount == 25 - taken
    await alice.recover()
    assert (await alice.transfers(), await available(bob)) == ([], 25)
    assert transfer.amount == 25
    await assert_really_there(alice, bob)


async def bob_has(wallet, token):
    return await wallet.transactions.run(
        lambda conn, _now: set(store.proofs_by_y(conn, [each.Y for each in token.proofs]))
    )


def send_all(conn, now, mint, token):
    return hand_out(conn, now, mint, "msat", token.proofs, None, False, None, "send")


@pytest.mark.anyio
@pytest.mark.usefixtures("small_swaps")
async def test_a_token_for_a_payment_has_to_fit_one_swap(alice, bob, network, monkeypatch):
    token = await many_small_proofs(alice, network.url, 11, monkeypatch)
    incoming = await bob.inspect(token)
    with pytest.raises(TokenTooLarge):
        await bob.transactions.run(bob.queue_receive, incoming)
    assert (await bob.receive_many([token]))[0].amount == 11


@pytest.mark.anyio
@pytest.mark.usefixtures("small_swaps")
async def test_a_large_token_that_its_mint_refuses_whole_is_left_to_its_giver(
    alice, bob, network, monkeypatch
):
    token = await many_small_proofs(alice, network.url, 25, monkeypatch)
    network.spoil(POSTS, *[REFUSED] * 3)
    with pytest.raises(MintRefused, match="does not want these"):
        await bob.receive(token)
    assert (await bob.balances(), await bob.open_operations()) == ([], [])
    assert (await bob.receive(token)).amount == 25
