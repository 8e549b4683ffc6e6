"""What the client proxy adds: beside a bare proxy on the same server, with the same calls, in one run.

Run it from the checkout: ``.venv/bin/python -m bench.client [--rounds 5] [--json FILE]``. ``bench/README.md``
says what is compared with what.
"""

import argparse
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
from sqlalchemy import Connection

from bench.client.gateway import COST_MSAT
from bench.money import Stock
from otrta_cli import processes
from otrta_core import CallRequest, ModelPrice, quote_msat
from otrta_wallet import Wallet
from otrta_wallet.schema import ProofStatus
from otrta_wallet.store import insert_proofs

PATH = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 64}
PRICE = ModelPrice(input_msat_per_mtok=1_000_000, output_msat_per_mtok=1_000_000, request_msat=1)
ONE_BY_ONE = 40
BURST = 200
CLIENTS = 16


@dataclass(frozen=True)
class Parts:
    """Where the calls go."""

    gateway: str
    bare: str
    client: str
    client_pid: int
    home: Path
    starts_s: list[float]


def quote() -> int:
    return quote_msat(PRICE, CallRequest.parse("chat", BODY))


async def fill(home: Path, mint: str, stock: Stock, calls: int) -> None:
    """Put into the client's wallet what so many calls pay with."""
    tokens = stock.tokens(quote(), calls)

    def keep(conn: Connection, now: float) -> None:
        proofs = [(proof, None) for token in tokens for proof in token.proofs]
        insert_proofs(conn, proofs, mint=mint, unit="msat", status=ProofStatus.AVAILABLE, now=now)

    async with Wallet.open(f"sqlite:///{home / 'wallet.sqlite3'}") as wallet:
        await wallet.mints.add(mint)
        await wallet.transactions.run(keep)


