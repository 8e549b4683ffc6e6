"""What the gate costs LiteLLM: bare, unlocked, unlocked with the call, locked, and the mint's own swaps.

Run it from the checkout: ``.venv/bin/python -m bench.gateway [--rounds 5] [--json FILE]``. Every round goes
through every kind, so that what else the machine does meets all alike. ``bench/README.md`` says what is
compared with what.
"""

import argparse
import json
import math
import secrets
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import yaml

from bench.money import Stock
from otrta_cli import processes
from otrta_cli.processes import Running
from otrta_core import PaymentRequest, Token
from otrta_litellm.settings import STORE_FILE
from otrta_wallet import QuoteNotPaid, Wallet

PATH = "/v1/chat/completions"
MODELS = {"mock-0": 0.0, "mock-300": 0.3}
"""The models, by the seconds that they take."""

CALLS = {1: 16, 8: 64, 16: 96}
"""How many calls make a round, by the number of clients."""

PRICE = {"input_msat_per_mtok": 1_000_000, "output_msat_per_mtok": 5_000_000}
KINDS = ("bare", "unlocked", "with_call", "locked", "swap")

Call = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


@dataclass
class Cell:
    """What was measured of one kind, one model and one number of clients."""

    per_second: list[float] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    def figures(self) -> dict[str, Any]:
        """Calls per second as the median of the rounds; latencies of all served calls, in ms."""
        failed = {"failed": dict(self.failed)} if self.failed else {}
        if len(self.latencies_s) < 2:
            return failed
        cuts = statistics.quantiles(self.latencies_s, n=20, method="inclusive")
        return {
            "per_second": round(statistics.median(self.per_second), 1),
            "p50_ms": round(cuts[9] * 1000, 1),
            "p95_ms": round(cuts[18] * 1000, 1),
            **failed,
        }


async def run(calls: Sequence[Call], clients: int, cell: Cell) -> None:
    """Make the calls, so many at a time, and note how long each and all took, or why they failed."""
    waiting = iter(calls)
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(timeout=120, trust_env=False, limits=limits, verify=False) as http:

        async def client() -> None:
            for call in waiting:
                begun = time.perf_counter()
                reply = await call(http)
                if reply.status_code == 200:
                    cell.latencies_s.append(time.perf_counter() - begun)
                else:
                    cell.failed[f"{reply.status_code}: {reply.text[:200]}"] += 1

        begun, served = time.perf_counter(), len(cell.latencies_s)
        async with anyio.create_task_group() as tasks:
            for _ in range(clients):
                tasks.start_soon(client)
        cell.per_second.append((len(cell.latencies_s) - served) / (time.perf_counter() - begun))


@dataclass
class Parts:
    """What runs during a measurement."""

    litellm: Mapping[str, Running]
    mint: Running
    stock: Stock

    @property
    def gated(self) -> Running:
        """One that asks for money."""
        return next(part for name, part in self.litellm.items() if name != "bare")

    def calls(self, kind: str, model: str, count: int, amount: int, pubkey: str) -> list[Call]:
        """Prepare the calls of one cell and round; what they pay with is made now."""
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        if kind == "bare":
            key = {"Authorization": f"Bearer {processes.MASTER_KEY}"}
            return [poster(self.litellm["bare"].url + PATH, body, key)] * count
        if kind == "swap":
            bodies = self.stock.swap_bodies(self.stock.tokens(amount, count))
            return [patient_swap(f"{self.mint.url}/v1/swap", swap) for swap in bodies]
        tokens = (
            self.stock.tokens(amount, count, secret=lambda: locked_to(pubkey), dleq=True)
            if kind == "locked"
            else self.stock.tokens(amount, count)
        )
        gateway = self.litellm["with_call" if kind == "with_call" else "before"]
        return [poster(gateway.url + PATH, body, paying(token)) for token in tokens]


def poster(url: str, body: object, headers: dict[str, str]) -> Call:
    """Return a call that posts a body."""
    content = json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **headers}
    return lambda http: http.post(url, content=content, headers=sent)


def patient_swap(url: str, body: object) -> Call:
    """Return a call that swaps, again where the mint says that its database is busy."""
    post = poster(url, body, {})

    async def swap(http: httpx.AsyncClient) -> httpx.Response:
        while True:
            reply = await post(http)
            if reply.status_code == 200 or "lock" not in reply.text:
                return reply

    return swap


def paying(token: Token) -> dict[str, str]:
    """Return the header that pays with a token."""
    return {"X-Cashu": token.encode()}


def locked_to(pubkey: str) -> str:
    """Return a fresh secret that is locked to a key (NUT-11)."""
    lock = {"nonce": secrets.token_hex(16), "data": pubkey, "tags": [["sigflag", "SIG_INPUTS"]]}
    return json.dumps(["P2PK", lock], separators=(",", ":"))


async def put_by(store: Path, mint: str, msat: int) -> None:
    """Give a gateway that has not started yet money of its own."""
    async with Wallet.open(f"sqlite:///{store}") as wallet:
        await wallet.mints.add(mint)
        quote = await wallet.request_invoice(mint, msat, "msat")
        while True:
            try:
                await wallet.claim_quote(quote.id)
            except QuoteNotPaid:
                await anyio.sleep(0.05)
            else:
                return


