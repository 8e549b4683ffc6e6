"""Runs customers against a gateway that is killed now and then, and adds up what they and it have."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import httpx
from anyio import to_thread

from bench.money import Stock
from bench.soak.customers import Customer
from bench.soak.purse import ASK_EVERY_S, Books, Purse
from otrta_cli import processes
from otrta_cli.processes import Running
from otrta_core import Token
from otrta_litellm.ledger import earnings_msat, holdings_msat

TOKEN_MSAT = 1_000_003
RESERVES = 4
SETTLE_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a soak does.

    Attributes:
        seconds: how long customers call.
        clients: how many there are.
        kill_gateway_s: how often the gateway is killed; None for never.
        kill_mint_s: how often the mint is killed; None for never.
        most_kills: of each; None for as many as there is time for.
        settled: how many calls have to be settled before it may end; a slow machine takes longer.
        seed: of what the customers do.
    """

    seconds: float
    clients: int = 16
    kill_gateway_s: float | None = 120.0
    kill_mint_s: float | None = 300.0
    most_kills: int | None = None
    settled: int = 0
    seed: int = 1


@dataclass
class Stage:
    """The parts that run, and how to start them again."""

    home: Path
    mint: Running
    upstream: Running
    gateway: Running
    kills: dict[str, int] = field(default_factory=lambda: {"gateway": 0, "mint": 0})

    def kill_gateway(self) -> Running:
        """Kill the gateway, and return it as it starts again where it was."""
        self.gateway.kill()
        self.kills["gateway"] += 1
        self.gateway = _gateway(self.home, self.gateway.port, self.mint, self.upstream, wait=False)
        return self.gateway

    def kill_mint(self) -> Running:
        """Kill the mint, and return it as it starts again where it was."""
        self.mint.kill()
        self.kills["mint"] += 1
        self.mint = _mint(self.home, self.mint.port, wait=False)
        return self.mint


@contextmanager
def stage(home: Path) -> Iterator[Stage]:
    """Start a mint, the upstream and a gateway."""
    mint = _mint(home, processes.free_port())
    upstream = processes.start_upstream(processes.free_port(), log=home / "upstream.log")
    parts = Stage(home, mint, upstream, _gateway(home, processes.free_port(), mint, upstream))
    try:
        yield parts
    finally:
        for part in (parts.gateway, parts.upstream, parts.mint):
            part.stop()


def soak(plan: Plan, say: Callable[[str], None] = lambda _line: None) -> dict[str, Any]:
    """Carry out a plan and return its account, amounts in msat.

    ``unaccounted`` is what the customers had at first less what they have, what the mint holds for ever,
    and what the gateway earned; ``wrong`` lists what must never happen.
    """
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        with stage(home) as parts, Stock(parts.mint.url) as stock:
            tokens = stock.tokens(TOKEN_MSAT, plan.clients * (1 + RESERVES))
            books = Books()
            purses = [
                Purse(
                    tokens[number],
                    tokens[plan.clients + number :: plan.clients],
                    books,
                    parts.gateway.url,
                    parts.mint.url,
                )
                for number in range(plan.clients)
            ]
            begun = time.monotonic()
            anyio.run(partial(_act, plan, parts, purses, books, say))
            took_s = time.monotonic() - begun
            parts.gateway.stop()
            left = [token for purse in purses for token in (purse.token, *purse.reserve)]
            states = stock.states([proof.Y for token in left for proof in token.proofs])
            return _account(books, parts, home, tokens, left, states) | {
                "seconds": round(took_s),
                "clients": plan.clients,
                "calls_per_second": round(books.calls / took_s, 1),
            }


async def _act(
    plan: Plan, parts: Stage, purses: list[Purse], books: Books, say: Callable[[str], None]
) -> None:
    stop = anyio.Event()
    limits = httpx.Limits(max_connections=None)
    timeout = httpx.Timeout(30.0)
    async with httpx.AsyncClient(trust_env=False, timeout=timeout, limits=limits, verify=False) as http:
        async with anyio.create_task_group() as tasks:
            for number, purse in enumerate(purses):
                tasks.start_soon(Customer(purse, books, plan.seed * 1000 + number).run, http, stop)
            async with anyio.create_task_group() as killers:
                killers.start_soon(_end, plan, books, stop, killers.cancel_scope)
                killers.start_soon(_every, plan.kill_gateway_s, plan.most_kills, parts.kill_gateway, say)
                killers.start_soon(_every, plan.kill_mint_s, plan.most_kills, parts.kill_mint, say)
        await _calm_down(http, purses)


async def _end(plan: Plan, books: Books, stop: anyio.Event, killers: anyio.CancelScope) -> None:
    await anyio.sleep(plan.seconds)
    while books.counted["settled"] < plan.settled:  # noqa: ASYNC110  # no event tells it
        await anyio.sleep(ASK_EVERY_S)
    stop.set()
    killers.cancel()


async def _every(
    seconds: float | None, most: int | None, kill: Callable[[], Running], say: Callable[[str], None]
) -> None:
    if seconds is None:
        return
    for _ in count() if most is None else range(most):
        await anyio.sleep(seconds)
        part = kill()  # here: a part dies with the thread that started it
        with anyio.CancelScope(shield=True):  # what was killed runs again, even at the end
            await to_thread.run_sync(part.wait_ready)
        say(f"{part.name} killed, and up again")


async def _calm_down(http: httpx.AsyncClient, purses: list[Purse]) -> None:
    """Wait until the gateway owes nobody anything."""
    for purse in purses:
        with anyio.move_on_after(SETTLE_WITHIN_S):
            await purse.find_out(http)


def _account(
    books: Books,
    parts: Stage,
    home: Path,
    given: list[Token],
    left: list[Token],
    states: dict[str, str],
) -> dict[str, Any]:
    store = str(home / "gateway")
    msat_in = sum(token.amount for token in given)
    spendable = sum(p.amount for token in left for p in token.proofs if states[p.Y] == "UNSPENT")
    pending = sum(p.amount for token in left for p in token.proofs if states[p.Y] == "PENDING")
    stuck = sum(token.amount for token in books.stuck.values()) + pending
    earned, holdings = earnings_msat(store), holdings_msat(store)
    return {
        "msat_in": msat_in,
        "customers": spendable,
        "earned": earned,
        "stuck": stuck,
        "unaccounted": msat_in - spendable - stuck - earned,
        "gateway_holds": holdings,
        "gateway_unaccounted": earned - holdings,
        "stuck_ys": sorted(books.stuck),
        "wrong": books.wrong,
        "kills": parts.kills,
        "calls": books.calls,
        "counted": dict(sorted(books.counted.items())),
    }


def _mint(home: Path, port: int, *, wait: bool = True) -> Running:
    return processes.start_mint(home / "mint", port, log=home / "mint.log", wait=wait)


def _gateway(home: Path, port: int, mint: Running, upstream: Running, *, wait: bool = True) -> Running:
    return processes.start_gateway(
        home / "gateway",
        port,
        config=processes.config_dir() / "litellm.yaml",
        upstream_url=upstream.url,
        mints=mint.url,
        log=home / "gateway.log",
        wait=wait,
    )
