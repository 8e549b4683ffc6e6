"""Eight processes spend from one PostgreSQL wallet at once, and one of them is killed on the way."""

import multiprocessing
import os
import time

import anyio
import pytest

from otrta_wallet import Wallet
from otrta_wallet.executor import LANDS_WITHIN_S
from tests.otrta_wallet import sharing
from tests.otrta_wallet.reckoning import accounted_for, assert_really_there, available, pending, top_up

LONG = os.environ.get("OTRTA_LONG") == "1"
PROCESSES = 8
ROUNDS = 60 if LONG else 5
MINTED = 2_000


@pytest.fixture
def store_kind():
    return "postgresql"


@pytest.fixture(scope="module")
def processes():
    """Makes processes quickly: each is a fork of one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.otrta_wallet.sharing", "trio"])
    return context


async def fill(urls, mint):
    async with Wallet.open(urls[0]) as alice, Wallet.open(urls[1]) as bob:
        for wallet in (alice, bob):
            for _ in range(4):
                await top_up(wallet, mint, MINTED // 8)


async def settled(urls):
    """Recover both wallets, take back what never arrived, and count."""
    ahead_s = 0.0
    options = {"clock": lambda: time.time() + ahead_s}
    async with Wallet.open(urls[0], **options) as alice, Wallet.open(urls[1], **options) as bob:
        for _ in range(2):
            for wallet in (alice, bob):
                await wallet.recover()
            ahead_s += 2 * LANDS_WITHIN_S
        for wallet in (alice, bob):
            assert await wallet.open_operations() == []
        for wallet in (alice, bob):
            for kept in await wallet.kept():
                await wallet.redeem(kept.id)
        for wallet in (alice, bob):
            await wallet.recover()
            for transfer in await wallet.transfers():
                await wallet.reclaim(transfer.id)
            ahead_s += 2 * LANDS_WITHIN_S
            await wallet.recover()
            assert await pending(wallet) == 0
        assert await accounted_for(alice, bob) == MINTED
        assert await available(alice) + await available(bob) == MINTED
        await assert_really_there(alice, bob)


def wait_until(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.timeout(900)
def test_no_proof_is_spent_twice_and_nobody_waits_in_a_circle(
    processes, postgres, store_with_mint, tmp_path, mint, ledger
):
    urls = [store_with_mint.url_in(tmp_path, name) for name in ("alice", "bob")]
    anyio.run(fill, urls, mint.url)
    before = postgres.deadlocks()
    logs = [tmp_path / f"handed-out-{number}" for number in range(PROCESSES)]
    children = []
    for number, log in enumerate(logs):
        log.touch()
        backend = ("asyncio", "trio")[number % 2]
        arguments = (backend, urls, mint.url, ROUNDS, number, log)
        children.append(processes.Process(target=sharing.run, args=arguments))
    for child in children:
        child.start()
    victim = children[3]
    wait_until(lambda: logs[3].read_text().count("\n") >= 2)
    victim.kill()
    for child in children:
        child.join(600)
    assert [child.exitcode for child in children] == [0, 0, 0, -9, 0, 0, 0, 0]
    lines = [line for log in logs for line in log.read_text().splitlines()]
    errors = {line for line in lines if line.startswith("!")}
    assert errors <= {"!token_invalid", "!outcome_unknown"}  # the mint's own, under load
    handed_out = [y for line in lines if line not in errors for y in line.split()]
    assert len(set(handed_out)) == len(handed_out)
    assert len(lines) > 2 * PROCESSES
    anyio.run(settled, urls)
    assert postgres.deadlocks() == before
    ledger.add(kills=1, operations=len(handed_out), msat_in=MINTED, msat_out=MINTED)
