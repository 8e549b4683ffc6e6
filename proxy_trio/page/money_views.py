"""Pages that move money: top up, receive, send, pay. Each form is one wallet action, as a command is."""

import json
from typing import Any

import trio
from starlette.responses import JSONResponse, Response

from otrta_core import OtrtaError, parse_amount_msat
from otrta_core.amounts import format_sat
from proxy_trio.errors import ActionInvalid, PathNotServed
from proxy_trio.page.qr import qr_svg
from proxy_trio.page.rendering import HEADERS
from proxy_trio.page.visit import Visit


async def top_up(visit: Visit) -> Response:
    """Ask how much, and list the invoices that have not been paid."""
    return visit.show(
        "topup.html",
        here="topup",
        mints=await visit.act("mints"),
        invoices=[
            {**invoice, "name": visit.name_of(invoice["quote_id"])} for invoice in await visit.act("invoices")
        ],
    )


async def ask_for_invoice(visit: Visit) -> Response:
    """Have a mint make an invoice."""
    asked = await visit.act("invoice", amount_msat=_amount(visit), **_mint(visit))
    return visit.go(f"invoice/{visit.name_of(asked['quote_id'])}")


async def invoice(visit: Visit) -> Response:
    """Show an invoice; with ``?check`` the mint is asked whether it is paid."""
    quote_id = await _invoice_of(visit)
    if "check" in visit.request.query_params:
        await _claim(visit, quote_id)
    shown = await visit.act("invoice_show", quote_id=quote_id)
    waits = shown["state"] in ("open", "minting")
    # capital letters take the smaller kind of code
    label = f"The invoice for {format_sat(shown['amount_msat'])} sat"
    code = await trio.to_thread.run_sync(qr_svg, str(shown["request"]).upper(), label) if waits else None
    name = visit.request.path_params["name"]
    return visit.show("invoice.html", here="topup", invoice=shown, waits=waits, qr=code, name=name)


async def invoice_state(visit: Visit) -> Response:
    """Ask the mint, and say how the invoice stands."""
    quote_id = await _invoice_of(visit)
    await _claim(visit, quote_id)
    shown = await visit.act("invoice_show", quote_id=quote_id)
    told = {
        "issued": ("paid", f"Paid: {format_sat(shown['amount_msat'])} sat are in the wallet."),
        "lost": ("over", "Somebody else turned this invoice into e-cash."),
        "expired": ("over", "This invoice was given up. Make another."),
    }
    state, text = told.get(shown["state"], ("open", "Waiting for the payment."))
    return JSONResponse({"state": state, "text": text}, headers=dict(HEADERS))


async def receive(visit: Visit) -> Response:
    """Ask for a token."""
    return visit.show("receive.html", here="receive", mints=await visit.act("mints"))


async def take_token(visit: Visit) -> Response:
    """Swap a token into the wallet."""
    token = "".join(visit.form.get("token", "").split())
    if not token:
        raise ActionInvalid("Paste a token: it begins with cashuA or cashuB.")
    got = await visit.act("receive", token=token)
    return visit.go("", f"Received {format_sat(got['amount_msat'])} sat{_fee(got['fee_msat'])}.")


async def send(visit: Visit) -> Response:
    """Ask how much, and list the tokens that were sent and not claimed."""
    mints = [mint for mint in await visit.act("mints") if mint["available_msat"]]
    return visit.show("send.html", here="send", mints=mints, sent=await visit.act("sent"))


async def make_token(visit: Visit) -> Response:
    """Make a token, which the next page shows once."""
    memo = visit.form.get("memo") or None
    made = await visit.act("send", amount_msat=_amount(visit), memo=memo, **_mint(visit))
    visit.session.to_show.put(made["id"], made["token"])
    return visit.go(f"sent/{made['id']}")


