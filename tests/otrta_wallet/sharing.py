"""A process that pays from one shared wallet to another and back, and writes down what it handed out."""

import random
from functools import partial

import anyio

from otrta_core import Token
from otrta_wallet import Wallet, WalletError


def run(backend, urls, mint, rounds, seed, log):
    """Pay for some rounds; ``log`` gets the Ys of each token before anybody can claim it, and errors."""
    anyio.run(partial(_run, urls, mint, rounds, random.Random(seed), log), backend=backend)


async def _run(urls, mint, rounds, rng, log):
    async with Wallet.open(urls[0]) as alice, Wallet.open(urls[1]) as bob:
        with open(log, "a", buffering=1) as handed_out:  # noqa: ASYNC230 (nothing else runs here)
            for _ in range(rounds):
                giver, taker = (alice, bob) if rng.random() < 0.5 else (bob, alice)
                try:
                    transfer = await giver.send(mint, rng.randrange(1, 60), "msat")
                    token = Token.parse(transfer.token)
                    handed_out.write(" ".join(proof.Y for proof in token.proofs) + "\n")
                    await taker.receive(token)
                    if rng.random() < 0.2:
                        await giver.recover()
                except WalletError as error:
                    handed_out.write(f"!{error.code}\n")
