"""A wallet's process that kills itself at a given step: the hooks are here, none are in the wallet."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

import anyio
import httpx
from sqlalchemy.engine.default import DefaultDialect

from otrta_core import P2PK, Token
from otrta_wallet import Wallet, workers

POSTS = ("/v1/swap", "/v1/mint/bolt11", "/v1/melt/bolt11")


@dataclass
class Kill:
    """Where to die: before or after the n-th commit, or before or after the n-th post that moves money."""

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
        moves_money = request.url.path in POSTS
        if moves_money:
            self.kill.pass_by("post", "before")
        response = await super().handle_async_request(request)
        if moves_money:
            self.kill.pass_by("post", "after")  # the mint answers once it has committed
        return response


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
        match name:
            case "open":
                await wallet.mints.add(mint)
            case "mint":
                await wallet.claim_quote(argument)
            case "send":
                await wallet.send(mint, argument, "msat")
            case "lock":
                await wallet.send_locked(mint, 200, "msat", P2PK(argument))
            case "receive" | "unlock":
                await wallet.receive(Token.parse(argument))
            case "melt":
                await wallet.melt(argument)
            case "reclaim" | "refund":
                await wallet.reclaim(argument)
            case "redeem":
                await wallet.redeem(argument)
            case "keep":
                incoming = await wallet.inspect(Token.parse(argument))
                kept = await wallet.transactions.run(wallet.keep, incoming, None)
                await wallet.redeem(kept.id)
            case "restore":
                await wallet.restore(mint, empty_batches=argument)
            case "recover":
                await wallet.recover()
