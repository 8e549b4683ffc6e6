"""A mint behind a network that fails: whatever happens to a request, recovery finds every msat again."""

import os
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import product

import pytest
from anyio import to_thread

from otrta_core import LockError, Token
from otrta_wallet import MintError, OutcomeUnknown
from otrta_wallet.executor import LANDS_WITHIN_S
from otrta_wallet.mint_client import new_http_client
from tests.fault_proxy import FAULTS, NOT_THESE, Fault, fault_proxy
from tests.otrta_wallet.acts import ACTS, Scene
from tests.otrta_wallet.conftest import wallet_in
from tests.otrta_wallet.reckoning import accounted_for, assert_really_there, available, pending, top_up

pytestmark = pytest.mark.anyio

MINTED = 4_000
POSTS = r"^/v1/(swap|mint/bolt11)$"
MELTS = r"^/v1/melt/bolt11$"  # and not the swap before it, which is what "send" does
OPERATIONS = tuple(name for name in ACTS if name != "settle")  # to the wallet the same as "melt"
LONG = os.environ.get("OTRTA_LONG") == "1"
HASTY_S = 0.6
DROPPED = Fault("request-dropped", forwards=0, keeps=None)
REFUSED = Fault("refused", forwards=0, answer=NOT_THESE)
LATE = Fault("lands-late", late_s=1.5, keeps=None)


def cases():
    """Every operation with every fault in a long run; otherwise each fault with the next operation."""
    pairs = list(product(FAULTS, OPERATIONS))
    if not LONG:
        pairs = [pairs[i * len(OPERATIONS) + (i + i // 5) % len(OPERATIONS)] for i in range(len(FAULTS))]
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
async def http():
    async with new_http_client() as http:
        yield http


@pytest.fixture
async def two(tmp_path, store, network, clock, http):
    """Two wallets with a mint behind the proxy; the first has all the money."""
    opened = partial(wallet_in, tmp_path, store, http=http, clock=clock)
    async with opened("alice") as alice, opened("bob") as bob:
        await top_up(alice, network.url, MINTED)
        yield alice, bob


@contextmanager
def patience(http, fault):
    """Where a fault is silence, wait for less time than that takes; else however long a busy machine does."""
    patient = http.timeout
    http.timeout = HASTY_S if fault.silent_s else patient
    try:
        yield
    finally:
        http.timeout = patient


async def prepared(name, alice, bob, mint, payee):
    """Do what comes before an operation, and return how to start the operation itself."""
    act = ACTS[name]
    argument = await act.prepare(Scene(alice, bob, mint, payee))
    return partial(act.do, alice if act.who == "alice" else bob, mint, argument)


def moves_money(name):
    """The path of an operation's post."""
    return MELTS if name == "melt" else POSTS


async def settle(network, clock, *wallets):
    """Recover until nothing is open, as a wallet does on its timer; then make all money available."""
    for _ in range(4):
        for wallet in wallets:
            await wallet.recover()
        if not any([await wallet.open_operations() for wallet in wallets]):
            break
        await to_thread.run_sync(network.wait_until_landed)  # what has not by then never does
        clock.ahead_s += LANDS_WITHIN_S + 1
    for wallet in wallets:
        assert await wallet.open_operations() == []
        for operation in await wallet.kept():
            await wallet.redeem(operation.id)
    for wallet, other in (wallets, reversed(wallets)):
        await wallet.recover()
        for transfer in await wallet.transfers():
            try:
                await wallet.reclaim(transfer.id)
            except LockError:
                await other.receive(Token.parse(transfer.token))
        clock.ahead_s += 121  # what is held for a token that was never made is let go
        await wallet.recover()
        assert await pending(wallet) == 0


async def assert_all_there(ledger, network, name, *wallets):
    """Find what was minted, but for what was paid and small fees."""
    minted = MINTED + ACTS[name].brings
    assert await accounted_for(*wallets) == minted
    here = sum([await available(wallet) for wallet in wallets])
    assert here > minted - ACTS[name].pays - 50
    await assert_really_there(*wallets)
    ledger.add(operations=1, faults=len(network.met), msat_in=minted, msat_out=minted)


@pytest.mark.parametrize(("anyio_backend", "fault", "name"), list(cases()))
async def test_no_fault_loses_money(two, network, mint, clock, ledger, http, fault, name):
    alice, bob = two
    start = await prepared(name, alice, bob, network.url, mint.url)
    network.spoil(moves_money(name), fault)
    with suppress(MintError), patience(http, fault):
        await start()
    assert network.met == [fault]
    await settle(network, clock, alice, bob)
    await assert_all_there(ledger, network, name, alice, bob)


@pytest.mark.parametrize(
    ("anyio_backend", "name"), alternating(OPERATIONS if LONG else ("receive", "mint", "melt"))
)
async def test_nor_do_faults_while_asking_what_became_of_it(two, network, mint, clock, ledger, name):
    alice, bob = two
    start = await prepared(name, alice, bob, network.url, mint.url)
    network.spoil(moves_money(name), replace(DROPPED, forwards=1))
    faults = [DROPPED, Fault("500", answer=(500, b"")), Fault("cut", keeps=0.3)]
    network.spoil(r"^/v1/restore$", *faults)
    with pytest.raises(OutcomeUnknown):
        await start()
    assert network.met[1:] == faults
    await settle(network, clock, alice, bob)
    await assert_all_there(ledger, network, name, alice, bob)


@pytest.mark.parametrize(("anyio_backend", "name"), alternating(n for n in OPERATIONS if n != "melt"))
async def test_a_refusal_is_not_believed_while_an_earlier_post_may_land(
    two, network, mint, clock, ledger, name
):
    alice, bob = two
    start = await prepared(name, alice, bob, network.url, mint.url)
    network.spoil(moves_money(name), LATE, REFUSED)
    with pytest.raises(OutcomeUnknown):
        await start()
    assert network.met == [LATE, REFUSED]
    await to_thread.run_sync(network.wait_until_landed)
    await settle(network, clock, alice, bob)
    await assert_all_there(ledger, network, name, alice, bob)
