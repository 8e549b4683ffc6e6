"""The wallet: what both sides call.

Every method that moves money first commits what it intends, then acts, then commits what came of it. So a
cancelled call, a crash or a lost reply leaves a journalled operation that ``recover`` ends.
"""

import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Self

import httpx
from anyio import to_thread
from sqlalchemy import Connection

from otrta_core import P2PK, OtrtaError, Token
from otrta_wallet import journal
from otrta_wallet.batches import MAX_INPUTS, Batches, Wanted
from otrta_wallet.copies import catch_up, set_aside, take_back
from otrta_wallet.custody import close_transfer, take_token, undo_transfer
from otrta_wallet.database import open_engine, sole_owner, upgrade
from otrta_wallet.executor import Executor
from otrta_wallet.incoming import Incoming, check_dleq, inspect
from otrta_wallet.invoices import Invoices
from otrta_wallet.lock_keys import LockKeys
from otrta_wallet.locked_sends import LockedSends
from otrta_wallet.melts import Melts
from otrta_wallet.mint_book import MintBook
from otrta_wallet.mint_client import new_http_client
from otrta_wallet.own_swaps import OwnSwaps
from otrta_wallet.reading import Reading
from otrta_wallet.receiving import Received, Receiving, queue
from otrta_wallet.reclaiming import reclaim
from otrta_wallet.records import Melt, MeltQuote, Operation, Quote, Restored, Transfer
from otrta_wallet.recovery import Recovery, recover
from otrta_wallet.restore import EMPTY_BATCHES, Restorer
from otrta_wallet.seed import normalize_words, seed_of, use_words, words_of
from otrta_wallet.sending import MAX_PROOFS, Handing, Sending
from otrta_wallet.transactions import Transactions
from otrta_wallet.upkeep import Upkeep
from otrta_wallet.workers import Worker, enroll

__all__ = ["MAX_PROOFS", "VERSION_TABLE", "Incoming", "Wallet"]

VERSION_TABLE = "wallet_version"


