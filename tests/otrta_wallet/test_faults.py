"""A mint behind a network that fails: whatever happens to a request, recovery finds every msat again."""

import os
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import product

import pytest

from otrta_core import Token
from otrta_wallet import MintError, OutcomeUnknown
from otrta_wallet.executor import LANDS_WITHIN_S
from otrta_wallet.mint_client import new_http_client
from tests.fault_proxy import FAULTS, LOCKED, Fault, fault_proxy
from tests.otrta_wallet.conftest import wallet_in
from tests.otrta_wallet.lightning import offer
from tests.otrta_wallet.reckoning import (
    accounted_for,
    assert_really_there,
    available,
    paid_out,
    pending,
    top_up,
)

pytestmark = pytest.mark.anyio

MINTED = 6_000
POSTS = r"^/v1/(swap|mint/bolt11)$"
MELTS = r"^/v1/melt/bolt11$"
POSTED_AGAIN = ("mint", "receive", "send", "reclaim", "redeem")
OPERATIONS = (*POSTED_AGAIN, "melt")
LONG = os.environ.get("OTRTA_LONG") == "1"
DROPPED = Fault("request-dropped", forwards=0, keeps=None)
REFUSED = Fault("400-before-it", forwards=0, answer=LOCKED)
LATE = Fault("lands-late", late_s=0.3, keeps=None)


def cases():
    """Every operation with every fault in a long run; otherwise each fault with the next operation."""
    pairs = list(product(FAULTS, OPERATIONS))
    if not LONG:
        pairs = [pairs[i * len(OPERATIONS) + (i + i // 6) % len(OPERATIONS)] for i in range(len(FAULTS))]
    for number, (fault, operation) in enumerate(pairs):
        backend = ("asyncio", "trio")[number % 2]
        yield pytest.param(backend, fault, operation, id=f"{operation}-{fault}-{backend}")


def alternating(names):
    """Each name under one event loop, in turns."""
    return [(("asyncio", "trio")[number % 2], name) for number, name in enumerate(names)]


@pytest.fixture(scope="module")
def proxy(fee_mint):
    with fault_proxy(fee_mint.port) as proxy:
        yield proxy


@pytest.fixture
def store(templates, store_kind, proxy):
    with templates.knowing(store_kind, proxy.url).used() as template:
        yield template


@pytest.fixture
def network(proxy):
    """A proxy before a mint that takes fees."""
    proxy.reset()
    yield proxy
    proxy.reset()


@pytest.fixture
async def two(tmp_path, store, network, clock):
    """Two wallets with a mint behind the proxy; the first has all the money."""
    async with new_http_client(timeout_s=0.6) as http:
        opened = partial(wallet_in, tmp_path, store, http=http, clock=clock)
        async with opened("alice") as alice, opened("bob") as bob:
            await top_up(alice, network.url, MINTED)
            yield alice, bob


async def prepared(name, alice, bob, mint, payee):
    """Do what comes before an operation, and return how to start the operation itself."""
    match name:
        case "mint":
            quote = await alice.request_invoice(mint, 200, "msat")
            return lambda: alice.claim_quote(quote.id)
        case "send":
            for _ in range(2):  # takes the small pieces, so that the next needs a swap
                await alice.send(mint, 4, "msat")
            return lambda: alice.send(mint, 4, "msat")
        case "melt":
            quote_id = await offer(alice, mint, payee, 200)
            return lambda: alice.melt(quote_id)
    transfer = await alice.send(mint, 200, "msat")
    token = Token.parse(transfer.token)
    match name:
        case "receive":
            return lambda: bob.receive(token)
        case "reclaim":
            return lambda: alice.reclaim(transfer.id)
        case "redeem":
            kept = await bob.transactions.run(bob.keep, await bob.inspect(token), None)
            return lambda: bob.redeem(kept.id)
    raise AssertionError(name)


async def settle(clock, *wallets):
    """Recover until nothing is open, as a wallet does on its timer; then make all money available."""
    for _ in range(4):
        for wallet in wallets:
            await wallet.recover()
        if not any([await wallet.open_operations() for wallet in wallets]):
            break
        clock.ahead_s += LANDS_WITHIN_S + 1
    for wallet in wallets:
        assert await wallet.open_operations() == []
        for operation in await wallet.kept():
            await wallet.redeem(operation.id)
    for wallet in wallets:
        await wallet.recover()
        for transfer in await wallet.transfers():
            await wallet.reclaim(transfer.id)
        clock.ahead_s += 121  # what is held for a token that was never made is let go
        await wallet.recover()
        assert await pending(wallet) == 0


@pytest.mark.parametrize(("anyio_backend", "fault", "name"), list(cases()))
async def test_no_fault_loses_money(two, network, mint, clock, fault, name):
    alice, bob = two
    minted = MINTED + (200 if name == "mint" else 0)
    start = await prepared(name, alice, bob, network.url, mint.url)
    network.spoil(MELTS if name == "melt" else POSTS, fault)
    with suppress(MintError):
        await start()
    assert network.met == [fault]
    await settle(clock, alice, bob)
    assert await accounted_for(alice, bob) == minted
    assert await available(alice) + await available(bob) + await paid_out(alice) > minted - 50
    await assert_really_there(alice, bob)


@pytest.mark.parametrize(
    ("anyio_backend", "name"), alternating(OPERATIONS if LONG else ("receive", "mint", "melt"))
)
async def test_nor_do_faults_while_asking_what_became_of_it(two, network, mint, clock, name):
    alice, bob = two
    minted = MINTED + (200 if name == "mint" else 0)
    start = await prepared(name, alice, bob, network.url, mint.url)
    network.spoil(MELTS if name == "melt" else POSTS, replace(DROPPED, forwards=1))
    faults = [DROPPED, Fault("500", answer=(500, b"")), Fault("cut", keeps=0.3)]
    network.spoil(r"^/v1/restore$", *faults)
    with pytest.raises(OutcomeUnknown):
        await start()
    assert network.met[1:] == faults
    await settle(clock, alice, bob)
    assert await accounted_for(alice, bob) == minted
    await assert_really_there(alice, bob)


@pytest.mark.parametrize(("anyio_backend", "name"), alternating(POSTED_AGAIN))
async def test_a_refusal_is_not_believed_while_an_earlier_post_may_land(two, network, mint, clock, name):
    alice, bob = two
    minted = MINTED + (200 if name == "mint" else 0)
    start = await prepared(name, alice, bob, network.url, mint.url)
    network.spoil(POSTS, LATE, REFUSED)
    with pytest.raises(OutcomeUnknown):
        await start()
    assert network.met == [LATE, REFUSED]
    await settle(clock, alice, bob)
    assert await accounted_for(alice, bob) == minted
    await assert_really_there(alice, bob)
