"""A wallet's process that kills itself at a given step: the hooks are here, none are in the wallet."""

import os
import random
import signal
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

import anyio
import httpx
from sqlalchemy.engine.default import DefaultDialect

from otrta_core import OtrtaError
from otrta_wallet import Wallet, workers
from tests.otrta_wallet.acts import ACTS, Scene, hold, recover

TASKS = 3


@dataclass
class Kill:
    """Where to die: before or after the n-th commit, or before or after the n-th post."""

    step: Literal["commit", "post"]
    when: Literal["before", "after"]
    number: int
    armed: bool = False
    seen: int = 0

    def pass_by(self, step, when):
        """Note that a step begins or has ended, and die if it is the one."""
        if self.armed and step == self.step:
            self.seen += when == "before"
            if when == self.when and self.seen == self.number:
                os.kill(os.getpid(), signal.SIGKILL)


class KillingTransport(httpx.AsyncHTTPTransport):
    def __init__(self, kill):
        super().__init__()
        self.kill = kill

    async def handle_async_request(self, request):
        if request.method == "POST":
            self.kill.pass_by("post", "before")
        response = await super().handle_async_request(request)
        if request.method == "POST":
            self.kill.pass_by("post", "after")  # the mint answers once it has committed
        return response


async def first_start(wallet, mint, _nothing):
    await wallet.mints.add(mint)


async def restore(wallet, mint, empty_batches):
    await wallet.restore(mint, empty_batches=int(empty_batches))


DO = {name: act.do for name, act in ACTS.items()} | {
    "open": first_start,
    "swap": hold,
    "restore": restore,
    "recover": recover,
}


def run(backend, url, mint, name, argument, kill, expected=()):
    """Do one operation in this process, and die on the way if the step comes.

    Errors that are ``expected`` are no failure.
    """
    commit = DefaultDialect.do_commit

    def killing_commit(dialect, connection):
        kill.pass_by("commit", "before")
        commit(dialect, connection)
        kill.pass_by("commit", "after")

    DefaultDialect.do_commit = killing_commit
    workers.STALE_AFTER_S = 0.0  # one that was killed before is dead at once
    with suppress(*expected):
        anyio.run(partial(_run, url, mint, name, argument, kill), backend=backend)


async def _run(url, mint, name, argument, kill):
    kill.armed = name == "open"
    async with (
        httpx.AsyncClient(transport=KillingTransport(kill)) as http,
        Wallet.open(url, http=http) as wallet,
    ):
        kill.armed = True
        await DO[name](wallet, mint, argument)


def live(backend, alice_url, bob_url, mint, payee, seed, began):
    """Do one thing after the other with two wallets, several at a time, until somebody ends this process."""
    workers.STALE_AFTER_S = 0.0
    anyio.run(partial(_live, alice_url, bob_url, mint, payee, seed, began), backend=backend)


async def _live(alice_url, bob_url, mint, payee, seed, began):
    rng = random.Random(seed)
    async with Wallet.open(alice_url) as alice, Wallet.open(bob_url) as bob:
        began.set()
        async with anyio.create_task_group() as tasks:
            for wallet in (alice, bob):
                tasks.start_soon(wallet.recover)
            for number in range(TASKS):
                scene = Scene(alice, bob, mint, payee) if number % 2 else Scene(bob, alice, mint, payee)
                tasks.start_soon(_live_on, scene, rng)


async def _live_on(scene, rng):
    names = sorted(ACTS.keys() - {"send"})  # which would first give away all that is small
    while True:
        act = ACTS[rng.choice(names)]
        with suppress(OtrtaError):
            argument = await act.prepare(scene)
            await act.do(scene.alice if act.who == "alice" else scene.bob, scene.mint, argument)
