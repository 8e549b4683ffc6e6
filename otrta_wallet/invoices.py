"""Topping up: a mint's invoice, and the e-cash that it turns into when it is paid (NUT-04, NUT-23)."""

from dataclasses import replace

from sqlalchemy import Connection

from otrta_core import OtrtaError, split_for_change
from otrta_core.amounts import MAX_AMOUNT, Unit
from otrta_core.errors import AmountError
from otrta_wallet import journal, polling, quotes
from otrta_wallet.errors import QuoteNotPaid, WalletError
from otrta_wallet.executor import Executor
from otrta_wallet.mint_book import MintBook
from otrta_wallet.records import Operation, Quote, new_operation
from otrta_wallet.transactions import Transactions


class Invoices:
    """The mint quotes of a wallet."""

    def __init__(self, transactions: Transactions, mints: MintBook, seed: bytes, executor: Executor) -> None:
        self._db = transactions
        self._mints = mints
        self._seed = seed
        self._executor = executor

    async def request(self, mint: str, amount: int, unit: str) -> Quote:
        """See ``Wallet.request_invoice``."""
        if not 0 < Unit.parse(unit).to_msat(amount) <= MAX_AMOUNT:
            raise AmountError("an invoice's amount must be more than zero and fit 63 bits of msat")
        await self._mints.know(mint)
        reply = await self._mints.client(mint).request_mint_quote(amount, unit)
        if reply.amount not in (None, amount) or reply.unit not in (None, unit):
            raise WalletError("the mint's invoice is for another amount than asked")
        quote = Quote(reply.quote, mint, unit, amount, reply.request, "open", reply.expiry)

        def save(conn: Connection, now: float) -> Quote:
            if quotes.load_quote(conn, quote.id) is not None:
                raise WalletError("the mint gave an invoice that it had given before: ask for another one")
            quotes.save_quote(conn, quote, now)
            return replace(quote, created_at=now)

        return await self._db.run(save)

    async def look(self, quote: Quote) -> bool:
        """Claim a quote if it is paid, and note when to look next; tells whether it was claimed.

        One whose time is over is given up only by a mint that says that it is not paid.

        Raises:
            MintError: as ``claim``; it is looked at again.
        """
        try:
            await self.claim(quote.id)
        except QuoteNotPaid:
            await self._db.run(_not_paid, quote)
            return False
        except OtrtaError:
            await self._db.run(_not_told, quote)
            raise
        return True

    async def claim(self, quote_id: str) -> int:
        """See ``Wallet.claim_quote``."""
        quote, minted = await self._db.run(
            lambda conn, _now: (quotes.load_quote(conn, quote_id), journal.of_quote(conn, quote_id))
        )
        if quote is None:
            raise WalletError("this wallet has no such quote")
        if quote.state == "issued":
            return quote.amount
        for operation in minted:
            if operation.state == "prepared":
                return (await self._executor.carry_out(operation, ambiguous=True)).amount
        state = (await self._mints.client(quote.mint).mint_quote(quote.id)).state
        if state not in ("PAID", "ISSUED"):
            if await self._db.run(lambda conn, _now: quotes.load_quote(conn, quote_id)) != quote:
                return await self.claim(quote_id)  # another task is minting it, hence the mint's PENDING
            raise QuoteNotPaid("the invoice has not been paid yet")
        if state == "ISSUED":
            for operation in minted:
                if await self._executor.look_again(operation):
                    return quote.amount
        if quote.state == "lost":
            raise WalletError("the invoice's e-cash was issued already, and not to this wallet")
        keyset = await self._mints.active_keyset(quote.mint, quote.unit)
        amounts = [(a, None) for a in split_for_change(quote.amount, keyset.keys)]

        def prepare(conn: Connection, now: float) -> Operation | None:
            if not quotes.set_quote_state(conn, quote.id, was=("open", "expired"), now_is="minting"):
                return None
            operation = new_operation("mint", quote.mint, quote.unit, quote.amount, 0, now, quote_id=quote.id)
            return journal.begin(conn, self._seed, operation, (), keyset, amounts)

        prepared = await self._db.run(prepare)
        if prepared is None:  # somebody else was faster: they mint it, or have minted it
            return await self.claim(quote_id)
        return (await self._executor.carry_out(prepared)).amount


def _not_paid(conn: Connection, now: float, quote: Quote) -> None:
    next_look_at = polling.next_quote_look(quote.created_at, quote.expiry, now)
    if next_look_at is not None:
        quotes.put_off_quote(conn, quote.id, next_look_at)
    else:
        quotes.set_quote_state(conn, quote.id, was=("open",), now_is="expired")


def _not_told(conn: Connection, now: float, quote: Quote) -> None:
    quotes.put_off_quote(conn, quote.id, polling.next_look(quote.created_at, now))
