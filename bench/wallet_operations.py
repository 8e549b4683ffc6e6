"""What each operation of the wallet takes, and for each proof: on SQLite and on PostgreSQL, at a real mint.

Run it from the checkout: ``.venv/bin/python -m bench.wallet_operations [--rounds 20] [--json]``. It starts
two mints without fees on free ports, one to pay from and one to pay at. The databases alternate within one
run.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import anyio
from sqlalchemy import Connection, func, select

from bench.stores import Place, places
from otrta_cli import processes
from otrta_core import Token
from otrta_wallet import Wallet
from otrta_wallet.mint_client import MintClient, new_http_client
from otrta_wallet.records import Transfer
from otrta_wallet.scanning import BATCH
from otrta_wallet.schema import operation_inputs, outputs

FUNDS = 200_000
MINTED = 1_023
SENT = 777
PAID = 500

Result = TypeVar("Result")


@dataclass
class Times:
    """Of one operation, in ms, with the proofs that went in and came out."""

    took_ms: list[float] = field(default_factory=list)
    proofs: list[int] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        ms, proofs = statistics.median(self.took_ms), statistics.median(self.proofs)
        found = {"median_ms": round(ms, 1), "worst_ms": round(max(self.took_ms), 1), "proofs": proofs}
        return found | ({"per_proof_ms": round(ms / proofs, 2)} if proofs else {})


class Bench:
    """Two wallets on one kind of database."""

    def __init__(self, mint: str, payee: MintClient, alice: Wallet, bob: Wallet) -> None:
        self.mint = mint
        self.payee = payee
        self.alice = alice
        self.bob = bob
        self.times: dict[str, Times] = {}

    def note(self, what: str, took_s: float, proofs: int) -> None:
        times = self.times.setdefault(what, Times())
        times.took_ms.append(took_s * 1000)
        times.proofs.append(proofs)

    async def timed(self, what: str, wallet: Wallet, work: Awaitable[Result]) -> Result:
        """Do something; its proofs are those that it wrote into the journal, else those of its token."""
        before = await wallet.transactions.run(_in_journal)
        begun = time.perf_counter()
        result = await work
        took_s = time.perf_counter() - begun
        proofs = await wallet.transactions.run(_in_journal) - before
        if not proofs and isinstance(result, Transfer):
            proofs = len(Token.parse(result.token or "").proofs)
        self.note(what, took_s, proofs)
        return result

    async def begin(self) -> None:
        for wallet in (self.alice, self.bob):
            await wallet.mints.add(self.mint)
        quote = await self.alice.request_invoice(self.mint, FUNDS, "msat")
        await self.alice.claim_quote(quote.id)

    async def round(self) -> None:
        alice, bob, mint = self.alice, self.bob, self.mint
        quote = await alice.request_invoice(mint, MINTED, "msat")
        await self.timed("mint", alice, alice.claim_quote(quote.id))
        at_hand = await self.timed("send at hand", alice, alice.send(mint, SENT, "msat", exact=False))
        await bob.receive(Token.parse(at_hand.token or ""))
        while (piece := await alice.transfer_at_hand(mint, 1, "msat", exact=True)) is not None:
            await bob.receive(Token.parse(piece.token or ""))
        swapped = await self.timed("send by a swap", alice, alice.send(mint, SENT, "msat"))
        await self.timed("receive", bob, bob.receive(Token.parse(swapped.token or "")))
        invoice = (await self.payee.request_mint_quote(PAID, "msat")).request
        offer = await alice.request_melt(mint, invoice, "msat")
        await self.timed("melt", alice, alice.melt(offer.id))
        for wallet in (alice, bob):
            await wallet.recover()
        await self.timed("recover, none open", alice, alice.recover())

    async def restore(self, url: str) -> None:
        """Restore Alice's wallet elsewhere, and note what a hundred counters take."""
        async with Wallet.open(url, words=await self.alice.words()) as again:
            begun = time.perf_counter()
            restored = await again.restore(self.mint, empty_batches=1)
            took_s = time.perf_counter() - begun
        if restored.found("msat") != sum(b.available for b in await self.alice.balances()):
            raise SystemExit("the restore did not find what there is")
        batches = sum(keyset.looked_to for keyset in restored.keysets) // BATCH
        self.note(f"restore, each {BATCH}", took_s / batches, BATCH)


def _in_journal(conn: Connection, _now: float) -> int:
    tables = (operation_inputs, outputs)
    return sum(conn.execute(select(func.count()).select_from(table)).scalar_one() for table in tables)


async def run(kinds: dict[str, Place], mint: str, payee: str, rounds: int) -> dict[str, dict[str, Times]]:
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(new_http_client())
        benches = {}
        for kind, place in kinds.items():
            alice = await stack.enter_async_context(Wallet.open(place("alice")))
            bob = await stack.enter_async_context(Wallet.open(place("bob")))
            benches[kind] = Bench(mint, MintClient(payee, http), alice, bob)
            await benches[kind].begin()
        for _ in range(rounds):
            for bench in benches.values():
                await bench.round()
        for number in range(min(rounds, 5)):
            for kind, bench in benches.items():
                await bench.restore(kinds[kind](f"restored{number}"))
        return {kind: bench.times for kind, bench in benches.items()}


def measure(rounds: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name, places(Path(name)) as kinds:
        home, parts = Path(name), []
        try:
            for part in ("mint", "payee"):
                log = home / f"{part}.log"
                parts.append(processes.start_mint(home / part, processes.free_port(), log=log))
            times = anyio.run(run, kinds, parts[0].url, parts[1].url, rounds)
        finally:
            for running in parts:
                running.stop()
    found = {kind: {what: each.figures() for what, each in of.items()} for kind, of in times.items()}
    return {"rounds": rounds, "operations": found}


def table(result: dict[str, object]) -> str:
    found = result["operations"]
    assert isinstance(found, dict)
    heads = f"{'median ms':>11}{'worst ms':>11}{'proofs':>8}{'ms/proof':>10}"
    lines = [f"{result['rounds']} rounds", f"{'database':<12}{'operation':<20}{heads}"]
    for kind, operations in found.items():
        for what, of in operations.items():
            per_proof = f"{of['per_proof_ms']:.2f}" if "per_proof_ms" in of else "-"
            figures = f"{of['median_ms']:>11.1f}{of['worst_ms']:>11.1f}{of['proofs']:>8g}{per_proof:>10}"
            lines.append(f"{kind:<12}{what:<20}{figures}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.rounds)
    print(json.dumps(result, indent=2) if options.json else table(result))


if __name__ == "__main__":
    main()
