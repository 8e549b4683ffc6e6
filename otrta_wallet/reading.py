"""What a wallet can tell at once, without a mint."""

from sqlalchemy import Connection

from otrta_wallet import journal, quotes, store
from otrta_wallet.records import HistoryEntry, MintBalance, Operation, Quote, StoredQuoteState, Transfer
from otrta_wallet.seed import normalize_words, words_of
from otrta_wallet.transactions import Transactions


class Reading:
    """What is in a wallet's database.

    Attributes:
        transactions: on it.
    """

    def __init__(self, transactions: Transactions) -> None:
        self.transactions = transactions

    async def balances(self) -> list[MintBalance]:
        """Return what is available and pending, by mint and unit."""
        return await self.transactions.run(lambda conn, _now: store.balances(conn))

    async def history(self, limit: int = 100) -> list[HistoryEntry]:
        """Return the newest entries of the history, newest first."""
        return await self.transactions.run(lambda conn, _now: store.read_history(conn, limit))

    async def open_operations(self) -> list[Operation]:
        """Return the operations whose outcome is not known yet."""

        def still_open(conn: Connection, _now: float) -> list[Operation]:
            return [*journal.with_state(conn, "prepared"), *journal.with_state(conn, "waiting")]

        return await self.transactions.run(still_open)

    async def transfers(self) -> list[Transfer]:
        """Return the tokens that left and are not known to be claimed."""
        return await self.transactions.run(lambda conn, _now: store.load_transfers(conn, state="open"))

    async def transfer(self, transfer_id: str) -> Transfer | None:
        """Return a token that left, in whatever state, or None where there is none of this id."""
        found = await self.transactions.run(
            lambda conn, _now: store.load_transfers(conn, transfer_id=transfer_id)
        )
        return next(iter(found), None)

    async def quotes(self, *states: StoredQuoteState) -> list[Quote]:
        """Return the invoices in these states, oldest first."""
        return await self.transactions.run(lambda conn, _now: quotes.quotes_in(conn, *states))

    async def kept(self) -> list[Operation]:
        """Return the tokens that are kept and not yet swapped, oldest first."""
        return await self.transactions.run(lambda conn, _now: journal.with_state(conn, "stored"))

    async def words(self) -> str:
        """Return the seed's BIP-39 words. Whoever has them has the money."""
        return await self.transactions.run(words_of)

    async def has_words(self, words: str) -> bool:
        """Tell whether these are the words of this wallet's seed, however they are typed.

        Raises:
            WalletError: they are no words of a seed.
        """
        return normalize_words(words) == normalize_words(await self.words())
