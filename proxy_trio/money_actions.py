"""Wallet actions that show or move money."""

from collections.abc import Sequence
from typing import Any

from otrta_core import P2PK, AmountError, Token, Unit, format_msat
from otrta_wallet import MintNotKnown, NotEnoughFunds, QuoteNotPaid, TokenSpent, Transfer, WalletError
from otrta_wallet.mint_url import normalize_mint_url
from otrta_wallet.quotes import load_quote
from proxy_trio import activity as activity_reports
from proxy_trio import calls, reports
from proxy_trio.action_params import (
    ActivityParams,
    AmountParams,
    HistoryParams,
    NoParams,
    PlaceParams,
    QuoteIdParams,
    ReceiveParams,
    RecoverParams,
    SendParams,
    SentParams,
    SpendingParams,
)
from proxy_trio.client import Client
from proxy_trio.schema import CallState

_UNITS = (Unit.MSAT, Unit.SAT)


async def balance(client: Client, _params: NoParams) -> dict[str, Any]:
    """Tell what the wallet has."""
    return await client.wallet.transactions.run(reports.balance)


async def history(client: Client, params: HistoryParams) -> list[dict[str, Any]]:
    """Tell what happened, newest first."""
    return await client.wallet.transactions.run(reports.history, params.limit)


async def activity(client: Client, params: ActivityParams) -> dict[str, Any]:
    """Tell a part of what happened, newest first, with each call's gateway and tokens."""
    return await client.wallet.transactions.run(activity_reports.page, params.offset, params.limit)


async def spending(client: Client, params: SpendingParams) -> dict[str, Any]:
    """Tell what calls cost by day and model."""
    return await client.wallet.transactions.run(activity_reports.spending, params.days)


async def pending(client: Client, _params: NoParams) -> list[dict[str, Any]]:
    """Tell which payments are not settled."""
    return await client.wallet.transactions.run(reports.pending)


async def receive(client: Client, params: ReceiveParams) -> dict[str, Any]:
    """Take a token: it is swapped at its mint before this returns."""
    token = Token.parse(params.token)
    try:
        operation = await client.wallet.receive(token)
    except MintNotKnown:
        raise MintNotKnown(
            f"The token is of {token.mint}, a mint that this wallet does not use; it was not touched. "
            f"If you trust that mint: `otrta mints add {token.mint}`, then receive it again."
        ) from None
    unit = Unit.parse(operation.unit)
    return {
        "amount_msat": unit.to_msat(operation.amount),
        "fee_msat": unit.to_msat(operation.fee),
        "mint": operation.mint,
        "unit": operation.unit,
    }


async def send(client: Client, params: SendParams) -> dict[str, Any]:
    """Make a token of exactly the amount, or of at least so much without asking the mint."""
    mint, unit, amount = await _source(client, params)

    async def make() -> Transfer:
        if params.lock is None:
            return await client.wallet.send(mint, amount, unit, exact=not params.at_least, memo=params.memo)
        lock = _lock(client, params.lock, params.refund_after_s)
        return await client.wallet.send_locked(mint, amount, unit, lock, memo=params.memo)

    try:
        transfer = await make()
    except NotEnoughFunds:
        # some of what is available may be change that waits for its swap
        if not await client.swapper.swap_now(mint, unit):
            raise
        transfer = await make()
    return {
        "id": transfer.id,
        "token": transfer.token,
        "amount_msat": unit.to_msat(transfer.amount),
        "mint": mint,
        "unit": unit.value,
    }


async def sent(client: Client, _params: NoParams) -> list[dict[str, Any]]:
    """Tell which tokens were sent and are not known to be claimed, oldest first, without their text."""
    return [_told(transfer) for transfer in await _sent(client)]


async def sent_show(client: Client, params: SentParams) -> dict[str, Any]:
    """Return a sent token again."""
    transfer = await _one_sent(client, params.id)
    return {**_told(transfer), "token": transfer.token}


