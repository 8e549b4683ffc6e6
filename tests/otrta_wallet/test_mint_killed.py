"""The mint is killed under load, again and again: what it kept, what it lost, and where every msat is.

Nutshell never lets go of the inputs of a swap in which it was killed: they stay PENDING. Such proofs are
counted as at the mint, and each is known by name.
"""

import os
import random
from contextlib import suppress

import anyio
import anyio.lowlevel
import pytest

from otrta_cli.processes import free_port, start_mint
from otrta_core import Token
from otrta_wallet import WalletError, journal
from otrta_wallet.executor import LANDS_WITHIN_S
from otrta_wallet.mint_client import new_http_client
from otrta_wallet.schema import ProofStatus
from tests.otrta_wallet.conftest import wallet_in
from tests.otrta_wallet.lightning import LIGHTNING_FEE, RESERVE_MSAT, offer
from tests.otrta_wallet.reckoning import (
    available,
    fees_paid,
    not_spent,
    paid_out,
    states_at_the_mint,
    top_up,
)

LONG = os.environ.get("OTRTA_LONG") == "1"
KILLS = 25 if LONG else 3
MINTED = 60_000
PAYERS = 4
MELTS = 0.2
"""How many of the payments go to somebody at another mint."""
MOST_FORGOTTEN = PAYERS
"""How many payments a kill can meet at most: one of each payer."""

DEAD_S = 0.2

pytestmark = [
    pytest.mark.anyio,
    # payers are cancelled in mid-request: httpx leaves the body that it was sending to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def anyio_backend():
    return "trio"


async def pay(alice, bob, mint, payee, rng, payments):
    """Pay small sums from one to the other and back, and to others, for as long as the mint is there."""
    while True:
        giver, taker = (alice, bob) if rng.random() < 0.5 else (bob, alice)
        with suppress(WalletError):
            if rng.random() < MELTS:
                quote_id = await offer(giver, mint, payee, rng.randrange(3, 40))
                payments.append(quote_id)
                await giver.melt(quote_id)
            else:
                transfer = await giver.send(mint, rng.randrange(3, 40), "msat")
                await taker.receive(Token.parse(transfer.token))
        await anyio.lowlevel.checkpoint()


async def settle(clock, *wallets):
    """Recover as on a timer, and take back what was sent and never arrived."""
    for _ in range(3):
        for wallet in wallets:
            await wallet.recover()
        clock.ahead_s += LANDS_WITHIN_S + 1
    for wallet in wallets:
        for kept in await wallet.kept():
            with suppress(WalletError):
                await wallet.redeem(kept.id)
        for transfer in await wallet.transfers():
            with suppress(WalletError):
                await wallet.reclaim(transfer.id)
        clock.ahead_s += 121
        await wallet.recover()


async def inputs(wallet, operation):
    """The Ys of an operation, by which the mint knows them."""
    return (await wallet.transactions.run(lambda conn, _now: journal.parts(conn, operation.id)))[0]


@pytest.fixture
def mortal(tmp_path):
    """A mint that can be killed and started anew."""
    home, port, log = tmp_path / "mint", free_port(), tmp_path / "mint.log"
    parts = [start_mint(home, port, log=log)]

    async def kill():
        parts.pop().kill()
        await anyio.sleep(DEAD_S)
        parts.append(start_mint(home, port, log=log))  # not in a thread: it would die with that thread

    yield parts[0].url, kill
    parts.pop().stop()


@pytest.fixture
def store(templates, store_kind, mortal):
    with templates.knowing(store_kind, mortal[0]).used() as template:
        yield template


async def test_a_mint_killed_under_load_keeps_nothing_that_is_not_named(
    tmp_path, store, mortal, mint, clock, ledger
):
    url, kill = mortal
    rng, payments = random.Random(7), []
    async with (
        new_http_client(timeout_s=5) as http,
        wallet_in(tmp_path, store, "alice", http=http, clock=clock) as alice,
        wallet_in(tmp_path, store, "bob", http=http, clock=clock) as bob,
    ):
        await top_up(alice, url, MINTED // 2)
        await top_up(bob, url, MINTED // 2)
        for _ in range(KILLS):
            async with anyio.create_task_group() as payers:
                for _ in range(PAYERS):
                    payers.start_soon(pay, alice, bob, url, mint.url, rng, payments)
                await anyio.sleep(rng.uniform(0.3, 1.0))
                await kill()
                payers.cancel_scope.cancel()
            ledger.add(mint_kills=1)
        await settle(clock, alice, bob)
        paid = sum([await paid_out(wallet) for wallet in (alice, bob)])
        # killed in a payment, this mint forgets the change: it has then cost all of the reserve
        fees = sum([await fees_paid(wallet) for wallet in (alice, bob)])
        assert fees <= len(payments) * RESERVE_MSAT
        assert fees <= MOST_FORGOTTEN * KILLS * RESERVE_MSAT + len(payments) * LIGHTNING_FEE
        there = MINTED - paid - fees
        found = await not_spent(alice, bob)
        assert sum(found.values()) == there
        states = await alice.mints.client(url).check_state(list(found))
        # spent for a payment of which the killed mint cannot say that it was made: open, and named below
        stuck = {y: amount for y, amount in found.items() if states[y] != "UNSPENT"}
        assert await available(alice) + await available(bob) == there - sum(stuck.values())
        named = {
            y
            for wallet in (alice, bob)
            for op in await wallet.open_operations()
            for y in await inputs(wallet, op)
        }
        assert stuck.keys() <= named
        for wallet in (alice, bob):
            assert await states_at_the_mint(wallet, ProofStatus.AVAILABLE) <= {"UNSPENT"}
            done = await wallet.transactions.run(lambda conn, _now: journal.with_state(conn, "done"))
            ledger.add(operations=len(done))
        held = sum(stuck.values())
        ledger.pending += sorted(stuck)
        ledger.add(msat_in=MINTED, msat_out=MINTED - held, msat_pending=held, msat_fees=fees)
