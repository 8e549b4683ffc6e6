"""How much memory paid calls leave behind, beside the same calls at a bare LiteLLM.

Run it from the checkout: ``.venv/bin/python -m bench.memory [--seconds 900] [--json FILE]``. Customers of the
soak pay at a gateway; for each of their calls there is one with a key at a LiteLLM without the plugin.
"""

import argparse
import json
import random
import statistics
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import yaml

from bench.money import Stock
from bench.soak.customers import PATH, buffered, failing, live, plain
from bench.soak.purse import Books, Purse
from bench.soak.run import TOKEN_MSAT, stage
from otrta_cli import processes
from otrta_cli.processes import Running

ACTS = (plain, live, buffered, failing)
CLIENTS = 8
LOOK_EVERY_S = 5.0
WARM_UP = 0.2
"""The share of the calls after which memory is compared: until then caches fill."""


@dataclass
class Watched:
    """A process group and what it took.

    Attributes:
        calls: it has answered.
        seen: calls and resident MiB, at each look.
    """

    part: Running
    calls: int = 0
    seen: list[tuple[int, float]] = field(default_factory=list)

    def look(self) -> None:
        """Note how much memory the whole group has."""
        self.seen.append((self.calls, resident_mib(self.part.pid)))

    def figures(self) -> dict[str, float]:
        """Resident MiB at the end, and its growth per 1,000 calls after the warm-up, by a linear fit."""
        later = [(calls, mib) for calls, mib in self.seen if calls >= WARM_UP * self.calls]
        fit = statistics.linear_regression(*zip(*later, strict=True))
        return {
            "calls": self.calls,
            "resident_mib": round(self.seen[-1][1], 1),
            "growth_mib_per_1000_calls": round(fit.slope * 1000, 3),
        }


def resident_mib(leader: int) -> float:
    """Return the resident memory of all processes of a group."""
    pages = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[2]) == leader:
            pages += int(fields[21])
    return pages * 4096 / (1 << 20)


def measure(seconds: float) -> dict[str, Any]:
    """Make calls for so long, and return what both took."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        with stage(home) as parts, Stock(parts.mint.url) as stock:
            config = yaml.safe_load((processes.config_dir() / "litellm.yaml").read_text())
            del config["callback_settings"], config["litellm_settings"]["callbacks"]
            (home / "bare.yaml").write_text(yaml.safe_dump(config))
            bare = processes.start_gateway(
                home / "bare",
                processes.free_port(),
                config=home / "bare.yaml",
                upstream_url=parts.upstream.url,
                mints=parts.mint.url,
                log=home / "bare.log",
                probes=("/health/liveliness",),
            )
            try:
                books = Books()
                purses = [
                    Purse(token, [], books, parts.gateway.url, parts.mint.url)
                    for token in stock.tokens(TOKEN_MSAT, CLIENTS)
                ]
                gated, plainly = Watched(parts.gateway), Watched(bare)
                anyio.run(partial(_call, purses, gated, plainly, seconds))
            finally:
                bare.stop()
    if books.wrong:
        raise SystemExit("\n".join(books.wrong))
    found = {"gated": gated.figures(), "bare": plainly.figures()}
    return {"seconds": seconds, "clients": CLIENTS, **found}


async def _call(purses: list[Purse], gated: Watched, bare: Watched, seconds: float) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=60, verify=False) as http:
        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as tasks:
                for number, purse in enumerate(purses):
                    tasks.start_soon(_customer, http, purse, random.Random(number), gated, bare)
                while True:
                    gated.look()
                    bare.look()
                    await anyio.sleep(LOOK_EVERY_S)


async def _customer(
    http: httpx.AsyncClient, purse: Purse, draw: random.Random, gated: Watched, bare: Watched
) -> None:
    key = {"Authorization": f"Bearer {processes.MASTER_KEY}"}
    while True:
        act = draw.choice(ACTS)
        with anyio.CancelScope(shield=True):  # a call is not left in the middle
            await act(http, purse, draw)
        gated.calls += 1
        model = "demo-500" if act is failing else "demo-chat"
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "hi"}],
            "stream": act in (live, buffered),
        }
        await http.post(bare.part.url + PATH, json=body, headers=key)
        bare.calls += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--json", type=Path, help="a file that takes the figures")
    given = parser.parse_args()
    text = json.dumps(measure(given.seconds), indent=2)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
