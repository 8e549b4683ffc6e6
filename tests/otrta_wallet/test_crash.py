"""SIGKILL at every commit and around every post, and at any moment: the next start finds every msat."""

import multiprocessing
import os
import random
import signal
import time
from functools import partial
from itertools import count, product

import anyio
import pytest

from otrta_core import LockError, Token
from otrta_wallet import Wallet, store
from otrta_wallet.executor import LANDS_WITHIN_S
from otrta_wallet.restore import LEFT_BEHIND_S
from otrta_wallet.schema import ProofStatus
from tests.otrta_wallet import crashing
from tests.otrta_wallet.acts import ACTS, Scene
from tests.otrta_wallet.crashing import Kill
from tests.otrta_wallet.reckoning import (
    accounted_for,
    assert_really_there,
    available,
    came_in,
    fees_paid,
    paid_out,
    top_up,
)

LONG = os.environ.get("OTRTA_LONG") == "1"
STEPS = tuple(product(("commit", "post"), ("before", "after")))
# what a recovery finds open: a swap that the mint has made, one that it has never heard of
RECOVERIES = {"recover-made": Kill("post", "after", 1), "recover-unmade": Kill("post", "before", 1)}
OPERATIONS = (*ACTS, *RECOVERIES)
MOST_STEPS = 30
# by operation two kinds of step, and which of these it is
SAMPLE = (((3, 1), (0, 1)), ((3, 1), (1, 2)), ((3, 1),), ((2, 1),), ((0, 2),))
AT_RANDOM = 100 if LONG else 4
LOOKS_EVERY = 10


def cases():
    """Every step of every operation in a long run; otherwise one or two of each operation."""
    cases = [(name, *step, None) for name in OPERATIONS for step in STEPS]
    if not LONG:
        cases = [
            (name, *STEPS[step], at)
            for number, name in enumerate(OPERATIONS)
            for step, at in SAMPLE[number % len(SAMPLE)]
        ]
    return [(("asyncio", "trio")[number % 2], *case) for number, case in enumerate(cases)]


@pytest.fixture(scope="module")
def processes():
    """Makes processes quickly: each is a fork of one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.otrta_wallet.crashing", "trio"])
    return context


@pytest.fixture(scope="module")
def mint(patient_mint):
    return patient_mint


@pytest.fixture
def url(tmp_path, store_with_mint):
    return partial(store_with_mint.url_in, tmp_path)


def exit_code(processes, *arguments):
    child = processes.Process(target=crashing.run, args=arguments)
    child.start()
    child.join(120)
    assert child.exitcode in (-signal.SIGKILL, 0)
    return child.exitcode


async def prepare(url, mint, payee, act):
    """Do what comes before an operation; return its argument and what was minted."""
    async with Wallet.open(url("alice")) as alice, Wallet.open(url("bob")) as bob:
        minted = act.brings
        if await available(alice) < act.needs:
            await top_up(alice, mint, 2 * act.needs)
            minted += 2 * act.needs
        return await act.prepare(Scene(alice, bob, mint, payee)), minted


async def nothing_open(wallet, but=frozenset()):
    """Recover until nothing is open: the mint may still be at what the killed process posted."""
    with anyio.fail_after(20):
        while not {op.kind for op in await wallet.open_operations()} <= but:
            await anyio.sleep(0.2)
            await wallet.recover()


async def recovered(url, minted, pays):
    """Start anew, recover, and count; where ``minted`` is None it is what the wallets' invoices say."""
    ahead_s = 0.0
    options = {"clock": lambda: time.time() + ahead_s}
    async with Wallet.open(url("alice"), **options) as alice, Wallet.open(url("bob"), **options) as bob:
        wallets = (alice, bob)
        for _ in range(2):
            for wallet in wallets:
                await wallet.recover()
                # whether a payment was begun is known only when its post can land no more
                await nothing_open(wallet, but={"melt"})
            ahead_s += LANDS_WITHIN_S + 1
        for wallet in wallets:
            await nothing_open(wallet)
            for kept in await wallet.kept():
                await wallet.redeem(kept.id)
        for wallet in wallets:
            await wallet.recover()
        if minted is None:
            minted = await came_in(*wallets)
        assert await accounted_for(*wallets) == minted
        for one, other in (wallets, reversed(wallets)):
            for transfer in await one.transfers():
                try:
                    await one.reclaim(transfer.id)
                except LockError:
                    await other.receive(Token.parse(transfer.token))
        ahead_s += 10 * LANDS_WITHIN_S
        for wallet in wallets:
            await wallet.recover()
            assert await wallet.transfers() == []
        gone = sum([await fees_paid(wallet) + await paid_out(wallet) for wallet in wallets])
        assert await available(alice) + await available(bob) == minted - gone
        assert pays is None or gone <= pays
        await assert_really_there(alice, bob)
        return minted


