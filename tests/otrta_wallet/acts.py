"""What a wallet can do: for each operation what comes before it, and how it is done.

The proofs that nothing is lost (kills, faults, lives) all take their operations from here.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from otrta_core import P2PK, SigFlag, Token
from otrta_wallet import Wallet
from tests.otrta_wallet.lightning import strangers_invoice

BROUGHT = 200
"""What an invoice brings that belongs to an operation."""


@dataclass(frozen=True)
class Scene:
    """Who plays: Alice has all the money, and somebody at another mint wants to be paid."""

    alice: Wallet
    bob: Wallet
    mint: str
    payee: str


@dataclass(frozen=True)
class Act:
    """One operation of a wallet.

    Attributes:
        who: does it.
        prepare: does what comes before it, and returns what ``do`` needs to know.
        do: the operation itself, at a mint.
        brings: what the wallets have more afterwards, whether it succeeds or not, in msat.
        pays: what may leave them for good, at most, besides the fees of swaps, in msat.
        needs: what Alice must have before.
    """

    who: Literal["alice", "bob"]
    prepare: Callable[[Scene], Awaitable[str]]
    do: Callable[[Wallet, str, str], Awaitable[object]]
    brings: int = 0
    pays: int = 0
    needs: int = 400


async def _an_invoice(scene: Scene) -> str:
    return (await scene.alice.request_invoice(scene.mint, BROUGHT, "msat")).id


async def _no_fitting_proofs(scene: Scene) -> str:
    while await scene.alice.transfer_at_hand(scene.mint, 4, "msat", exact=True, record="send"):
        pass
    return "4"


async def _a_transfer(scene: Scene) -> str:
    return (await scene.alice.send(scene.mint, 200, "msat")).id


async def _a_token(scene: Scene) -> str:
    return (await scene.alice.send(scene.mint, 200, "msat")).token or ""


async def _three_tokens(scene: Scene) -> str:
    tokens = [(await scene.alice.send(scene.mint, amount, "msat")).token or "" for amount in (90, 70, 40)]
    return " ".join(tokens)


async def _a_kept_token(scene: Scene) -> str:
    incoming = await scene.bob.inspect(Token.parse(await _a_token(scene)))
    return (await scene.bob.transactions.run(scene.bob.keep, incoming, None)).id


async def _an_offer_to_pay_a_stranger(scene: Scene) -> str:
    await _no_fitting_proofs(scene)  # so that a swap comes before the payment
    invoice = await strangers_invoice(scene.payee, 300)
    return (await scene.alice.request_melt(scene.mint, invoice, "msat")).id


async def _an_offer_to_pay_bob(scene: Scene) -> str:
    invoice = await scene.bob.request_invoice(scene.mint, BROUGHT, "msat")
    return (await scene.alice.request_melt(scene.mint, invoice.request, "msat")).id


async def _bobs_key(scene: Scene) -> str:
    return scene.bob.lock_keys.public


async def _a_token_for_bob(scene: Scene) -> str:
    lock = P2PK(scene.bob.lock_keys.public, sigflag=SigFlag.SIG_ALL)
    return (await scene.alice.send_locked(scene.mint, 200, "msat", lock)).token or ""


async def _a_transfer_to_both(scene: Scene) -> str:
    lock = P2PK(scene.bob.lock_keys.public, pubkeys=(scene.alice.lock_keys.public,), sigflag=SigFlag.SIG_ALL)
    return (await scene.alice.send_locked(scene.mint, 200, "msat", lock)).id


async def claim(wallet: Wallet, _mint: str, quote_id: str) -> object:
    return await wallet.claim_quote(quote_id)


async def send(wallet: Wallet, mint: str, amount: str) -> object:
    return await wallet.send(mint, int(amount), "msat")


async def hold(wallet: Wallet, mint: str, amount: str) -> object:
    return await wallet.hold_exact(mint, int(amount), "msat", "somebody")


async def receive(wallet: Wallet, _mint: str, token: str) -> object:
    return await wallet.receive(Token.parse(token))


async def receive_many(wallet: Wallet, _mint: str, tokens: str) -> object:
    received = await wallet.receive_many([Token.parse(token) for token in tokens.split()])
    for each in received:
        if each.error is not None:
            raise each.error
    return received


async def keep(wallet: Wallet, _mint: str, token: str) -> object:
    kept = await wallet.transactions.run(wallet.keep, await wallet.inspect(Token.parse(token)), None)
    return await wallet.redeem(kept.id)


async def redeem(wallet: Wallet, _mint: str, operation_id: str) -> object:
    return await wallet.redeem(operation_id)


async def reclaim(wallet: Wallet, _mint: str, transfer_id: str) -> object:
    return await wallet.reclaim(transfer_id)


async def melt(wallet: Wallet, _mint: str, quote_id: str) -> object:
    return await wallet.melt(quote_id)


async def lock(wallet: Wallet, mint: str, keys: str) -> object:
    """Lock a token so that whoever has any of the keys can take it."""
    key, *others = keys.split()
    return await wallet.send_locked(
        mint, 200, "msat", P2PK(key, pubkeys=tuple(others), sigflag=SigFlag.SIG_ALL)
    )


async def recover(wallet: Wallet, _mint: str, _nothing: str) -> object:
    return await wallet.recover()


ACTS = {
    "mint": Act("alice", _an_invoice, claim, brings=BROUGHT),
    "send": Act("alice", _no_fitting_proofs, send),
    "receive": Act("bob", _a_token, receive),
    "receive_many": Act("bob", _three_tokens, receive_many),
    "keep": Act("bob", _a_token, keep),
    "redeem": Act("bob", _a_kept_token, redeem),
    "reclaim": Act("alice", _a_transfer, reclaim),
    "melt": Act("alice", _an_offer_to_pay_a_stranger, melt, pays=301, needs=3_000),
    "settle": Act("alice", _an_offer_to_pay_bob, melt, brings=BROUGHT, pays=BROUGHT),
    "lock": Act("alice", _bobs_key, lock),
    "unlock": Act("bob", _a_token_for_bob, receive),
    "refund": Act("alice", _a_transfer_to_both, reclaim),
}