async def sent_token(visit: Visit) -> Response:
    """Show a token that was just made, or asked for again."""
    token_id = visit.request.path_params["id"]
    token = visit.session.to_show.pop(token_id, None)
    found = [each for each in await visit.act("sent") if each["id"] == token_id]
    if not found:
        return visit.go("send", "That token was claimed or taken back.")
    code = None
    if token is not None:
        code = await trio.to_thread.run_sync(qr_svg, token, "The token")
    return visit.show("sent.html", here="send", token=token, sent=found[0], qr=code)


async def show_again(visit: Visit) -> Response:
    """Show a sent token once more."""
    shown = await visit.act("sent_show", id=visit.request.path_params["id"])
    visit.session.to_show.put(shown["id"], shown["token"])
    return visit.go(f"sent/{shown['id']}")


async def take_back(visit: Visit) -> Response:
    """Swap a sent token before its receiver does."""
    got = await visit.act("sent_cancel", id=visit.request.path_params["id"])
    return visit.go("send", f"Taken back: {format_sat(got['amount_msat'])} sat{_fee(got['fee_msat'])}.")


async def pay(visit: Visit) -> Response:
    """Ask for an invoice to pay."""
    return visit.show("pay.html", here="pay", balance=await visit.act("balance"))


async def ask_for_offer(visit: Visit) -> Response:
    """Ask a mint what paying takes; nothing is paid."""
    text = "".join(visit.form.get("invoice", "").split())
    if not text:
        raise ActionInvalid("Paste a Lightning invoice: it begins with lnbc.")
    offer = await visit.act("pay_quote", invoice=text.removeprefix("lightning:"))
    name = visit.name_of(offer["quote_id"])
    visit.session.offers.put(name, json.dumps(offer))
    return visit.go(f"pay/{name}")


async def payment(visit: Visit) -> Response:
    """Show what paying takes, and ask whether to; or how the payment stands."""
    offer = _offer(visit)
    begun: dict[str, Any] | None = None
    if visit.error is None and visit.request.path_params["name"] in visit.session.begun:
        begun = await visit.act("pay_status", quote_id=offer["quote_id"])
    return visit.show("payment.html", here="pay", offer=offer, paid=begun)


async def pay_it(visit: Visit) -> Response:
    """Pay an invoice by an offer that was shown."""
    offer = _offer(visit)
    name = visit.request.path_params["name"]
    visit.session.begun.put(name, "begun")
    try:
        await visit.act("pay", quote_id=offer["quote_id"])
    except OtrtaError:
        visit.session.begun.pop(name, None)
        raise
    return visit.go(f"pay/{name}")


async def _invoice_of(visit: Visit) -> str:
    """Return the quote's id of an invoice in a path."""
    name = visit.request.path_params["name"]
    if name not in visit.session.quotes:
        for each in await visit.act("invoices"):
            visit.name_of(each["quote_id"])
    if name not in visit.session.quotes:
        raise PathNotServed("There is no such invoice, or it was paid in another session: see the activity.")
    return visit.session.quotes[name]


async def _claim(visit: Visit, quote_id: str) -> None:
    """Ask the mint; what it answers is in the books, and where it is silent the page goes on waiting."""
    try:
        await visit.act("claim_invoice", quote_id=quote_id)
    except OtrtaError:
        return


def _offer(visit: Visit) -> dict[str, Any]:
    text = visit.session.offers.get(visit.request.path_params["name"])
    if text is None:
        raise PathNotServed("This offer is not of this session. Paste the invoice again.")
    offer: dict[str, Any] = json.loads(text)
    return offer


def _amount(visit: Visit) -> int:
    """Return the amount of a form, in msat."""
    return parse_amount_msat(visit.form.get("amount", "").replace(",", "").replace(" ", ""))


def _mint(visit: Visit) -> dict[str, str]:
    mint = visit.form.get("mint", "")
    return {"mint": mint} if mint else {}


def _fee(fee_msat: int) -> str:
    return f", after the mint's fee of {format_sat(fee_msat)} sat" if fee_msat else ""
