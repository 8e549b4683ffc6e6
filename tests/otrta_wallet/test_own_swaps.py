"""Swaps of the wallet's own proofs: very many small ones are merged, and dust goes along for nothing."""

import json
import os
from dataclasses import replace

import pytest

from otrta_core import Token
from otrta_wallet import NotEnoughFunds, at_hand, journal, own_swaps, store
from otrta_wallet.batches import MAX_INPUTS
from otrta_wallet.schema import ProofStatus
from tests.otrta_wallet.reckoning import accounted_for, assert_really_there, available, fees_paid, top_up
from tests.otrta_wallet.rows import KEYSET, MINT, NOW, proof, put
from tests.otrta_wallet.test_batches import many_small_proofs

LONG = os.environ.get("OTRTA_LONG") == "1"


@pytest.fixture
def alice(far_alice):
    return far_alice


@pytest.mark.anyio
async def test_a_token_of_more_small_proofs_than_a_swap_takes_is_made_after_merging_some(
    alice, network, monkeypatch
):
    most = MAX_INPUTS if LONG else 40
    monkeypatch.setattr(own_swaps, "MAX_INPUTS", most)
    count = 2 * most + 15
    await many_small_proofs(alice, network.url, count, monkeypatch)
    network.seen.clear()
    transfer = await alice.send(network.url, count - 10, "msat")
    assert Token.parse(transfer.token).amount == count - 10
    swaps = [json.loads(seen.body) for seen in network.seen if seen.path == "/v1/swap"]
    assert [len(swap["inputs"]) for swap in swaps][:2] == [most, most]
    assert all(len(swap["inputs"]) <= most for swap in swaps)
    assert await available(alice) == 10
    assert await accounted_for(alice) == count
    await assert_really_there(alice)


@pytest.mark.anyio
async def test_where_merging_cannot_reach_nothing_is_merged(alice, network, monkeypatch):
    monkeypatch.setattr(own_swaps, "MAX_INPUTS", 10)
    await many_small_proofs(alice, network.url, 25, monkeypatch)
    network.seen.clear()
    with pytest.raises(NotEnoughFunds, match=r"26 msat .* 25 msat"):
        await alice.send(network.url, 26, "msat")
    assert network.seen == []


@pytest.mark.anyio
async def test_small_proofs_go_along_where_the_fee_stays_the_same(open_wallet, fee_mint, monkeypatch):
    async with open_wallet("dora") as dora:
        await dora.mints.add(fee_mint.url)
        await many_small_proofs(dora, fee_mint.url, 30, monkeypatch)
        operation = await dora.hold_exact(fee_mint.url, 5, "msat", "debt:somebody")
        ys, _, _ = await dora.transactions.run(lambda conn, _now: journal.parts(conn, operation.id))
        assert (len(ys), operation.fee) == (10, 1)
        assert await available(dora) == 30 - 1 - 5
        assert await fees_paid(dora) == 1
        assert await accounted_for(dora) == 30
        await assert_really_there(dora)


@pytest.fixture
async def dear(open_wallet):
    """A wallet with proofs of a keyset that takes 2.5 for each input."""
    keyset = replace(KEYSET, input_fee_ppk=2_500)
    async with open_wallet("dear") as wallet:

        def fill(conn, now):
            store.add_mint(conn, MINT, None, NOW)
            store.save_keysets(conn, MINT, [keyset])
            put(conn, [proof(amount) for amount in (1, 2, 2, 4, 8)], ProofStatus.AVAILABLE)
            put(conn, [proof(2)], ProofStatus.SENT, "somebody")

        await wallet.transactions.run(fill)
        await wallet.mints.load()
        yield wallet


@pytest.mark.anyio
async def test_what_its_own_fee_would_eat_is_ours_but_not_to_be_spent(dear):
    [balance] = await dear.balances()
    assert (balance.available, balance.pending, balance.dust) == (12, 2, 5)
    spendable = await dear.transactions.run(lambda conn, _now: at_hand.spendable(conn, MINT, "msat"))
    assert spendable == 4 + 8 - 5
    with pytest.raises(NotEnoughFunds, match=r"8 msat .* 7 msat"):
        await dear.hold_exact(MINT, 8, "msat", "debt:somebody")


@pytest.mark.anyio
async def test_large_proofs_are_broken_into_what_is_short(open_wallet, fee_mint):
    wanted = {1: 8, 2: 8, 16: 4}
    async with open_wallet("emil") as emil:
        await emil.mints.add(fee_mint.url)
        await top_up(emil, fee_mint.url, 50_000)
        while await emil.restock(fee_mint.url, "msat", wanted) is not None:
            pass
        at_hand_now = await emil.transactions.run(
            lambda conn, _now: at_hand.by_amount(conn, fee_mint.url, "msat")
        )
        assert all(2 * at_hand_now[piece] >= number for piece, number in wanted.items())
        assert await fees_paid(emil) > 0
        assert await accounted_for(emil) == 50_000
        await assert_really_there(emil)
