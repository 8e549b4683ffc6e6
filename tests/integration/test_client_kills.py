"""SIGKILL at every commit and around every post of a call: the next start finds every msat."""

import multiprocessing
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count, product
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from otrta_cli.processes import Running
from otrta_wallet.custody import HELD_S
from proxy_trio import calls
from tests.integration import crashing_client
from tests.integration.counting import assert_all_there, calls_pending, nothing_open
from tests.integration.customer import HI, customer
from tests.integration.honest import remember, trade
from tests.integration.purse import Purse
from tests.integration.scripted_gateway import Script, ScriptedGateway, answer, ask, scripted_gateway
from tests.long_summary import Ledger
from tests.otrta_wallet.crashing import Kill

pytestmark = [pytest.mark.integration, pytest.mark.trio]

LONG = os.environ.get("OTRTA_LONG") == "1"
STEPS: Final = tuple(product(("commit", "post"), ("before", "after")))
PPK = 100
NO_LIMIT = {key: value for key, value in HI.items() if key != "max_tokens"}


@dataclass(frozen=True)
class Deed:
    """What is done, and how the gateway answers.

    Attributes:
        scripts: of the gateway, one for each request.
        bodies: of the calls, made side by side.
        locks: whether tokens are locked to the gateway, for a second round of the calls.
        parts: the proofs in the wallet beforehand.
    """

    scripts: Callable[[], list[Script]]
    bodies: tuple[Mapping[str, Any], ...] = (HI,)
    locks: bool = False
    parts: tuple[int, ...] = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


DEEDS: Final = {
    "plain": Deed(lambda: [trade(ppk=PPK)]),
    "stream": Deed(lambda: [trade(stream=True, ppk=PPK)], bodies=({**HI, "stream": True},)),
    "swap-first": Deed(lambda: [trade(ppk=PPK)], parts=(8192,)),
    "asked-for-more": Deed(lambda: [ask(700), trade(600, ppk=PPK)]),
    "refused": Deed(lambda: [answer(503, {"error": {"message": "away"}})]),
    "failed": Deed(lambda: [trade(0, status=500, ppk=PPK)]),
    "no-answer": Deed(lambda: [trade(says=False, ppk=PPK)]),
    "no-change": Deed(lambda: [trade(None, ppk=PPK)], bodies=(NO_LIMIT,)),
    "locked": Deed(lambda: [trade(ppk=PPK), trade(ppk=PPK)], locks=True),
    "two-at-once": Deed(lambda: [trade(ppk=PPK), trade(ppk=PPK)], bodies=(HI, HI)),
}

# by deed two kinds of step, and which of these it is
SAMPLE = (((0, 2), (1, 5)), ((1, 3), (3, 1)), ((2, 1), (1, 1)), ((0, 7), (3, 2)))


def cases() -> list[tuple[str, str, str, int | None]]:
    """Every step of every deed in a long run; otherwise two of each deed."""
    found: list[tuple[str, str, str, int | None]] = [
        (name, *STEPS[step], at)
        for number, name in enumerate(DEEDS)
        for step, at in SAMPLE[number % len(SAMPLE)]
    ]
    if LONG:
        found = [(name, *step, None) for name in DEEDS for step in STEPS]
    # of posts side by side it is not known which one's answer has come
    return [case for case in found if len(DEEDS[case[0]].bodies) == 1 or case[1:3] != ("post", "after")]


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Makes processes quickly: each is a fork of one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.integration.crashing_client"])
    return context


@asynccontextmanager
async def stocked(
    home: Path, purse: Purse, gateway: ScriptedGateway, parts: tuple[int, ...]
) -> AsyncIterator[int]:
    """A wallet on disk with these proofs, which knows the gateway; gives what it has."""
    async with customer(home, gateway.url, mint=purse.mint, funds=0) as app:
        token = await gateway.money(sum(parts), parts=parts)
        await app.keep_as_it_is(token)
        await app.client.gateways.set_lock(gateway.url, on=True)  # it says whether it takes locked ones
    yield token.amount


def die_at(processes: ForkServerContext, home: Path, mint: str, deed: Deed, kill: Kill) -> bool:
    """Do a deed in another process; tells whether it died on the way."""
    child = processes.Process(
        target=crashing_client.live,
        args=(str(home), mint, list(deed.bodies), kill),
        kwargs={"locks": deed.locks},
    )
    child.start()
    child.join(120)
    assert child.exitcode in (-signal.SIGKILL, 0)
    return child.exitcode != 0


async def recovered(home: Path, purse: Purse, gateway: ScriptedGateway, had: int) -> None:
    """Start anew, look at what is pending, recover, and count: at the wallet, at the gateway, at the mint."""
    await gateway.until_idle()
    ahead_s = 0.0
    async with customer(home, mint=purse.mint, funds=0, clock=lambda: time.time() + ahead_s) as app:
        open_ones = {(call.id, call.paid_msat) for call in await app.paid() if call.state in calls.OPEN}
        told = await calls_pending(app)
        assert {(line["payment_id"], line["paid_msat"]) for line in told} == open_ones
        assert {line["gateway"] for line in told} <= {gateway.url}
        before = await app.total()
        await nothing_open(app)
        ahead_s += HELD_S + 1
        await nothing_open(app)
        assert await app.total() <= before <= had
        await assert_all_there(app, purse, gateway, had)


@pytest.mark.parametrize(("name", "step", "when", "number"), cases())
async def test_a_kill_loses_nothing(
    name: str,
    step: Any,
    when: Any,
    number: int | None,
    tmp_path: Path,
    fee_mint: Running,
    fee_purse: Purse,
    processes: ForkServerContext,
    ledger: Ledger,
) -> None:
    deed = DEEDS[name]
    for at in count(1) if number is None else [number]:
        home = tmp_path / str(at)
        async with (
            scripted_gateway(
                fee_purse, *deed.scripts(), claim=remember, locks=deed.locks, ppk=PPK
            ) as gateway,
            stocked(home, fee_purse, gateway, deed.parts) as had,
        ):
            kill = Kill(step, when, at)
            died = await trio.to_thread.run_sync(die_at, processes, home, fee_mint.url, deed, kill)
            await recovered(home, fee_purse, gateway, had)
        ledger.add(calls=len(deed.bodies), kills=int(died), msat_in=had, msat_out=had)
        if not died:
            break
    assert died == (number is not None)
    assert number is not None or at > (1 if step == "post" else 5)