async def sent_cancel(client: Client, params: SentParams) -> dict[str, Any]:
    """Take a sent token back, by swapping it before its receiver does."""
    transfer = await _one_sent(client, params.id)
    try:
        operation = await client.wallet.reclaim(transfer.id)
    except TokenSpent:
        raise TokenSpent(
            "Its receiver was first, or it was taken back before: there is nothing left to cancel."
        ) from None
    unit = Unit.parse(operation.unit)
    return {
        "id": transfer.id,
        "amount_msat": unit.to_msat(operation.amount),
        "fee_msat": unit.to_msat(operation.fee),
        "mint": operation.mint,
        "unit": operation.unit,
    }


async def invoice(client: Client, params: AmountParams) -> dict[str, Any]:
    """Ask a mint for an invoice that tops the wallet up when it is paid."""
    mints = mints_for(client, params)
    if not mints:
        raise MintNotKnown("This wallet uses no mint yet. Add one that you trust: `otrta mints add URL`.")
    mint = mints[0]
    offered = await _units(client, mint)
    units = [unit for unit in wanted_units(params) if unit in offered]
    if not units:
        raise MintNotKnown(f"The mint {mint} makes no e-cash in {' or '.join(wanted_units(params))}.")
    unit = units[0]
    quote = await client.wallet.request_invoice(mint, _whole(unit, params.amount_msat), unit)
    return {
        "quote_id": quote.id,
        "request": quote.request,
        "amount_msat": unit.to_msat(quote.amount),
        "mint": mint,
        "unit": unit.value,
        "expiry": quote.expiry,
    }


async def invoice_show(client: Client, params: QuoteIdParams) -> dict[str, Any]:
    """Return an invoice that this wallet asked for again, and how it stands as far as is known."""
    quote = await client.wallet.transactions.run(lambda conn, _now: load_quote(conn, params.quote_id))
    if quote is None:
        raise WalletError("This wallet asked for no such invoice.")
    unit = Unit.parse(quote.unit)
    return {
        "quote_id": quote.id,
        "request": quote.request,
        "amount_msat": unit.to_msat(quote.amount),
        "mint": quote.mint,
        "unit": unit.value,
        "since": quote.created_at,
        "expiry": quote.expiry,
        "state": quote.state,
    }


async def claim_invoice(client: Client, params: QuoteIdParams) -> dict[str, Any]:
    """Turn a paid invoice into e-cash; asking again for one that was issued changes nothing."""
    try:
        amount = await client.wallet.claim_quote(params.quote_id)
    except QuoteNotPaid:
        return {"paid": False, "amount_msat": 0}
    quote = await client.wallet.transactions.run(lambda conn, _now: load_quote(conn, params.quote_id))
    unit = Unit.parse(quote.unit) if quote is not None else Unit.MSAT
    return {"paid": True, "amount_msat": unit.to_msat(amount)}


async def invoices(client: Client, _params: NoParams) -> list[dict[str, Any]]:
    """Tell which invoices have not been paid, as far as known, oldest first."""
    return [
        {
            "quote_id": quote.id,
            "amount_msat": Unit.parse(quote.unit).to_msat(quote.amount),
            "mint": quote.mint,
            "unit": quote.unit,
            "since": quote.created_at,
            "expiry": quote.expiry,
            "state": quote.state,
        }
        for quote in await client.wallet.quotes("open", "minting", "expired")
    ]


async def recover(client: Client, params: RecoverParams) -> dict[str, Any]:
    """End what can be ended now; ``open`` says how much may still end by itself."""
    still_open = await client.recover_once(at_once=True, expired=params.expired)
    await client.swapper.swap_now()
    disputed = await client.wallet.transactions.run(
        lambda conn, _now: calls.with_states(conn, [CallState.DISPUTED])
    )
    return {"open": still_open, "disputed": len(disputed), "unswapped": len(await client.wallet.kept())}