@contextmanager
def parts(root: Path, calls: int) -> Iterator[Parts]:
    """Start a mint, the gateway, the bare proxy, and the client with a stocked wallet."""
    with ExitStack() as stack:
        mint = processes.start_mint(root / "mint", processes.free_port(), log=root / "mint.log")
        stack.callback(mint.stop)
        money = stack.enter_context(Stock(mint.url))
        change = root / "change.txt"
        # whoever pays a little more than the quote gets a little more back
        tokens = [*money.tokens(quote() - COST_MSAT, calls), *money.tokens(255, 20 + calls // 20)]
        change.write_text("\n".join(token.encode() for token in tokens))
        home = root / "client"
        home.mkdir(mode=0o700)
        anyio.run(fill, home, mint.url, money, calls)
        gateway_port, bare_port = processes.free_port(), processes.free_port()
        for module, arguments in (
            ("bench.client.gateway", [gateway_port, mint.url, change]),
            ("bench.client.bare", [bare_port, f"http://127.0.0.1:{gateway_port}"]),
        ):
            part = subprocess.Popen([sys.executable, "-m", module, *map(str, arguments)])
            stack.callback(part.wait)
            stack.callback(part.kill)
        gateway = f"http://127.0.0.1:{gateway_port}"
        until_up(f"{gateway}/v1/cashu/info")
        until_up(f"http://127.0.0.1:{bare_port}/v1/cashu/info")
        (home / "config.toml").write_text(
            f'gateways = ["{gateway}"]\nmints = ["{mint.url}"]\n[budgets]\nper_day_sat = "unlimited"\n'
        )
        starts_s = []
        for _ in range(5):
            begun = time.perf_counter()
            client = processes.start_client(home, processes.free_port(), log=root / "client.log")
            starts_s.append(time.perf_counter() - begun)
            if len(starts_s) < 5:
                client.stop()
        stack.callback(client.stop)
        bare = f"http://127.0.0.1:{bare_port}"
        yield Parts(gateway, bare, client.url, client.pid, home, starts_s)


def until_up(url: str) -> None:
    for _ in range(200):
        try:
            httpx.get(url, trust_env=False).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"{url} does not answer")


def rss_mb(pid: int) -> float:
    """Return what a process has in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("the client has ended")


def one_by_one(http: httpx.Client, url: str, number: int) -> list[float]:
    """Make plain calls, one after the other; returns how long each took, in ms."""
    times = []
    for _ in range(number):
        begun = time.perf_counter()
        reply = http.post(url + PATH, json=BODY)
        times.append((time.perf_counter() - begun) * 1000)
        must_be_ok(reply.status_code, reply.text)
    return times


def first_bytes(http: httpx.Client, url: str, number: int) -> list[float]:
    """Make streamed calls; returns how long the first byte of each took, in ms."""
    times = []
    for _ in range(number):
        begun = time.perf_counter()
        with http.stream("POST", url + PATH, json={**BODY, "stream": True}) as reply:
            pieces = reply.iter_raw()
            first = next(pieces)
            times.append((time.perf_counter() - begun) * 1000)
            must_be_ok(reply.status_code, repr(first))
            for _ in pieces:
                pass
    return times


async def burst(url: str, number: int) -> float:
    """Make calls, many at a time; returns how many were served a second."""
    waiting = iter(range(number))
    limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
    async with httpx.AsyncClient(timeout=120, trust_env=False, limits=limits, verify=False) as http:

        async def client() -> None:
            for _ in waiting:
                reply = await http.post(url + PATH, json=BODY)
                must_be_ok(reply.status_code, reply.text)

        begun = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for _ in range(CLIENTS):
                tasks.start_soon(client)
        return number / (time.perf_counter() - begun)


def must_be_ok(status: int, text: str) -> None:
    if status != 200:
        raise SystemExit(f"HTTP {status}: {text[:300]}")


def swaps_for_calls(home: Path) -> int:
    """Return how many calls had to swap before they could pay."""
    with closing(sqlite3.connect(f"file:{home / 'wallet.sqlite3'}?mode=ro", uri=True)) as conn:
        query = "SELECT count(*) FROM operations WHERE kind = 'swap' AND reference IN (SELECT id FROM calls)"
        return int(conn.execute(query).fetchone()[0])


def measure(rounds: int, more_calls: int) -> dict[str, Any]:
    """Measure in rounds, each kind in turn, and return the figures, what is judged first."""
    calls = (rounds + 1) * (2 * ONE_BY_ONE + BURST)
    found: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name, parts(Path(name), calls + more_calls + 100) as running:
        idle_mb = rss_mb(running.client_pid)
        with httpx.Client(timeout=60, trust_env=False) as http:
            for number in range(rounds + 1):
                for kind, url in (("bare", running.bare), ("client", running.client)):
                    plain = one_by_one(http, url, ONE_BY_ONE)
                    first = first_bytes(http, url, ONE_BY_ONE)
                    per_second = anyio.run(burst, url, BURST)
                    if number:  # the first warms up
                        found[f"{kind}_plain_ms"] += plain
                        found[f"{kind}_first_byte_ms"] += first
                        found[f"{kind}_per_second"].append(per_second)
                print(f"round {number} of {rounds}", file=sys.stderr)
            warm_mb = rss_mb(running.client_pid)
            if more_calls:
                found["client_sustained_per_second"].append(anyio.run(burst, running.client, more_calls))
            after_mb = rss_mb(running.client_pid)
        swaps = swaps_for_calls(running.home)
        starts_s = running.starts_s
    medians = {name: round(statistics.median(values), 2) for name, values in found.items()}
    return {
        "added_p50_ms": round(medians["client_plain_ms"] - medians["bare_plain_ms"], 2),
        "added_first_byte_p50_ms": round(medians["client_first_byte_ms"] - medians["bare_first_byte_ms"], 2),
        "burst_to_bare_throughput": round(medians["client_per_second"] / medians["bare_per_second"], 2),
        "calls_that_waited_for_the_mint": swaps,
        "start_s": round(statistics.median(starts_s), 2),
        "rss_mb": {"idle": round(idle_mb, 1), "warm": round(warm_mb, 1), "after": round(after_mb, 1)},
        "rounds": rounds,
        "more_calls": more_calls,
        "quote_msat": quote(),
        "medians": medians,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--more-calls", type=int, default=0, help="calls at the end, for memory and endurance"
    )
    parser.add_argument("--json", type=Path, help="a file that takes the figures")
    given = parser.parse_args()
    text = json.dumps(measure(given.rounds, given.more_calls), indent=2)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
