"""Two wallets that live: they pay each other, die on the way and come back, and no msat goes missing.

A state machine draws what happens and where the process is killed. Each operation runs in a process of its
own against the real mint. After every step both wallets recover and are counted; at the end the mint is asked
what the two seeds alone are worth.
"""

import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from functools import partial
from pathlib import Path

import anyio
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from otrta_core import OtrtaError
from otrta_wallet import Wallet
from otrta_wallet.executor import LANDS_WITHIN_S
from otrta_wallet.outputs import make_outputs, make_proofs
from otrta_wallet.seed import seed_of
from tests.long_summary import Ledger
from tests.otrta_wallet import crashing
from tests.otrta_wallet.crashing import Kill
from tests.otrta_wallet.reckoning import assert_really_there, not_spent

LONG = os.environ.get("OTRTA_LONG") == "1"
NAMES = ("alice", "bob")
BATCH = 100

names = st.sampled_from(NAMES)
amounts = st.integers(1, 500)
kills = st.none() | st.builds(
    Kill, st.sampled_from(["commit", "post"]), st.sampled_from(["before", "after"]), st.integers(1, 4)
)


async def worth(mint, wallet):
    """What the mint gives for a wallet's seed, found without its database: the unspent msat."""
    words, keysets, client = await wallet.words(), wallet.mints.keysets(mint), wallet.mints.client(mint)
    seed, total = seed_of(words), 0
    for keyset in keysets.values():
        at = empty = 0
        while keyset.unit == "msat" and empty < 3:
            outputs = make_outputs(seed, keyset.id, at, [(1, None)] * BATCH)
            signed = await client.restore([output.message() for output in outputs])
            found = [(o, signed[o.blinded]) for o in outputs if o.blinded in signed]
            made = [
                make_proofs(
                    seed, keysets, [type(o)(o.position, o.keyset_id, o.counter, s.amount, o.blinded)], [s]
                )[0]
                for o, s in found
            ]
            states = await client.check_state([proof.Y for proof in made]) if made else {}
            total += sum(proof.amount for proof in made if states[proof.Y] != "SPENT")
            at, empty = at + BATCH, 0 if found else empty + 1
    return total


class Life(RuleBasedStateMachine):
    """Alice and Bob have wallets at one mint without fees; tokens between them are lying about as texts."""

    def __init__(self, context, mint, store, ledger):
        super().__init__()
        self.context, self.mint, self.ledger = context, mint, ledger
        self.home = Path(tempfile.mkdtemp(prefix="otrta-life-"))
        self.minted, self.turn = 0, 0
        self.tokens = {}
        self.url = partial(store.url_in, self.home)

    def run(self, work, *arguments):
        self.turn += 1
        return anyio.run(partial(work, *arguments), backend=("asyncio", "trio")[self.turn % 2])

    def do(self, name, what, argument, kill, look=True):
        """Do something in a process of its own, which dies where ``kill`` says."""
        step = kill or Kill("commit", "before", 0)
        child = self.context.Process(
            target=crashing.run, args=("trio", self.url(name), self.mint, what, argument, step, (OtrtaError,))
        )
        child.start()
        child.join(120)
        assert child.exitcode in (0, -signal.SIGKILL)
        self.ledger.add(operations=1, kills=int(child.exitcode == -signal.SIGKILL))
        if look:
            self.run(self.check)

    @rule(name=names, amount=amounts, kill=kills, look=st.booleans())
    def top_up(self, name, amount, kill, look):
        async def ask():
            async with Wallet.open(self.url(name)) as wallet:
                return (await wallet.request_invoice(self.mint, amount, "msat")).id

        quote = self.run(ask)
        self.minted += amount
        self.do(name, "mint", quote, kill, look)

    @precondition(lambda self: self.minted)
    @rule(name=names, amount=amounts, kill=kills, look=st.booleans())
    def send(self, name, amount, kill, look):
        self.do(name, "send", amount, kill, look)

    @precondition(lambda self: self.tokens)
    @rule(
        name=names,
        which=st.randoms(use_true_random=False),
        kill=kills,
        look=st.booleans(),
        how=st.sampled_from(["receive", "keep"]),
    )
    def receive(self, name, which, kill, look, how):
        self.do(name, how, which.choice(sorted(self.tokens.values())), kill, look)

    @precondition(lambda self: self.tokens)
    @rule(which=st.randoms(use_true_random=False), kill=kills, look=st.booleans())
    def reclaim(self, which, kill, look):
        name, transfer_id = which.choice(sorted(self.tokens))
        self.do(name, "reclaim", transfer_id, kill, look)

    @rule(name=names, kill=kills)
    def recover(self, name, kill):
        self.do(name, "recover", None, kill)

    async def check(self):
        """Recover both wallets, and find all that was minted."""
        ahead_s = [0.0]
        clock = lambda: time.time() + ahead_s[0]  # noqa: E731
        async with (
            Wallet.open(self.url("alice"), clock=clock) as alice,
            Wallet.open(self.url("bob"), clock=clock) as bob,
        ):
            for _ in range(2):
                for wallet in (alice, bob):
                    await wallet.recover()
                ahead_s[0] = 2 * LANDS_WITHIN_S
            for name, wallet in (("alice", alice), ("bob", bob)):
                assert await wallet.open_operations() == []
                self.tokens = {key: text for key, text in self.tokens.items() if key[0] != name}
                self.tokens |= {(name, t.id): t.token for t in await wallet.transfers()}
            assert sum((await not_spent(alice, bob)).values()) == self.minted
            await assert_really_there(alice, bob)

    def teardown(self):
        try:
            self.run(self.check)
            self.run(self.ask_the_mint)
            self.ledger.add(msat_in=self.minted, msat_out=self.minted)
        finally:
            shutil.rmtree(self.home)

    async def ask_the_mint(self):
        async with Wallet.open(self.url("alice")) as alice, Wallet.open(self.url("bob")) as bob:
            assert await worth(self.mint, alice) + await worth(self.mint, bob) == self.minted


@pytest.fixture(scope="module")
def context():
    """Makes processes quickly: each is a fork of one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.otrta_wallet.crashing", "trio"])
    return context


def test_two_wallets_lose_nothing_in_a_life(context, mint, store_with_mint, ledger: Ledger):
    sizes = (
        {"max_examples": 40, "stateful_step_count": 30}
        if LONG
        else {"max_examples": 3, "stateful_step_count": 12}
    )
    run_state_machine_as_test(
        lambda: Life(context, mint.url, store_with_mint, ledger),
        settings=settings(**sizes, phases=[Phase.generate] if not LONG else [Phase.generate, Phase.shrink]),
    )
