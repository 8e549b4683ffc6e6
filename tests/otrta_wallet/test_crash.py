"""SIGKILL at every commit and around every post: the next start finds every msat."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from functools import partial
from itertools import count, product

import anyio
import pytest

from otrta_core import P2PK, LockError, SigFlag, Token
from otrta_wallet import Wallet
from otrta_wallet.executor import LANDS_WITHIN_S
from otrta_wallet.restore import LEFT_BEHIND_S
from tests.otrta_wallet import crashing
from tests.otrta_wallet.crashing import Kill
from tests.otrta_wallet.lightning import LIGHTNING_FEE, offer
from tests.otrta_wallet.reckoning import (
    accounted_for,
    assert_really_there,
    available,
    fees_paid,
    paid_out,
    top_up,
)

LONG = os.environ.get("OTRTA_LONG") == "1"
OPERATIONS = ("mint", "send", "receive", "reclaim", "redeem", "lock", "unlock", "refund", "melt")
MINTED = 4_000


def cases():
    """Every step of every operation in a long run; otherwise two kinds of step for each operation."""
    steps = list(product(("commit", "post"), ("before", "after")))
    cases = [(name, *step, None) for name in OPERATIONS for step in steps]
    if not LONG:
        picked = [(0, 1, 1), (2, 3, 1), (1, 2, 2), (3, 2, 1), (1, 3, 2), (1, 3, 2), (3, 0, 1), (0, 3, 2)]
        picked += [(3, 2, 2)]
        cases = []
        for name, (first, second, number) in zip(OPERATIONS, picked, strict=True):
            cases += [(name, *steps[first], number), (name, *steps[second], 1)]
    backends = ("asyncio", "trio")
    return [(backends[number % 2], *case) for number, case in enumerate(cases)]


@pytest.fixture(scope="module")
def processes():
    """Makes processes quickly: each is a fork of one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.otrta_wallet.crashing", "trio"])
    return context


@pytest.fixture
def url(tmp_path, store_with_mint):
    return partial(store_with_mint.url_in, tmp_path)


def exit_code(processes, *arguments):
    child = processes.Process(target=crashing.run, args=arguments)
    child.start()
    child.join(60)
    return child.exitcode


async def prepare(url, mint, name, payee):
    """Do what comes before an operation; return whose it is and its argument."""
    async with Wallet.open(url("alice")) as alice, Wallet.open(url("bob")) as bob:
        await top_up(alice, mint, MINTED)
        if name == "mint":
            quote = await alice.request_invoice(mint, 200, "msat")
            return "alice", quote.id
        if name in ("send", "melt"):  # without pieces that make 4, both need a swap
            while await alice.transfer_at_hand(mint, 4, "msat", exact=True, record="send"):
                pass
            return "alice", 4 if name == "send" else await offer(alice, mint, payee, 100)
        to_bob = P2PK(bob.lock_keys.public, sigflag=SigFlag.SIG_ALL)
        if name == "lock":
            return "alice", to_bob.data
        if name == "unlock":
            return "bob", (await alice.send_locked(mint, 200, "msat", to_bob)).token
        if name == "refund":
            to_both = replace(to_bob, pubkeys=(alice.lock_keys.public,))
            return "alice", (await alice.send_locked(mint, 200, "msat", to_both)).id
        transfer = await alice.send(mint, 200, "msat")
        if name == "reclaim":
            return "alice", transfer.id
        if name == "receive":
            return "bob", transfer.token
        kept = await bob.transactions.run(bob.keep, await bob.inspect(Token.parse(transfer.token)), None)
        return "bob", kept.id


