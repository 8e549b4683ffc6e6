"""Paying Lightning invoices: the mint's offer, proofs that fit it, and how it ended (NUT-05, 08, 23).

The proofs are made to fit amount and reserve before they are given, so that little is locked while a payment
is on its way; blanks for all that could come back are journalled with them.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from sqlalchemy import Connection

from otrta_core import (
    AmountError,
    InvoiceError,
    Keyset,
    OtrtaError,
    Proof,
    Unit,
    blank_outputs,
    input_fee,
    invoice_amount_msat,
    normalize_invoice,
    pick_exact,
    select_proofs,
    split_amount,
)
from otrta_core.amounts import MAX_AMOUNT
from otrta_wallet import at_hand, journal, quotes, store
from otrta_wallet.errors import (
    InvoicePaid,
    NotEnoughFunds,
    QuoteExpired,
    WalletError,
)
from otrta_wallet.executor import Executor
from otrta_wallet.mint_book import MintBook
from otrta_wallet.records import Melt, MeltQuote, Operation, new_operation
from otrta_wallet.schema import ProofStatus
from otrta_wallet.transactions import Transactions

MAX_FITTING: Final = 64
"""The most proofs at hand that a payment is made of without a swap."""
MAX_INPUTS: Final = 1000
_FEES_TRIED: Final = 16

Hold = Callable[[str, int, str, str], Awaitable[Operation]]
Also = Callable[[Connection, float, Operation], None]
_Take = Callable[[Connection], Sequence[Proof] | None]


class Melts:
    """The Lightning payments of a wallet."""

    def __init__(
        self, transactions: Transactions, mints: MintBook, seed: bytes, executor: Executor, hold: Hold
    ) -> None:
        self._db = transactions
        self._mints = mints
        self._seed = seed
        self._executor = executor
        self._hold = hold

    async def request(self, mint: str, bolt11: str, unit: str, *, again: bool) -> MeltQuote:
        """See ``Wallet.request_melt``."""
        request = normalize_invoice(bolt11)
        wanted_msat = invoice_amount_msat(request)
        if wanted_msat is None:
            raise InvoiceError("the invoice leaves the amount to the payer: ask for one that names it")
        counted = Unit.parse(unit)
        if not again:
            await self._db.run(lambda conn, _now: _refuse_second_payment(conn, request))
        reply = await self._mints.client(mint).request_melt_quote(request, unit)
        if reply.unit not in (None, unit) or (reply.request or request).lower() != request:
            raise WalletError("the mint's offer is for another payment than asked")
        if not 0 < counted.at_most(wanted_msat) <= reply.amount <= counted.at_least(wanted_msat):
            raise WalletError("the mint's offer is for another amount than the invoice's")
        if counted.to_msat(reply.amount + reply.fee_reserve) > MAX_AMOUNT:
            raise AmountError("the mint's offer is out of range")
        if reply.state != "UNPAID":
            raise InvoicePaid("the invoice is paid already, or being paid, says the mint")
        now = self._db.now()
        quote = MeltQuote(
            reply.quote,
            mint,
            unit,
            reply.amount,
            reply.fee_reserve,
            request,
            "open",
            reply.expiry or None,
            now,
        )

        def save(conn: Connection, _now: float) -> None:
            if quotes.load_melt_quote(conn, quote.id) is not None:
                raise WalletError("the mint gave an offer that it had given before: ask for another one")
            quotes.save_melt_quote(conn, quote)

        await self._db.run(save)
        return quote

    async def pay(self, quote_id: str, *, reference: str | None, also: Also | None, again: bool) -> Melt:
        """See ``Wallet.melt``."""
        quote, begun = await self._load(quote_id)
        if begun is not None and begun.state in ("prepared", "done"):
            return await self._told(await self._executor.carry_out(begun, ambiguous=True))
        self._require_payable(quote)
        operation_id = uuid.uuid4().hex
        prepare = partial(self._prepare, quote, operation_id, reference, also, again)
        prepared = await self._prepared(quote, operation_id, prepare)
        if prepared is None:  # somebody else was faster
            return await self.pay(quote_id, reference=reference, also=also, again=again)
        return await self._told(await self._executor.carry_out(prepared))

    async def status(self, quote_id: str) -> Melt | None:
        """See ``Wallet.melt_status``."""
        operation = (await self._load(quote_id))[1]
        try:
            if operation is not None and operation.state == "prepared":
                operation = await self._executor.carry_out(operation, ambiguous=True)
        except OtrtaError:
            operation = (await self._load(quote_id))[1]
        return None if operation is None else await self._told(operation)

    async def _load(self, quote_id: str) -> tuple[MeltQuote, Operation | None]:
        """Return an offer, and the operation that pays it or else the last that failed to."""
        quote, operations = await self._db.run(
            lambda conn, _now: (
                quotes.load_melt_quote(conn, quote_id),
                journal.of_quote(conn, quote_id, "melt"),
            )
        )
        if quote is None:
            raise WalletError("this wallet has asked no mint for such a payment")
        counting = [op for op in operations if op.state in ("prepared", "done")]
        return quote, next(reversed(counting or operations), None)

    def _require_payable(self, quote: MeltQuote) -> None:
        if quote.state == "paid":
            raise InvoicePaid("the invoice is paid already, and not with this wallet's money")
        if quote.state == "expired" or (quote.expiry is not None and quote.expiry <= self._db.now()):
            raise QuoteExpired("the mint's offer to pay the invoice has run out: ask again")

    async def _prepared(
        self, quote: MeltQuote, operation_id: str, prepare: Callable[[_Take], Awaitable[Operation | None]]
    ) -> Operation | None:
        """Journal the payment: from proofs at hand that fit, else by a swap, else from what there is."""
        need = quote.amount + quote.fee_reserve
        try:
            return await prepare(lambda conn: _take_fitting(conn, quote, need))
        except _DoNotFitError:
            pass
        keyset = await self._mints.active_keyset(quote.mint, quote.unit)
        try:
            await self._hold(quote.mint, with_input_fee(need, keyset), quote.unit, operation_id)
        except NotEnoughFunds:
            # what a swap would cost may be all that is missing
            return await prepare(lambda conn: _take_reaching(conn, quote, need))
        return await prepare(lambda conn: _take_held(conn, operation_id, self._db.now()))

    async def _prepare(
        self,
        quote: MeltQuote,
        operation_id: str,
        reference: str | None,
        also: Also | None,
        again: bool,
        take: _Take,
    ) -> Operation | None:
        keyset = await self._mints.active_keyset(quote.mint, quote.unit)

        def prepare(conn: Connection, now: float) -> Operation | None:
            if not again:
                _refuse_second_payment(conn, quote.request, but=quote.id)
            if not quotes.set_melt_state(conn, quote.id, was=("open",), now_is="paying"):
                return None
            chosen = take(conn)
            if chosen is None:
                raise _DoNotFitError
            fee = input_fee(chosen, at_hand.fees(conn, quote.mint))
            overshoot = sum(proof.amount for proof in chosen) - fee - quote.amount
            made = new_operation(
                "melt", quote.mint, quote.unit, quote.amount, fee, now, quote_id=quote.id, reference=reference
            )
            operation = replace(made, id=operation_id)
            blanks = [(0, None)] * blank_outputs(overshoot, max(keyset.keys))
            journal.begin(conn, self._seed, operation, chosen, keyset, blanks)
            store.move_proofs(
                conn,
                [proof.Y for proof in chosen],
                was=ProofStatus.AVAILABLE,
                now_is=ProofStatus.RESERVED,
                holder=operation.id,
                now=now,
            )
            if also is not None:
                also(conn, now, operation)
            return operation

        return await self._db.run(prepare)

    async def _told(self, operation: Operation) -> Melt:
        def told(conn: Connection, _now: float) -> Melt:
            quote = quotes.load_melt_quote(conn, operation.quote_id or "")
            swaps = journal.by_reference(conn, operation.id)
            paid = operation.state == "done"
            fee = sum(swap.fee for swap in swaps if swap.state == "done")
            return Melt(
                operation.id,
                operation.mint,
                operation.unit,
                operation.amount,
                fee + (operation.fee if paid else 0),
                "paid" if paid else "failed" if operation.state == "failed" else "pending",
                quote.preimage if quote is not None and paid else None,
                operation.error,
            )

        return await self._db.run(told)


class _DoNotFitError(Exception):
    """Rolls the preparation back: the proofs at hand do not fit as they are."""


def fitting(proofs: Sequence[Proof], need: int, fees: Mapping[str, int]) -> list[Proof] | None:
    """Return proofs that are worth exactly ``need`` after their own input fee, or None.

    Args:
        proofs: to choose from.
        need: above zero, in their unit.
        fees: input fee in ppk by keyset id.
    """
    dearest = max((fees.get(proof.id, 0) for proof in proofs), default=0)
    for fee in range(min((MAX_FITTING * dearest + 999) // 1000 + 1, _FEES_TRIED)):
        chosen = pick_exact(proofs, need + fee, max_proofs=MAX_FITTING)
        if chosen is not None and input_fee(chosen, fees) == fee:
            return chosen
    return None


def with_input_fee(need: int, keyset: Keyset) -> int:
    """Return an amount that, made into proofs of a keyset, is worth ``need`` after their input fee."""
    amount = need
    while (short := need + _own_fee(amount, keyset) - amount) > 0:
        amount += short
    return amount


def _own_fee(amount: int, keyset: Keyset) -> int:
    return (len(split_amount(amount, keyset.keys)) * keyset.input_fee_ppk + 999) // 1000


def _take_fitting(conn: Connection, quote: MeltQuote, need: int) -> Sequence[Proof] | None:
    taken = at_hand.take(
        conn,
        quote.mint,
        quote.unit,
        lambda usable, fees: fitting(usable, need, fees),
        want=need + _FEES_TRIED,
        most=MAX_FITTING,
    )
    return None if taken is None else taken.proofs


def _take_reaching(conn: Connection, quote: MeltQuote, need: int) -> Sequence[Proof]:
    def pick(usable: Sequence[Proof], fees: Mapping[str, int]) -> Sequence[Proof] | None:
        return select_proofs(usable, need, fee=lambda ps: input_fee(ps, fees), max_proofs=MAX_INPUTS)

    taken = at_hand.take(conn, quote.mint, quote.unit, pick, want=need)
    if taken is None:
        available = at_hand.worth(conn, quote.mint, quote.unit)
        raise NotEnoughFunds(
            f"paying this may take {need} {quote.unit} and input fees, and {available} can be spent there"
        )
    return taken.proofs


def _take_held(conn: Connection, holder: str, now: float) -> Sequence[Proof]:
    held = store.proofs_with(conn, status=ProofStatus.HELD, holder=holder)
    if not held:
        raise NotEnoughFunds("what was set aside for this payment has been let go: pay again")
    ys = [proof.Y for proof in held]
    store.move_proofs(conn, ys, was=ProofStatus.HELD, now_is=ProofStatus.AVAILABLE, holder=None, now=now)
    return held


def _refuse_second_payment(conn: Connection, request: str, *, but: str | None = None) -> None:
    """Raise InvoicePaid where this wallet has paid an invoice, or is paying it, by another quote."""
    states = {quote.state for quote in quotes.melt_quotes_for(conn, request) if quote.id != but}
    if states & {"paying", "paid"}:
        done = "has paid this invoice already" if "paid" in states else "is paying this invoice already"
        raise InvoicePaid(f"this wallet {done}: see `otrta history`")
