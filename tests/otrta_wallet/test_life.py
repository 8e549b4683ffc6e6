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
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from otrta_core import OtrtaError, Token, read_lock
from otrta_wallet import Wallet
from otrta_wallet.executor import LANDS_WITHIN_S
from otrta_wallet.outputs import make_outputs, make_proofs
from otrta_wallet.seed import seed_of
from tests.long_summary import Ledger
from tests.otrta_wallet import crashing
from tests.otrta_wallet.crashing import Kill
from tests.otrta_wallet.lightning import LIGHTNING_FEE, strangers_invoice
from tests.otrta_wallet.reckoning import assert_really_there, fees_paid, not_spent, paid_out, top_up
from tests.stores import KINDS

LONG = os.environ.get("OTRTA_LONG") == "1"
NAMES = ("alice", "bob")
BATCH = 100
START = 4_000
RESTORED_GAP = "3"
SIZES = (
    {"max_examples": 12, "stateful_step_count": 25} if LONG else {"max_examples": 2, "stateful_step_count": 6}
)

names = st.sampled_from(NAMES)
amounts = st.integers(1, 500)
kills = st.none() | st.builds(
    Kill, st.sampled_from(["commit", "post"]), st.sampled_from(["before", "after"]), st.integers(1, 4)
)


def other(name):
    return NAMES[name == NAMES[0]]


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
    """Alice and Bob have wallets at one mint without fees; tokens between them are lying about as texts.

    What a wallet loses with its database is what it knew of payments, so that is written down before.
    """

    def __init__(self, context, mint, payee, store, ledger):
        super().__init__()
        self.context, self.mint, self.payee, self.ledger = context, mint, payee, ledger
        self.home = Path(tempfile.mkdtemp(prefix="otrta-life-"))
        self.minted, self.paid, self.payments, self.turn = 0, 0, 0, 0
        self.tokens = {}
        self.lives = dict.fromkeys(NAMES, 0)
        self.store = store

    def url(self, name):
        return self.store.url_in(self.home, f"{name}-{self.lives[name]}")

    def run(self, work, *arguments):
        self.turn += 1
        return anyio.run(partial(work, *arguments), backend=("asyncio", "trio")[self.turn % 2])

    def do(self, name, what, argument, kill, look=True):
        """Do something in a process of its own, which dies where ``kill`` says; tells whether it did."""
        step = kill or Kill("commit", "before", 0)
        child = self.context.Process(
            target=crashing.run, args=("trio", self.url(name), self.mint, what, argument, step, (OtrtaError,))
        )
        child.start()
        child.join(120)
        assert child.exitcode in (0, -signal.SIGKILL)
        was_killed = child.exitcode == -signal.SIGKILL
        self.ledger.add(operations=1, kills=int(was_killed))
        if look:
            self.run(self.check)
        return was_killed

    @initialize()
    def begin(self):
        async def fill():
            for name in NAMES:
                async with Wallet.open(self.url(name)) as wallet:
                    await top_up(wallet, self.mint, START)

        self.run(fill)
        self.minted += START * len(NAMES)

    @rule(name=names, amount=amounts, kill=kills, look=st.booleans())
    def top_up(self, name, amount, kill, look):
        self.do(name, "mint", self.run(self.invoice, name, amount), kill, look)

    async def invoice(self, name, amount):
        async with Wallet.open(self.url(name)) as wallet:
            quote = await wallet.request_invoice(self.mint, amount, "msat")
        self.minted += amount
        return quote.id

    @rule(name=names, amount=amounts, to_the_other=st.booleans(), kill=kills, look=st.booleans())
    def pay(self, name, amount, to_the_other, kill, look):
        quote_id = self.run(self.offer, name, amount, to_the_other)
        self.payments += 1
        self.do(name, "melt", quote_id, kill, look)

    async def offer(self, name, amount, to_the_other):
        """Have the mint offer to pay an invoice: the other wallet's, or one of another mint."""
        if to_the_other:
            async with Wallet.open(self.url(other(name))) as payee:
                invoice = (await payee.request_invoice(self.mint, amount, "msat")).request
            self.minted += amount  # whoever pays it: the mint does, when it is asked and nobody has
        else:
            invoice = await strangers_invoice(self.payee, amount)
        async with Wallet.open(self.url(name)) as wallet:
            return (await wallet.request_melt(self.mint, invoice, "msat")).id

    @rule(name=names, amount=amounts, kill=kills, look=st.booleans(), how=st.sampled_from(["send", "swap"]))
    def send(self, name, amount, kill, look, how):
        self.do(name, how, str(amount), kill, look)

    @rule(name=names, to_both=st.booleans(), kill=kills, look=st.booleans())
    def lock(self, name, to_both, kill, look):
        keys = [other(name), name] if to_both else [other(name)]
        self.do(name, "lock", " ".join(self.run(self.key_of, key) for key in keys), kill, look)

    async def key_of(self, name):
        async with Wallet.open(self.url(name)) as wallet:
            return wallet.lock_keys.public

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

    @precondition(lambda self: len(self.tokens) > 1)
    @rule(name=names, kill=kills, look=st.booleans())
    def receive_many(self, name, kill, look):
        self.do(name, "receive_many", " ".join(sorted(self.tokens.values())), kill, look)

    @precondition(lambda self: self.tokens)
    @rule(which=st.randoms(use_true_random=False), kill=kills, look=st.booleans())
    def reclaim(self, which, kill, look):
        name, transfer_id = which.choice(sorted(self.tokens))
        self.do(name, "reclaim", transfer_id, kill, look)

    @rule(name=names, kill=kills)
    def recover(self, name, kill):
        self.do(name, "recover", "", kill)

    @rule(name=names, kill=kills)
    def lose_the_database(self, name, kill):
        words = self.run(self.last_words, name)
        self.lives[name] += 1
        self.tokens = {key: text for key, text in self.tokens.items() if key[0] != name}

        async def begin_anew():
            async with Wallet.open(self.url(name), words=words):
                pass

        self.run(begin_anew)
        if self.do(name, "restore", RESTORED_GAP, kill, look=False):
            self.do(name, "restore", RESTORED_GAP, None, look=False)
        self.run(self.check)

    async def last_words(self, name):
        """Write down what a wallet has paid, and what its seed is."""
        await self.check()
        await self.settle()
        async with Wallet.open(self.url(name)) as wallet:
            self.paid += await paid_out(wallet) + await fees_paid(wallet)
            return await wallet.words()

    @asynccontextmanager
    async def both(self, **options):
        async with (
            Wallet.open(self.url("alice"), **options) as alice,
            Wallet.open(self.url("bob"), **options) as bob,
        ):
            yield {"alice": alice, "bob": bob}

    async def settle(self):
        """End what only a database knows: tokens that are kept, and tokens that are locked."""
        async with self.both() as wallets:
            for wallet in wallets.values():
                for kept in await wallet.kept():
                    with suppress(OtrtaError):
                        await wallet.redeem(kept.id)
            for wallet in wallets.values():
                await wallet.recover()  # what the other one kept was a token of this one's
            for name, wallet in wallets.items():
                for transfer in await wallet.transfers():
                    token = Token.parse(transfer.token)
                    if any(read_lock(proof.secret) for proof in token.proofs):
                        await wallets[other(name)].receive(token)
                await wallet.recover()

    async def check(self):
        """Recover both wallets, and find all that was minted."""
        ahead_s = [0.0]
        async with self.both(clock=lambda: time.time() + ahead_s[0]) as wallets:
            for _ in range(2):
                for wallet in wallets.values():
                    await wallet.recover()
                ahead_s[0] = 2 * LANDS_WITHIN_S
            for name, wallet in wallets.items():
                assert await wallet.open_operations() == []
                self.tokens = {key: text for key, text in self.tokens.items() if key[0] != name}
                self.tokens |= {(name, t.id): t.token for t in await wallet.transfers()}
            paid = sum([await paid_out(wallet) + await fees_paid(wallet) for wallet in wallets.values()])
            fees = sum([await fees_paid(wallet) for wallet in wallets.values()])
            assert fees <= self.payments * LIGHTNING_FEE
            assert sum((await not_spent(*wallets.values())).values()) == self.minted - self.paid - paid
            await assert_really_there(*wallets.values())
            return self.minted - self.paid - paid

    def teardown(self):
        try:
            self.run(self.check)
            self.run(self.settle)
            left = self.run(self.check)
            assert self.run(self.ask_the_mint) == left
            self.ledger.add(msat_in=self.minted, msat_out=self.minted)
        finally:
            shutil.rmtree(self.home)

    async def ask_the_mint(self):
        async with self.both() as wallets:
            return sum([await worth(self.mint, wallet) for wallet in wallets.values()])


@pytest.fixture(scope="module")
def context():
    """Makes processes quickly: each is a fork of one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.otrta_wallet.crashing", "trio"])
    return context


@pytest.mark.parametrize("store_kind", KINDS)
def test_two_wallets_lose_nothing_in_a_life(
    context, patient_mint, mint, templates, store_kind, ledger: Ledger
):
    with templates.knowing(store_kind, patient_mint.url).used() as store:
        run_state_machine_as_test(
            lambda: Life(context, patient_mint.url, mint.url, store, ledger),
            settings=settings(**SIZES, phases=[Phase.generate, *LONG * [Phase.shrink]]),
        )