async def recovered(url, minted, paid):
    """Start anew, recover, and count."""
    ahead_s = 0.0
    options = {"clock": lambda: time.time() + ahead_s}
    async with Wallet.open(url("alice"), **options) as alice, Wallet.open(url("bob"), **options) as bob:
        for wallet in (alice, bob):
            await wallet.recover()
            if await wallet.open_operations():  # a payment is given up only once it cannot land any more
                assert {operation.kind for operation in await wallet.open_operations()} == {"melt"}
                ahead_s = LANDS_WITHIN_S + 1
                await wallet.recover()
            assert await wallet.open_operations() == []
            for kept in await wallet.kept():
                await wallet.redeem(kept.id)
        await alice.recover()
        assert await accounted_for(alice, bob) == minted
        for transfer in await alice.transfers():
            try:
                await alice.reclaim(transfer.id)
            except LockError:
                await bob.receive(Token.parse(transfer.token))
        await alice.recover()
        assert await alice.transfers() == []
        ahead_s = 10 * LANDS_WITHIN_S
        await alice.recover()
        gone = await paid_out(alice) + await fees_paid(alice)
        assert await available(alice) + await available(bob) == minted - gone
        assert gone <= paid * (100 + LIGHTNING_FEE)
        await assert_really_there(alice, bob)


@pytest.mark.parametrize(("backend", "name", "step", "when", "number"), cases())
def test_a_kill_loses_nothing(processes, url, mint, fee_mint, backend, name, step, when, number):
    run = partial(anyio.run, backend=backend)
    minted = paid = 0
    for at in count(1) if number is None else [number]:
        whose, argument = run(prepare, url, mint.url, name, fee_mint.url)
        minted += MINTED + (200 if name == "mint" else 0)
        code = exit_code(processes, backend, url(whose), mint.url, name, argument, Kill(step, when, at))
        assert code in (-signal.SIGKILL, 0)
        paid += name == "melt"
        run(recovered, url, minted, paid)
        if code == 0:
            break
    assert code == (0 if number is None else -signal.SIGKILL)
    assert number is not None or at > (1 if step == "post" else 2)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_at_the_first_start_leaves_a_wallet_or_none(processes, tmp_path, blank_store, mint, when):
    for at in count(1) if LONG else [1, 2, 3]:
        url = blank_store.url_in(tmp_path, f"home-{at}")
        code = exit_code(processes, "asyncio", url, mint.url, "open", None, Kill("commit", when, at))
        assert anyio.run(usable, url, mint.url) == 10
        if code == 0:
            break
    assert code == (0 if LONG else -signal.SIGKILL)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_during_a_restore_is_gone_on_with(processes, url, mint, when):
    words, amount = anyio.run(filled, url("alice"), mint.url)
    sampled = [1, 6, 9] if when == "before" else [4, 5, 8]
    for at in count(1) if LONG else sampled:
        home = url(f"home-{at}")
        anyio.run(opened, home, words)
        code = exit_code(processes, "asyncio", home, mint.url, "restore", 2, Kill("commit", when, at))
        assert anyio.run(gone_on, home, mint.url) == amount
        if code == 0:
            break
    assert code == (0 if LONG else -signal.SIGKILL)
    assert at > 8 or not LONG


async def filled(url, mint):
    async with Wallet.open(url) as wallet:
        for amount in (200, 100, 77):
            await top_up(wallet, mint, amount)
        await wallet.hold_exact(mint, 55, "msat", "debt:somebody")
        return await wallet.words(), 377


async def opened(url, words):
    async with Wallet.open(url, words=words):
        pass


async def gone_on(url, mint):
    """Have what a killed restore left done in the background, or where it left nothing begin again."""
    ahead_s = LEFT_BEHIND_S + 1
    async with Wallet.open(url, clock=lambda: time.time() + ahead_s) as wallet:
        await wallet.recover()
        found = await available(wallet)
        again = await wallet.restore(mint, empty_batches=2)
        assert found in (0, await available(wallet))
        assert again.gone == {}
        await assert_really_there(wallet)
        assert sum(line.amount_msat for line in await wallet.history()) == await available(wallet)
        return await available(wallet)


async def usable(url, mint):
    async with Wallet.open(url) as wallet:
        words = await wallet.words()
        await wallet.mints.add(mint)
        await top_up(wallet, mint, 10)
    async with Wallet.open(url) as wallet:
        assert await wallet.words() == words
        return await available(wallet)
