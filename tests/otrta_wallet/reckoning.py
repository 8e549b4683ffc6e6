"""Counting a wallet's money, and asking the mint whether it is really there."""

from typing import get_args

import anyio
from sqlalchemy import func, select

from otrta_wallet import QuoteNotPaid, Wallet
from otrta_wallet.records import StoredQuoteState
from otrta_wallet.schema import ProofStatus, operations, proofs


async def top_up(wallet: Wallet, mint: str, amount: int, unit: str = "msat") -> None:
    """Mint through an invoice, which the mint pays by itself when it is looked at."""
    quote = await wallet.request_invoice(mint, amount, unit)
    for _ in range(20):
        try:
            assert await wallet.claim_quote(quote.id) == amount
        except QuoteNotPaid:  # asked while the mint was just noticing the payment
            await anyio.sleep(0.01)
        else:
            return
    raise AssertionError("the mint does not pay its own invoice")


async def available(wallet: Wallet, unit: str = "msat") -> int:
    return sum(b.available for b in await wallet.balances() if b.unit == unit)


async def pending(wallet: Wallet, unit: str = "msat") -> int:
    return sum(b.pending for b in await wallet.balances() if b.unit == unit)


async def fees_paid(wallet: Wallet, unit: str = "msat") -> int:
    query = select(func.coalesce(func.sum(operations.c.fee), 0)).where(
        operations.c.state == "done", operations.c.unit == unit
    )
    return await wallet.transactions.run(lambda conn, _now: conn.execute(query).scalar_one())


async def paid_out(wallet: Wallet, unit: str = "msat") -> int:
    """What went to invoices that others had made."""
    query = select(func.coalesce(func.sum(operations.c.amount), 0)).where(
        operations.c.state == "done", operations.c.kind == "melt", operations.c.unit == unit
    )
    return await wallet.transactions.run(lambda conn, _now: conn.execute(query).scalar_one())


async def accounted_for(*wallets: Wallet, unit: str = "msat") -> int:
    """What these wallets have, have under way, and have paid for invoices and in fees.

    A token on its way from one to the other counts once: with its sender, until that one knows better.
    """
    total = 0
    for wallet in wallets:
        total += await available(wallet, unit) + await pending(wallet, unit)
        total += await fees_paid(wallet, unit) + await paid_out(wallet, unit)
    return total


async def came_in(*wallets: Wallet, unit: str = "msat") -> int:
    """What the wallets' invoices have brought; each must have been paid and turned into e-cash."""
    total = 0
    for wallet in wallets:
        quotes = [quote for quote in await wallet.quotes(*get_args(StoredQuoteState)) if quote.unit == unit]
        assert {quote.state for quote in quotes} <= {"issued"}
        total += sum(quote.amount for quote in quotes)
    return total


async def states_at_the_mint(wallet: Wallet, status: ProofStatus) -> set[str]:
    """The states that the mint gives for the wallet's proofs of a status."""
    rows = await wallet.transactions.run(
        lambda conn, _now: conn.execute(
            select(proofs.c.mint, proofs.c.y).where(proofs.c.status == status)
        ).all()
    )
    found = set()
    for mint in {row.mint for row in rows}:
        ys = [row.y for row in rows if row.mint == mint]
        found |= set((await wallet.mints.client(mint).check_state(ys)).values())
    return found


async def assert_really_there(*wallets: Wallet) -> None:
    """Every proof that a wallet counts as available can be spent, and every spent one is spent."""
    for wallet in wallets:
        assert await states_at_the_mint(wallet, ProofStatus.AVAILABLE) <= {"UNSPENT"}
        assert await states_at_the_mint(wallet, ProofStatus.SPENT) <= {"SPENT"}


async def not_spent(*wallets: Wallet) -> dict[str, int]:
    """The proofs, by Y with their amounts, that a wallet has and none knows as spent.

    A token on its way, which both sides know, counts once.
    """
    found, spent = {}, set()
    query = select(proofs.c.y, proofs.c.amount, proofs.c.status)
    for wallet in wallets:
        for row in await wallet.transactions.run(lambda conn, _now: conn.execute(query).all()):
            if row.status == ProofStatus.SPENT:
                spent.add(row.y)
            else:
                found[row.y] = row.amount
    return {y: amount for y, amount in found.items() if y not in spent}
