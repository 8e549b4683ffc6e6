"""What paying adds to a plain call: the same call with a key, with a token, and through the client.

Run it from the checkout: ``.venv/bin/python -m bench.paid_call [--rounds 60]``. The kinds alternate within
one run, so that what else the machine does meets all alike; ratios are what to compare between machines.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import httpx

from otrta_cli import processes
from otrta_core import PaymentRequest
from otrta_wallet import Wallet

BODY = {"model": "demo-chat", "messages": [{"role": "user", "content": "hi"}]}
PATH = "/v1/chat/completions"


async def make_tokens(home: Path, mint: str, amount: int, count: int) -> list[str]:
    """Make tokens beforehand: making them is not what is measured."""
    async with Wallet.open(f"sqlite:///{home / 'bench.sqlite3'}") as wallet:
        url = await wallet.mints.add(mint)
        quote = await wallet.request_invoice(url, amount * count * 2, "msat")
        await wallet.claim_quote(quote.id)
        return [(await wallet.send(url, amount, "msat")).token or "" for _ in range(count)]


def measure(rounds: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        ports = [processes.free_port() for _ in range(4)]
        parts = []
        try:
            mint = processes.start_mint(home / "mint", ports[0], log=home / "mint.log")
            parts.append(mint)
            upstream = processes.start_upstream(ports[1], log=home / "upstream.log")
            parts.append(upstream)
            gateway = processes.start_gateway(
                home / "gateway",
                ports[2],
                config=processes.config_dir() / "litellm.yaml",
                upstream_url=upstream.url,
                mints=mint.url,
                log=home / "gateway.log",
            )
            parts.append(gateway)
            client = processes.start_client(home / "client", ports[3], log=home / "client.log")
            parts.append(client)
            processes.run_otrta(home / "client", "mints", "add", mint.url)
            processes.run_otrta(home / "client", "gateways", "add", gateway.url)
            processes.run_otrta(home / "client", "invoice", "900sat", "--json")
            with httpx.Client(timeout=60, trust_env=False) as http:
                return _measure(http, rounds, home, mint.url, gateway.url, client.url)
        finally:
            for part in reversed(parts):
                part.stop()


def _measure(
    http: httpx.Client, rounds: int, home: Path, mint: str, gateway: str, client: str
) -> dict[str, object]:
    asked = http.post(gateway + PATH, json=BODY)
    amount = PaymentRequest.parse(asked.headers["x-cashu"]).amount or 0
    tokens = anyio.run(make_tokens, home, mint, amount, rounds)
    key = {"Authorization": f"Bearer {processes.MASTER_KEY}"}
    kinds: dict[str, Callable[[], httpx.Response]] = {
        "key": lambda: http.post(gateway + PATH, json=BODY, headers=key),
        "token": lambda: http.post(gateway + PATH, json=BODY, headers={"X-Cashu": tokens.pop()}),
        "client": lambda: http.post(client + PATH, json=BODY),
        "refused": lambda: http.post(gateway + PATH, json=BODY),
    }
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(rounds):
        for kind, call in kinds.items():
            begun = time.perf_counter()
            answer = call()
            times[kind].append(time.perf_counter() - begun)
            wanted = 402 if kind == "refused" else 200
            if answer.status_code != wanted:
                raise SystemExit(f"{kind}, round {number}: HTTP {answer.status_code}: {answer.text[:300]}")
    p50 = {kind: statistics.median(values) * 1000 for kind, values in times.items()}
    ratios = {f"{kind}_to_key": round(p50[kind] / p50["key"], 2) for kind in ("token", "client", "refused")}
    return {
        "rounds": rounds,
        "ratios": ratios,
        "p50_ms": {kind: round(value, 1) for kind, value in p50.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    print(json.dumps(measure(parser.parse_args().rounds), indent=2))


if __name__ == "__main__":
    main()