async def pubkey(client: Client, _params: NoParams) -> dict[str, Any]:
    """Tell the public key that tokens for this wallet can be locked to."""
    return {"pubkey": client.wallet.lock_keys.public}


async def _sent(client: Client) -> list[Transfer]:
    """Return the open transfers that the user made; a call's token is its payment's."""
    return [transfer for transfer in await client.wallet.transfers() if transfer.reference is None]


async def _one_sent(client: Client, beginning: str) -> Transfer:
    """Return the one open transfer whose id begins so.

    Raises:
        WalletError: there is none, or more than one.
    """
    found = [transfer for transfer in await _sent(client) if transfer.id.startswith(beginning)]
    if len(found) > 1:
        raise WalletError("Several sent tokens have an id that begins so: give more of it.")
    if not found:
        raise WalletError(
            "No unclaimed token of this id was sent from here; `otrta send --list` shows those that were."
        )
    return found[0]


def _told(transfer: Transfer) -> dict[str, Any]:
    return {
        "id": transfer.id,
        "amount_msat": Unit.parse(transfer.unit).to_msat(transfer.amount),
        "mint": transfer.mint,
        "unit": transfer.unit,
        "since": transfer.created_at,
        "memo": None if transfer.token is None else Token.parse(transfer.token).memo,
    }


def _lock(client: Client, key: str, refund_after_s: int | None) -> P2PK:
    """Return the lock of a token to send, which falls back to this wallet's key unless that is not wanted."""
    if refund_after_s is None:
        return P2PK(key)
    until = int(client.wallet.transactions.now()) + refund_after_s
    return P2PK(key, locktime=until, refund=(client.wallet.lock_keys.public,))


def mints_for(client: Client, params: PlaceParams) -> Sequence[str]:
    """Return the mints that an action may use: the named one, else all.

    Raises:
        MintNotKnown: this wallet does not use the named one.
    """
    known = client.wallet.mints.urls
    if params.mint is None:
        return known
    url = normalize_mint_url(params.mint)
    if url not in known:
        raise MintNotKnown(
            f"This wallet does not use {url}. If you trust that mint: `otrta mints add {url}`."
        )
    return [url]


def wanted_units(params: PlaceParams) -> Sequence[Unit]:
    """Return the units that an action may use: the named one, else all."""
    return _UNITS if params.unit is None else (params.unit,)


async def _units(client: Client, mint: str) -> set[str]:
    """Return the units of a mint's e-cash, asking it where it was never reached."""
    if not client.wallet.mints.units(mint):
        await client.wallet.mints.refresh(mint)
    return set(client.wallet.mints.units(mint))


def _whole(unit: Unit, amount_msat: int) -> int:
    if amount_msat % unit.msat:
        raise AmountError(f"{format_msat(amount_msat)} cannot be made of {unit.value} e-cash: use whole sat.")
    return amount_msat // unit.msat


async def _source(client: Client, params: AmountParams) -> tuple[str, Unit, int]:
    """Return the first mint and unit with enough, and the amount there."""
    mints = mints_for(client, params)
    shown = await client.wallet.transactions.run(reports.balance)
    have = {(row["url"], row["unit"]): int(row["available"]) for row in shown["mints"]}
    uneven = 0
    for mint in mints:
        for unit in wanted_units(params):
            if unit.to_msat(have.get((mint, unit.value), 0)) < params.amount_msat:
                continue
            if params.amount_msat % unit.msat == 0:
                return mint, unit, params.amount_msat // unit.msat
            uneven += 1
    if uneven:
        _whole(Unit.SAT, params.amount_msat)
    best = max(
        (unit.to_msat(have.get((m, unit.value), 0)) for m in mints for unit in wanted_units(params)),
        default=0,
    )
    raise NotEnoughFunds(
        f"{format_msat(params.amount_msat)} were asked for, and at most {format_msat(best)} can be spent at "
        "one mint, which a token is made of. See `otrta balance`; top up with `otrta invoice AMOUNT`."
    )