@contextmanager
def parts(home: Path, kinds: Collection[str], own_sat: int = 0) -> Iterator[Parts]:
    """Start a mint, a bare LiteLLM and two gated ones, which differ in when they redeem; what is wanted."""
    with ExitStack() as stack:
        mint = processes.start_mint(home / "mint", processes.free_port(), log=home / "mint.log")
        stack.callback(mint.stop)
        wanted = {kind if kind in ("bare", "with_call") else "before" for kind in kinds}
        started = {}
        for name in sorted(wanted):
            redeem = None if name == "bare" else name
            config = home / f"{name}.yaml"
            config.write_text(yaml.safe_dump(litellm_config(redeem)))
            if redeem is not None and own_sat:
                anyio.run(put_by, home / name / STORE_FILE, mint.url, own_sat * 1000)
            part = processes.start_gateway(
                home / name,
                processes.free_port(),
                config=config,
                upstream_url="http://127.0.0.1:9",
                mints=mint.url,
                log=home / f"{name}.log",
                wait=False,
                probes=("/health/liveliness",),
            )
            stack.callback(part.stop)
            started[name] = part
        for part in started.values():
            part.wait_ready()
        yield Parts(started, mint, stack.enter_context(Stock(mint.url)))


def litellm_config(redeem: str | None) -> dict[str, Any]:
    """Return LiteLLM's config: mocked models, and our callback where ``redeem`` is not None."""
    models = [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/{name}",
                "api_key": "none",
                "mock_response": "Twenty words would be too many for a mock.",
                **({"mock_delay": delay_s} if delay_s else {}),
            },
        }
        for name, delay_s in MODELS.items()
    ]
    config: dict[str, Any] = {
        "model_list": models,
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
    }
    if redeem is not None:
        config["litellm_settings"] = {
            "callbacks": ["otrta_litellm.plugin.handler"],
            "global_disable_no_log_param": True,
        }
        config["callback_settings"] = {
            "otrta": {
                "store": "os.environ/OTRTA_GATEWAY_STORE",
                "mints": "os.environ/OTRTA_MINTS",
                "redeem": redeem,
                "prices": dict.fromkeys(MODELS, PRICE),
            }
        }
    return config


def measure(
    rounds: int, kinds: Sequence[str], clients_of: Sequence[int], models: Sequence[str], own_sat: int
) -> dict[str, Any]:
    """Measure all cells and return the figures, the ratios first."""
    cells: dict[tuple[str, str, int], Cell] = {}
    with tempfile.TemporaryDirectory() as name, parts(Path(name), kinds, own_sat) as running:
        asked = httpx.post(
            running.gated.url + PATH,
            json={"model": "mock-0", "messages": [{"role": "user", "content": "hi"}]},
            trust_env=False,
            timeout=60,
        )
        amount = PaymentRequest.parse(asked.headers["x-cashu"]).amount or 0
        info = httpx.get(f"{running.gated.url}/v1/cashu/info", trust_env=False, timeout=60).json()
        pubkey = info["lock"].get("pubkey", "")
        for number in range(rounds + 1):
            for model in models:
                for clients in clients_of:
                    count = CALLS[clients]
                    for kind in kinds:
                        if kind == "swap" and model != models[0]:
                            continue
                        calls = running.calls(kind, model, count, amount, pubkey)
                        warming = number == 0
                        cell = Cell() if warming else cells.setdefault((kind, model, clients), Cell())
                        anyio.run(run, calls[: clients * 2] if warming else calls, clients, cell)
            print(f"round {number} of {rounds}", file=sys.stderr)
    figures = {key: cell.figures() for key, cell in cells.items()}
    return {
        "ratios": ratios(figures),
        "rounds": rounds,
        "token_msat": amount,
        "gateway_had_sat": own_sat,
        "cells": [
            {"kind": kind, "model": model, "clients": clients, **values}
            for (kind, model, clients), values in figures.items()
        ],
    }


def ratios(figures: dict[tuple[str, str, int], dict[str, Any]]) -> dict[str, float]:
    """Return what the figures are judged by; ``bench/README.md`` says how."""

    def of(kind: str, clients: int, what: str, model: str = "mock-0") -> float:
        return figures.get((kind, model, clients), {}).get(what, float("nan"))

    found: dict[str, float] = {}
    for clients in CALLS:
        swaps = of("swap", clients, "per_second")
        found[f"unlocked_to_swap_throughput_{clients}"] = of("unlocked", clients, "per_second") / swaps
        p50, p95 = (of("unlocked", clients, what) for what in ("p50_ms", "p95_ms"))
        found[f"unlocked_p95_to_p50_{clients}"] = p95 / p50
        bare = of("bare", clients, "per_second")
        found[f"locked_to_bare_throughput_{clients}"] = of("locked", clients, "per_second") / bare
        found[f"unlocked_to_bare_throughput_{clients}"] = of("unlocked", clients, "per_second") / bare
        slow_bare = of("bare", clients, "p50_ms", "mock-300")
        hidden = of("with_call", clients, "p50_ms", "mock-300")
        found[f"with_call_to_bare_p50_300ms_{clients}"] = hidden / slow_bare
        added = of("unlocked", clients, "p50_ms", "mock-300") - slow_bare
        found[f"unlocked_added_to_swap_p50_300ms_{clients}"] = added / of("swap", clients, "p50_ms")
    return {name: round(value, 2) for name, value in found.items() if not math.isnan(value)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", default=",".join(KINDS), help="those to measure, with commas between")
    parser.add_argument("--clients", default=",".join(map(str, CALLS)), help="how many at once, likewise")
    parser.add_argument("--models", default=",".join(MODELS), help="the models, likewise")
    parser.add_argument("--own-sat", type=int, default=1000, help="what the gateway has earned before")
    parser.add_argument("--json", type=Path, help="a file that takes the figures")
    given = parser.parse_args()
    clients = [int(number) for number in given.clients.split(",")]
    found = measure(given.rounds, given.kinds.split(","), clients, given.models.split(","), given.own_sat)
    text = json.dumps(found, indent=2)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
