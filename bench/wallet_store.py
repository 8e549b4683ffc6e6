"""How a large wallet does: choosing proofs and opening, on SQLite and on PostgreSQL.

Run it from the checkout: ``.venv/bin/python -m bench.wallet_store [--rounds 200] [--json]``. The wallet has
many spent proofs and some unspent ones at one mint that is never asked. The kinds alternate within one run.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
from sqlalchemy import Connection, Engine

from bench.stores import places
from otrta_core import Keyset, Proof, input_fee, pick_exact, select_proofs
from otrta_wallet import Wallet, at_hand, store
from otrta_wallet.database import open_engine, upgrade
from otrta_wallet.pruning import prune
from otrta_wallet.schema import ProofStatus
from otrta_wallet.wallet import MAX_PROOFS, VERSION_TABLE

MINT = "http://127.0.0.1:1"
POINT = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
KEYSETS = [
    Keyset(f"00{number:014x}", "msat", {1 << bit: POINT for bit in range(63)}, 100, active=number == 0)
    for number in range(3)
]
BATCH = 5_000
SWAP_MOST = 1_000

Times = dict[str, dict[str, list[float]]]
"""By database and by what was done, in ms."""


def fill(engine: Engine, spent: int, unspent: int) -> int:
    """Store the proofs; returns what the unspent ones are worth."""
    rng = random.Random(1)
    worth = 0
    with engine.begin() as conn:
        store.add_mint(conn, MINT, None, 0)
        store.save_keysets(conn, MINT, KEYSETS)
    for status, count in ((ProofStatus.SPENT, spent), (ProofStatus.AVAILABLE, unspent)):
        for at in range(0, count, BATCH):
            found = []
            for number in range(at, min(at + BATCH, count)):
                amount, keyset = 1 << rng.randrange(15), rng.choice(KEYSETS)
                proof = Proof(amount, keyset.id, f"{status}-{number}", POINT)
                proof.__dict__["Y"] = f"02{rng.randbytes(32).hex()}"  # the real one takes a hash to a curve
                found.append((proof, None))
                worth += amount if status is ProofStatus.AVAILABLE else 0
            with engine.begin() as conn:
                store.insert_proofs(conn, found, mint=MINT, unit="msat", status=status, now=time.time())
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.exec_driver_sql("ANALYZE")
    return worth


def choose(conn: Connection, amount: int, kind: str) -> None:
    """Choose and lock as a call that pays from proofs at hand does, or as a swap does."""
    picks: dict[str, at_hand.Choose] = {
        "exact": lambda usable, _fees: pick_exact(usable, amount, max_proofs=MAX_PROOFS),
        "swap": lambda usable, fees: select_proofs(
            usable, amount, fee=lambda ps: input_fee(ps, fees), max_proofs=SWAP_MOST
        ),
    }
    most = MAX_PROOFS if kind == "exact" else SWAP_MOST
    if at_hand.take(conn, MINT, "msat", picks[kind], want=amount, most=most) is None:
        raise SystemExit(f"{kind}: nothing was found for {amount}")


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


def in_rolled_back(engine: Engine, work: Callable[[Connection], object]) -> float:
    """Time work inside a transaction that leaves everything as it was, in ms."""
    with engine.connect() as conn, conn.begin() as transaction:
        took = timed(lambda: work(conn))
        transaction.rollback()
        return took


async def open_once(url: str) -> None:
    async with Wallet.open(url) as wallet:
        await wallet.balances()


def measure(rounds: int, spent: int, unspent: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name, places(Path(name)) as kinds:
        urls = {kind: place("wallet") for kind, place in kinds.items()}
        engines = {kind: open_engine(url) for kind, url in urls.items()}
        worth = 0
        for kind, engine in engines.items():
            upgrade(engine, "otrta_wallet", VERSION_TABLE)
            worth = fill(engine, spent, unspent)
            anyio.run(open_once, urls[kind])
        rng = random.Random(2)
        times: Times = {kind: {} for kind in urls}
        for number in range(rounds):
            amounts = {"exact": rng.randrange(1, 1 << 18), "swap": rng.randrange(1 << 18, worth // 4)}
            for kind, engine in engines.items():
                took = {
                    f"choose {what}": in_rolled_back(engine, partial(choose, amount=amount, kind=what))
                    for what, amount in amounts.items()
                }
                took["prune 0"] = in_rolled_back(engine, partial(prune, now=time.time()))
                if number % 10 == 0:
                    took["open"] = timed(lambda url=urls[kind]: anyio.run(open_once, url))
                for what, ms in took.items():
                    times[kind].setdefault(what, []).append(ms)
        for engine in engines.values():
            engine.dispose()
    return {
        "spent": spent,
        "unspent": unspent,
        "rounds": rounds,
        "median_ms": summed_up(times, statistics.median),
        "worst_ms": summed_up(times, max),
    }


def summed_up(times: Times, how: Callable[[list[float]], float]) -> dict[str, dict[str, float]]:
    return {kind: {what: round(how(ms), 2) for what, ms in of.items()} for kind, of in times.items()}


def table(result: dict[str, object]) -> str:
    medians, worst = result["median_ms"], result["worst_ms"]
    assert isinstance(medians, dict)
    assert isinstance(worst, dict)
    lines = [
        f"{result['spent']} spent and {result['unspent']} unspent proofs, {result['rounds']} rounds; ms",
        f"{'database':<12}{'what':<16}{'median':>10}{'worst':>10}",
    ]
    for kind, figures in medians.items():
        lines += [
            f"{kind:<12}{what:<16}{ms:>10.2f}{worst[kind][what]:>10.2f}" for what, ms in figures.items()
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--spent", type=int, default=100_000)
    parser.add_argument("--unspent", type=int, default=5_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.rounds, options.spent, options.unspent)
    print(json.dumps(result, indent=2) if options.json else table(result))


if __name__ == "__main__":
    main()