class Wallet(Reading):
    """A wallet on one database. Made by ``Wallet.open``.

    On SQLite one process has it at a time, on PostgreSQL as many as want to, on any machines.

    Attributes:
        transactions: on its database.
        mints: those it uses.
        lock_keys: the keys that open locked tokens; others lock theirs to ``lock_keys.public``.
        worker: this process among those that share the database.
    """

    def __init__(
        self,
        transactions: Transactions,
        mints: MintBook,
        seed: bytes,
        lock_keys: LockKeys,
        executor: Executor,
        worker: Worker,
    ) -> None:
        super().__init__(transactions)
        self.mints = mints
        self.lock_keys = lock_keys
        self.worker = worker
        self._seed = seed
        self._executor = executor
        self._own_swaps = OwnSwaps(transactions, mints, seed, executor)
        self._invoices = Invoices(transactions, mints, seed, executor)
        self._batches = Batches(transactions, mints, seed, executor)
        self._receiving = Receiving(transactions, mints, seed, executor, self._batches)
        self._sending = Sending(transactions, mints, seed, self._own_swaps)
        self._melts = Melts(transactions, mints, seed, executor, self._sending.hold_exact)
        self._locked_sends = LockedSends(transactions, mints, seed, self._own_swaps)
        self._restorer = Restorer(transactions, mints, seed)
        self._upkeep = Upkeep(transactions, mints, self._own_swaps)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        *,
        participants: Sequence[journal.Participant] = (),
        migrations: Sequence[tuple[str, str]] = (),
        clock: Callable[[], float] = time.time,
        http: httpx.AsyncClient | None = None,
        words: str | None = None,
    ) -> AsyncIterator[Self]:
        """Open the wallet in a database, which is made if there is none.

        Args:
            url: SQLAlchemy URL, of SQLite or PostgreSQL.
            participants: whose rows change together with operations.
            migrations: further packages with tables in this database, each with its version table.
            clock: unix time.
            http: the client that talks to mints; one is made where none is given.
            words: the BIP-39 words of its seed; None for its own, which are made for a new wallet.

        Raises:
            WalletBusy: another process has it open, on SQLite.
            SeedInUse: it has words of its own and has been used with them, or can be by another worker.
            StoreUnavailable: the PostgreSQL server cannot be used.
            WalletError: the URL is not one of a store, the driver is missing, or the words are no seed's.
        """
        async with AsyncExitStack() as stack:
            stack.enter_context(sole_owner(url))
            engine = open_engine(url)
            stack.callback(engine.dispose)
            for package, version_table in (("otrta_wallet", VERSION_TABLE), *migrations):
                await to_thread.run_sync(upgrade, engine, package, version_table)
            worker = await stack.enter_async_context(enroll(engine))
            transactions = Transactions(worker.engine, clock)
            if words is not None:
                await transactions.run(use_words, normalize_words(words), shared=worker.shared)
            seed = await to_thread.run_sync(seed_of, await transactions.run(words_of))
            client = new_http_client() if http is None else http
            if http is None:
                stack.push_async_callback(client.aclose)
            mints = MintBook(transactions, client, shared=worker.shared)
            await mints.load()
            keys = LockKeys(transactions, seed)
            await keys.load()
            executor = Executor(transactions, mints, seed, keys, participants, worker)
            yield cls(transactions, mints, seed, keys, executor, worker)

    async def request_invoice(self, mint: str, amount: int, unit: str) -> Quote:
        """Ask a mint for an invoice that turns into ``amount`` of e-cash when it is paid.

        Raises:
            AmountError: the unit is not one that is counted here, or the amount out of range.
            MintError: the mint refused or could not be asked; nothing is owed either way.
        """
        return await self._invoices.request(mint, amount, unit)

    async def claim_quote(self, quote_id: str) -> int:
        """Turn a paid quote into e-cash and return the amount, in the quote's unit.

        Raises:
            QuoteNotPaid: not yet.
            MintError: see ``Executor.carry_out``; a paid quote is never forgotten.
            WalletError: there is no such quote, or somebody else had its e-cash issued.
        """
        return await self._invoices.claim(quote_id)

    async def request_melt(self, mint: str, bolt11: str, unit: str, *, again: bool = False) -> MeltQuote:
        """Ask a mint what paying a Lightning invoice would take, at most; nothing is spent yet.

        Args:
            mint: at which.
            bolt11: the invoice.
            unit: of the e-cash to pay with.
            again: also for an invoice that this wallet has paid, or is paying.

        Raises:
            InvoiceError: not an invoice, or one that leaves the amount to the payer.
            InvoicePaid: it was paid before.
            WalletError: the mint's offer is not for this invoice.
            MintError: the mint refused or could not be asked.
        """
        return await self._melts.request(mint, bolt11, unit, again=again)

    async def melt(
        self,
        quote_id: str,
        *,
        reference: str | None = None,
        also: Callable[[Connection, float, Operation], None] | None = None,
        again: bool = False,
    ) -> Melt:
        """Pay an invoice, and return what it cost once it is paid. Asked again it is not paid again.

        Args:
            quote_id: of the mint's offer, from ``request_melt``.
            reference: whose it is; participants see it.
            also: what must be committed together with the journalled payment.
            again: as for ``request_melt``.

        Raises:
            PaymentFailed: the mint could not pay; all but the fee of a swap can be spent again.
            OutcomeUnknown: it is on its way; ``melt_status`` and ``recover`` find out how it ends.
            InvoicePaid, QuoteExpired, NotEnoughFunds: nothing was spent.
            WalletError: there is no such offer.
            the other errors of ``Executor.carry_out``.

        Cancelled, the payment is journalled or was not begun.
        """
        return await self._melts.pay(quote_id, reference=reference, also=also, again=again)

    async def melt_status(self, quote_id: str) -> Melt | None:
        """Ask the mint how a payment stands, and end it where it has ended; None where none was begun.

        Raises:
            WalletError: there is no such offer.
        """
        return await self._melts.status(quote_id)

    async def inspect(self, token: Token) -> Incoming:
        """Say what a token is worth here, without touching it; DLEQ is checked by ``check_dleq``.

        Raises:
            LockError: it is locked in a way that is not accepted, or not to keys of this wallet alone; so is
                one whose lock is malformed, although some mints would let anybody spend it.
            MintNotKnown, UnitMismatch, KeysetError, TokenError, TokenUneconomic: it cannot be taken.
            MintError: a keyset had to be asked for and could not.
        """
        await self.lock_keys.unlocked(token.proofs)
        return await inspect(self.mints, token)

    async def check_dleq(self, incoming: Incoming) -> None:
        """Verify the DLEQ proofs that the token carries (NUT-12), in a thread, up to the first bad one.

        Raises:
            DleqInvalid: one does not hold.
        """
        await check_dleq(self.mints, incoming)

    async def receive(self, token: Token) -> Operation:
        """Take a token at once: check it, swap it, and return the finished operation.

        One of more proofs than a swap takes is taken by several; what is returned has their sums.

        Raises:
            the errors of ``inspect``, ``check_dleq`` and ``Executor.carry_out``. TokenSpent and
            TokenPending also where this wallet itself has the proofs.
            TokenPartlyTaken: of one that takes several swaps, not all succeeded.
        """
        incoming = await self.inspect(token)
        await self.check_dleq(incoming)
        if len(token.proofs) > MAX_INPUTS:
            return await self._receiving.take_in_parts(incoming)
        operation = await self.prepare_receive(incoming)
        return await self._executor.carry_out(operation)

    async def receive_many(self, tokens: Sequence[Token]) -> list[Received]:
        """Take tokens, those of one mint and unit by swaps that they share.

        Each is taken for itself: one that cannot be taken is no hindrance to the others.

        Returns:
            What became of each, in the same order, with the errors that ``receive`` would have raised.

        Cancelled, what is journalled by then is taken by ``recover``.
        """

        async def check(token: Token) -> Incoming:
            incoming = await self.inspect(token)
            await self.check_dleq(incoming)
            return incoming

        return await self._receiving.take_many(tokens, check)

    def queue_receive(
        self,
        conn: Connection,
        now: float,
        incoming: Incoming,
        reference: str | None = None,
        *,
        offline: bool = False,
        due_at: float | None = None,
    ) -> Operation:
        """Journal the taking of a token, inside the caller's transaction; ``carry_out_together`` does it.

        Unlike ``prepare_receive`` it plans no outputs yet, since it may share a swap with others. However it
        is carried out, participants are told of its end as of any other's.

        Args:
            conn: inside a transaction.
            now: unix time.
            incoming: from ``inspect``.
            reference: whose it is; participants see it.
            offline: whether its giver is told that it is taken before its swap is done, as of one that is
                locked to our keys. It then stays here whatever its mint says but that it is spent: refused,
                or with the mint away, it waits for ``queue_again``.
            due_at: when that should be done at the latest, in unix seconds; it is only written down.

        Raises:
            TokenSpent, TokenPending: this wallet has the proofs already.
            TokenTooLarge: it has more proofs than one swap takes.
        """
        return queue(conn, now, incoming, reference, offline=offline, due_at=due_at)

    async def queue_again(self, operation_id: str) -> Operation | None:
        """Journal that an ``offline`` token is to be taken which could not be before, and return it.

        None where there is nothing to do: its swap has landed after all, or somebody else is at it.

        Raises:
            MintError: the mint had to be asked what became of an earlier post, and could not.
        """
        return await self._receiving.queue_again(operation_id)

    async def carry_out_together(
        self, queued: Sequence[Operation], *, wanted: Wanted = None
    ) -> list[Operation | OtrtaError]:
        """Take queued tokens in the fewest swaps, and return for each how it ended.

        Take what is waiting, never wait to fill a batch. Where the mint refuses a shared swap, tokens with a
        spent proof are reported as such, and each of the others is posted alone.

        Args:
            queued: by ``queue_receive``.
            wanted: says how many proofs of each denomination there should be at hand afterwards, in a thread
                and in the transaction that plans a swap; None to make those out of which any smaller amount
                can be paid, whatever is at hand.
        """
        return await self._batches.carry_out(queued, wanted=wanted)

    async def prepare_receive(
        self,
        incoming: Incoming,
        *,
        reference: str | None = None,
        also: Callable[[Connection, float, Operation], None] | None = None,
    ) -> Operation:
        """Journal the taking of a token; ``carry_out`` then does it.

        Args:
            incoming: from ``inspect``.
            reference: whose it is; participants see it.
            also: what must be committed in the same transaction.
        """
        return await self._receiving.prepare(incoming, reference, also)

    async def carry_out(self, operation: Operation) -> Operation:
        """Carry out a prepared operation; see ``Executor.carry_out``."""
        return await self._executor.carry_out(operation)

    def keep(self, conn: Connection, now: float, incoming: Incoming, reference: str | None) -> Operation:
        """Store a token now, inside the caller's transaction, to be swapped later by ``redeem``.

        Raises:
            TokenSpent, TokenPending: this wallet has the proofs already.
        """
        return take_token(conn, now, incoming, "redeem", "stored", reference)

    async def redeem(self, operation_id: str) -> Operation:
        """Swap a kept token to proofs that only this wallet knows.

        Where others have spent a part of it, the rest is kept as a token of its own.

        Raises:
            as ``Executor.carry_out``; where the mint refused without the token being spent, it stays kept.
        """
        return await self._receiving.redeem(operation_id)

    async def send(
        self,
        mint: str,
        amount: int,
        unit: str,
        *,
        exact: bool = True,
        memo: str | None = None,
        with_dleq: bool = False,
        reference: str | None = None,
        record: str | None = "send",
        also: Callable[[Connection, float, Transfer], None] | None = None,
    ) -> Transfer:
        """Make a token of exactly ``amount``, by a swap where the proofs at hand do not fit.

        Arguments as in ``transfer_at_hand``; where not ``exact`` the token is of at least ``amount``, with as
        little beyond it as the proofs at hand allow, and the mint is never asked.

        Raises:
            NotEnoughFunds: too little is available at this mint and in this unit; where not ``exact`` also
                where it would take more than ``MAX_PROOFS`` proofs.
            the errors of ``Executor.carry_out`` where a swap was needed; nothing has left then.
        """
        handing = Handing(memo, with_dleq, reference, record, also)
        return await self._sending.send(mint, amount, unit, handing, exact=exact)

    async def send_locked(
        self,
        mint: str,
        amount: int,
        unit: str,
        lock: P2PK,
        *,
        memo: str | None = None,
        with_dleq: bool = False,
        reference: str | None = None,
    ) -> Transfer:
        """Make a token of exactly ``amount`` that is locked to keys, always by a swap (NUT-11).

        It can be taken back by ``reclaim`` once its lock lets ``lock_keys`` spend it: give it a locktime, and
        ``lock_keys.public`` as refund key.

        Args:
            mint: at which.
            amount: in ``unit``.
            unit: of the proofs.
            lock: who can spend it, and until when.
            memo: put into the token.
            with_dleq: leave DLEQ proofs in, with which its receiver can check it without asking the mint.
            reference: whose it is; without one, the history gets a line.

        Raises:
            LockError: the lock's time is over, or the mint does not keep locks.
            NotEnoughFunds: too little is available at this mint and in this unit.
            the errors of ``Executor.carry_out``. After an unknown outcome or a crash, ``recover`` makes the
            token, and ``transfers`` has it.
        """
        return await self._locked_sends.send(
            mint, amount, unit, lock, memo=memo, with_dleq=with_dleq, reference=reference
        )

    async def transfer_at_hand(
        self,
        mint: str,
        amount: int,
        unit: str,
        *,
        exact: bool = False,
        net_of_fee: bool = False,
        at_most: int | None = None,
        memo: str | None = None,
        with_dleq: bool = False,
        reference: str | None = None,
        record: str | None = None,
        avoid: frozenset[str] = frozenset(),
        also: Callable[[Connection, float, Transfer], None] | None = None,
    ) -> Transfer | None:
        """Make a token from the proofs at hand, without asking the mint; None where they do not reach.

        Args:
            mint: at which.
            amount: in ``unit``; exactly or (by default) at least so much.
            unit: of the proofs.
            exact: nothing above ``amount``.
            net_of_fee: so much must remain after the token's own input fee.
            at_most: give up rather than hand out more than this.
            memo: put into the token.
            with_dleq: leave DLEQ proofs in; they let the mint link the token to its issue.
            reference: whose it is.
            record: kind of the line in the history; None for none.
            avoid: Ys that must not be used.
            also: what must be committed in the same transaction.
        """
        handing = Handing(memo, with_dleq, reference, record, also)
        return await self._sending.at_hand(
            mint, amount, unit, handing, exact=exact, net_of_fee=net_of_fee, at_most=at_most, avoid=avoid
        )

    async def hold_exact(self, mint: str, amount: int, unit: str, holder: str) -> Operation:
        """Swap so that proofs of exactly ``amount`` are made and held for ``holder``.

        Raises:
            NotEnoughFunds: too little is available.
            the errors of ``Executor.carry_out``. What is held for nobody known is let go by ``recover``.
        """
        return await self._sending.hold_exact(mint, amount, unit, holder)

    async def restock(self, mint: str, unit: str, wanted: Mapping[int, int]) -> Operation | None:
        """See ``otrta_wallet.own_swaps.OwnSwaps.restock``."""
        return await self._own_swaps.restock(mint, unit, wanted)

    async def reclaim(self, transfer_id: str) -> Operation:
        """Take back a token that was handed out, by swapping it before its receiver does.

        Raises:
            LockError: it is locked, and not (yet) to keys of this wallet; nothing was done.
            TokenSpent: the receiver was first; the transfer is then claimed.
            TokenUneconomic: the fee would eat it.
            the other errors of ``Executor.carry_out``.
        """
        return await reclaim(
            self.transactions, self.mints, self._seed, self.lock_keys, self._executor, transfer_id
        )

    def undo_transfer(self, conn: Connection, now: float, transfer_id: str) -> None:
        """Put back, inside the caller's transaction, an unlocked token of which no byte has left."""
        undo_transfer(conn, now, transfer_id)

    def close_transfer(self, conn: Connection, now: float, transfer_id: str) -> None:
        """Note, inside the caller's transaction, that the receiver has claimed a token, and erase it."""
        close_transfer(conn, now, transfer_id)

    async def recover(
        self, *, everything: bool = True, expired: bool = False, leave: Collection[str] = ()
    ) -> Recovery:
        """End what was left open; see ``otrta_wallet.recovery``.

        Args:
            leave: ids of queued operations that the caller is about to carry out.
            everything: whether to ask now for all that is waited for, as at a start or where a person wants
                it; on a timer only what is due is asked for, since a mint's time is not ours.
            expired: whether also to ask for invoices that were given up.
        """
        return await self._recover(everything=everything, expired=expired, leave=leave)

    async def _recover(
        self, *, everything: bool, expired: bool, only: str | None = None, leave: Collection[str] = ()
    ) -> Recovery:
        parts = (self, self._executor, self._batches, self._invoices, self._restorer, self._upkeep)
        return await recover(*parts, everything=everything, expired=expired, only=only, leave=leave)

    async def restore(
        self, mint: str, *, empty_batches: int = EMPTY_BATCHES, budget_s: float | None = None
    ) -> Restored:
        """Get back from a mint all that this wallet's seed had signed there and that is not spent.

        Tokens that were sent and never claimed are among it. Doing it again changes nothing; one that was
        stopped anywhere goes on where it was.

        Args:
            mint: its URL; it is added to the wallet's mints.
            empty_batches: after how many hundreds of counters in a row that the mint never signed a keyset
                counts as looked through.
            budget_s: begin no further batch after so long, and return what was done; None for all there are.

        Raises:
            MintError: the mint could not be asked; what was found until then is stored.
            WalletError: the mint has nothing to restore from (NUT-09).
            the errors of ``MintBook.add``.
        """
        if empty_batches < 1:
            raise ValueError("a restore looks at one batch at least")
        mint = await self.mints.add(mint)
        if not await self._restorer.has_begun(mint):
            await self._recover(everything=True, expired=True, only=mint)
        return await self._restorer.run(mint, empty_batches, budget_s)

    async def catch_up_with_copies(self, mint: str, *, empty_batches: int = EMPTY_BATCHES) -> dict[str, int]:
        """Find out what other lives of this wallet have done at a mint, and do not get into their way.

        For a database that is a copy or a backup: what was spent is noted, and counters that were used are
        skipped. Unlike ``restore`` it takes nothing, since what the others made may have been handed out.

        Args:
            mint: its URL, a known one.
            empty_batches: as for ``restore``.

        Returns:
            What is gone, by unit.

        Raises:
            MintError: the mint could not be asked.
            the errors of ``MintBook.add``.
        """
        mint = await self.mints.add(mint)
        return await catch_up(self.transactions, self.mints, self._seed, mint, empty_batches)

    async def set_aside(self, mint: str) -> int:
        """Hand out nothing of what is available at a mint: another life of this wallet may have done so.

        Returns:
            How many proofs that are; they count as pending.
        """
        return await self.transactions.run(set_aside, mint)

    async def take_back(self, mint: str, *, older_than_s: float = 0.0) -> int:
        """Swap to fresh secrets what was set aside at a mint and nobody has spent; returns how many swaps.

        Whoever it was handed out to cannot spend it any more.

        Args:
            mint: its URL, a known one.
            older_than_s: take back only what was set aside so long ago.

        Raises:
            MintError: the mint could not be asked.
            the errors of ``Executor.carry_out``.
        """
        return await take_back(self.transactions, self.mints, self._own_swaps, mint, older_than_s)