@pytest.mark.parametrize(("backend", "name", "step", "when", "number"), cases())
def test_a_kill_loses_nothing(processes, url, mint, fee_mint, ledger, backend, name, step, when, number):
    run = partial(anyio.run, backend=backend)
    act = ACTS["send" if name in RECOVERIES else name]
    minted = 0
    for done, at in enumerate(count(1) if number is None else [number], 1):
        argument, brought = run(prepare, url, mint.url, fee_mint.url, act)
        minted += brought
        if name in RECOVERIES:
            assert exit_code(processes, backend, url(act.who), mint.url, "send", argument, RECOVERIES[name])
        doing = "recover" if name in RECOVERIES else name
        code = exit_code(processes, backend, url(act.who), mint.url, doing, argument, Kill(step, when, at))
        run(recovered, url, minted, act.pays * done)
        ledger.add(operations=1, kills=int(code != 0) + (name in RECOVERIES))
        if code == 0:
            break
    ledger.add(msat_in=minted, msat_out=minted)
    assert code == (0 if number is None else -signal.SIGKILL)
    assert number is not None or at > (1 if step == "post" else 2)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_at_the_first_start_leaves_a_wallet_or_none(
    processes, tmp_path, blank_store, mint, ledger, when
):
    for at in count(1) if LONG else [1, 3]:
        url = blank_store.url_in(tmp_path, f"home-{at}")
        code = exit_code(processes, "asyncio", url, mint.url, "open", None, Kill("commit", when, at))
        assert anyio.run(usable, url, mint.url) == 10
        ledger.add(operations=1, kills=int(code != 0), msat_in=10, msat_out=10)
        if code == 0:
            break
    assert code == (0 if LONG else -signal.SIGKILL)


@pytest.mark.parametrize(("step", "when"), STEPS)
def test_a_kill_during_a_restore_is_gone_on_with(processes, url, mint, ledger, step, when):
    words, amount = anyio.run(filled, url("alice"), mint.url)
    for at in count(1) if LONG else [2 + STEPS.index((step, when))]:
        home = url(f"home-{at}")
        anyio.run(opened, home, words)
        code = exit_code(processes, "asyncio", home, mint.url, "restore", "2", Kill(step, when, at))
        assert anyio.run(gone_on, home, mint.url) == amount
        ledger.add(operations=1, kills=int(code != 0), msat_in=amount, msat_out=amount)
        if code == 0:
            break
    assert code == (0 if LONG else -signal.SIGKILL)
    assert at > (4 if step == "post" else 8) or not LONG


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


@pytest.mark.parametrize(("step", "when"), STEPS if LONG else [("post", "after")])
def test_a_kill_while_money_leaves_a_keyset_loses_nothing(
    processes, tmp_path, empty_store, rotating_mint, ledger, step, when
):
    mint, rotate = rotating_mint
    steps = range(1, MOST_STEPS) if LONG else [1]
    urls = {at: empty_store.url_in(tmp_path, f"home-{at}") for at in steps}
    for url in urls.values():
        assert anyio.run(usable, url, mint.url) == 10
    rotate()
    for at, url in urls.items():
        code = exit_code(processes, "asyncio", url, mint.url, "recover", "", Kill(step, when, at))
        assert anyio.run(moved, url, mint.url) == 10
        ledger.add(operations=1, kills=int(code != 0), msat_in=10, msat_out=10)
        if code == 0:
            break
    assert code == (0 if LONG else -signal.SIGKILL)


async def moved(url, mint):
    """Have what a killed process left done; return what is on the keyset that lasts."""
    async with Wallet.open(url) as wallet:
        for _ in range(2):  # what was under way, and then the rest
            await wallet.recover()
        assert await wallet.open_operations() == []
        await assert_really_there(wallet)
        lasting = await wallet.mints.active_keyset(mint, "msat")
        at_hand = await wallet.transactions.run(
            lambda conn, _now: store.proofs_with(conn, status=ProofStatus.AVAILABLE)
        )
        assert {proof.id for proof in at_hand} == {lasting.id}
        return await available(wallet)


async def usable(url, mint):
    async with Wallet.open(url) as wallet:
        words = await wallet.words()
        await wallet.mints.add(mint)
        await top_up(wallet, mint, 10)
    async with Wallet.open(url) as wallet:
        assert await wallet.words() == words
        return await available(wallet)


def test_a_kill_at_any_moment_of_a_busy_life_loses_nothing(processes, url, mint, fee_mint, ledger):
    rng = random.Random(3)
    minted = 0
    for number in range(AT_RANDOM):
        if number % LOOKS_EVERY == 0:
            anyio.run(start_with, url, mint.url, minted)
        began = processes.Event()
        backend = ("asyncio", "trio")[number % 2]
        life = processes.Process(
            target=crashing.live,
            args=(backend, url("alice"), url("bob"), mint.url, fee_mint.url, number, began),
        )
        life.start()
        assert began.wait(60)
        life.join(rng.uniform(0.05, 1.0))
        life.kill()
        life.join()
        assert life.exitcode == -signal.SIGKILL
        ledger.add(kills=1)
        if number % LOOKS_EVERY == LOOKS_EVERY - 1 or number == AT_RANDOM - 1:
            minted = anyio.run(recovered, url, None, None)
    ledger.add(msat_in=minted, msat_out=minted)


async def start_with(url, mint, minted):
    """Give each wallet enough to live on."""
    for name in ("alice", "bob"):
        async with Wallet.open(url(name)) as wallet:
            await top_up(wallet, mint, 6_000 if not minted else 3_000)
