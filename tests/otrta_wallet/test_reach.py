"""Strangers send tokens that their mint refuses: a restore still reaches all that came before and after."""

import itertools
import os
from dataclasses import replace

import pytest

from otrta_core import Token
from otrta_wallet import MintRefused, batches, reach, scanning, scans, store, upkeep
from otrta_wallet.restore import EMPTY_BATCHES
from otrta_wallet.schema import ProofStatus
from tests.otrta_wallet.reckoning import accounted_for, assert_really_there, available, pending, top_up
from tests.otrta_wallet.rows import POINT
from tests.otrta_wallet.test_restore import counters

pytestmark = pytest.mark.anyio

NUMBERS = itertools.count()
LONG = os.environ.get("OTRTA_LONG") == "1"
SHARE = 1 if LONG else 10
"""A sampled run does everything at a tenth of its size."""


@pytest.fixture(autouse=True)
def smaller(monkeypatch):
    for name in ("BRIDGE_AFTER", "LONGEST_RUN", "ASK_FIRST_AFTER"):
        monkeypatch.setattr(reach, name, getattr(reach, name) // SHARE)
    monkeypatch.setattr(upkeep, "BRIDGE_AFTER", reach.BRIDGE_AFTER)
    batch = scanning.BATCH // SHARE
    for module in (scanning, scans):
        monkeypatch.setattr(module, "BATCH", batch)


async def forged_by(wallet, mint, amount=1_000):
    """A token that looks good, and whose mint has signed nothing of it."""
    transfer = await wallet.send(mint, amount, "msat")
    token = Token.parse(transfer.token)
    await wallet.reclaim(transfer.id)
    forged = [replace(p, secret=f"forged-{p.secret}", C=POINT) for p in token.proofs]
    return replace(token, proofs=tuple(forged))


def another(token):
    """The same token with other secrets."""
    number = next(NUMBERS)
    return replace(token, proofs=tuple(replace(p, secret=f"{p.secret}-{number}") for p in token.proofs))


async def one_by_one(wallet, forged):
    with pytest.raises(MintRefused):
        await wallet.receive(another(forged))


async def together(wallet, forged):
    """By a swap that tokens share, as a gateway takes them."""
    for received in await wallet.receive_many([another(forged), another(forged)]):
        assert isinstance(received.error, MintRefused)


async def flood(wallet, send, forged):
    """Send forged tokens until they take no counters any more."""
    before, taken = -1, 0
    while taken > before:
        before = taken
        await send(wallet, forged)
        taken = max((await counters(wallet)).values())


@pytest.mark.parametrize("send", [one_by_one, together])
async def test_a_new_wallet_under_a_flood_of_forged_tokens_is_restored_to_the_msat(
    alice, bob, open_wallet, mint, send
):
    await top_up(bob, mint.url, 3_000)
    forged = await forged_by(bob, mint.url)
    await flood(alice, send, forged)
    assert 0 < max((await counters(alice)).values()) <= reach.LONGEST_RUN
    assert reach.LONGEST_RUN < EMPTY_BATCHES * scanning.BATCH
    first = await alice.receive(Token.parse((await bob.send(mint.url, 700, "msat")).token))
    assert await available(alice) == 700
    assert (await alice.recover()).finished == 1  # what no counter gives is swapped
    await flood(alice, send, forged)
    await alice.receive(Token.parse((await bob.send(mint.url, 70, "msat")).token))
    await alice.recover()
    assert await available(alice) == 770 == await accounted_for(alice)
    assert first.fee == await pending(alice) == 0
    async with open_wallet("new", words=await alice.words()) as new:
        assert (await new.restore(mint.url)).found("msat") == 770
        await assert_really_there(new)


async def test_a_swap_of_our_own_ends_a_long_run_of_counters(alice, bob, open_wallet, mint):
    await top_up(bob, mint.url, 3_000)
    await top_up(alice, mint.url, 100)
    forged = await forged_by(bob, mint.url)
    for _ in range(4):
        for _ in range(1 + reach.BRIDGE_AFTER // len(forged.proofs)):
            await one_by_one(alice, forged)
        assert (await alice.recover()).finished == 1
        assert (await alice.recover()).finished == 0
    await alice.receive(Token.parse((await bob.send(mint.url, 70, "msat")).token))

    def seedless(conn, _now):
        return reach.out_of_reach(conn, mint.url, "msat", batches.MAX_INPUTS)

    assert await alice.transactions.run(seedless) == []
    assert await available(alice) == 170 == await accounted_for(alice)
    near = reach.LONGEST_RUN // scanning.BATCH
    async with open_wallet("new", words=await alice.words()) as new:
        assert (await new.restore(mint.url, empty_batches=near)).found("msat") == 170
        held = await new.transactions.run(
            lambda conn, _now: store.proofs_with(conn, status=ProofStatus.AVAILABLE)
        )
        assert sum(p.amount for p in held) == 170
