"""Wallet actions that pay Lightning invoices."""

from typing import Any

from otrta_core import OtrtaError, Unit, format_msat, invoice_amount_msat
from otrta_wallet import InvoicePaid, Melt, MeltQuote, NotEnoughFunds, OutcomeUnknown, WalletError
from proxy_trio import reports
from proxy_trio.action_params import InvoiceParams, PayParams, QuoteIdParams
from proxy_trio.client import Client
from proxy_trio.money_actions import mints_for, wanted_units


async def pay_quote(client: Client, params: InvoiceParams) -> dict[str, Any]:
    """Ask what paying an invoice may take, at the first mint that would and has enough; nothing is spent."""
    amount_msat = invoice_amount_msat(params.invoice) or 0
    shown = await client.wallet.transactions.run(reports.balance)
    have = {(row["url"], row["unit"]): int(row["available"]) for row in shown["mints"]}
    refusal: OtrtaError | None = None
    for mint in mints_for(client, params):
        for unit in wanted_units(params):
            there = have.get((mint, unit.value), 0)
            if there == 0 or unit.to_msat(there) < amount_msat:
                continue
            try:
                quote = await client.wallet.request_melt(mint, params.invoice, unit, again=params.again)
            except InvoicePaid:
                raise
            except WalletError as error:
                refusal = refusal or error
                continue
            if quote.amount + quote.fee_reserve <= there:
                return _offered(quote)
            refusal = refusal or _too_little(unit, quote, there)
    if refusal is not None:
        raise refusal
    best = max((Unit.parse(unit).to_msat(amount) for (_, unit), amount in have.items()), default=0)
    raise NotEnoughFunds(
        f"The invoice asks for {format_msat(amount_msat)}, and at most {format_msat(best)} can be spent at "
        "one mint. See `otrta balance`; top up with `otrta invoice AMOUNT`."
    )


async def pay(client: Client, params: PayParams) -> dict[str, Any]:
    """Pay an invoice by a mint's offer; asking again for one that is paid changes nothing."""
    wallet = client.wallet
    try:
        try:
            melt = await wallet.melt(params.quote_id, again=params.again)
        except NotEnoughFunds:
            # some of what is available may be change that waits for its swap
            if not await client.swapper.swap_now():
                raise
            melt = await wallet.melt(params.quote_id, again=params.again)
    except OutcomeUnknown:
        return await pay_status(client, QuoteIdParams(quote_id=params.quote_id))
    return _told(melt)


async def pay_status(client: Client, params: QuoteIdParams) -> dict[str, Any]:
    """Tell how a payment stands, and end it where it has ended."""
    melt = await client.wallet.melt_status(params.quote_id)
    if melt is None:
        raise WalletError("This payment was never begun.")
    return _told(melt)


def _too_little(unit: Unit, quote: MeltQuote, there: int) -> NotEnoughFunds:
    return NotEnoughFunds(
        f"Paying may take {format_msat(unit.to_msat(quote.amount + quote.fee_reserve))} with its fee, and "
        f"{format_msat(unit.to_msat(there))} can be spent at {quote.mint}. "
        "Top up with `otrta invoice AMOUNT`."
    )


def _offered(quote: MeltQuote) -> dict[str, Any]:
    unit = Unit.parse(quote.unit)
    return {
        "quote_id": quote.id,
        "amount_msat": unit.to_msat(quote.amount),
        "fee_reserve_msat": unit.to_msat(quote.fee_reserve),
        "mint": quote.mint,
        "unit": unit.value,
        "expiry": quote.expiry,
    }


def _told(melt: Melt) -> dict[str, Any]:
    unit = Unit.parse(melt.unit)
    return {
        "state": melt.state,
        "amount_msat": unit.to_msat(melt.amount),
        "fee_msat": unit.to_msat(melt.fee),
        "mint": melt.mint,
        "unit": unit.value,
        "preimage": melt.preimage,
        "error": melt.error,
    }
