"""What the wallet's commands show to a person: short, aligned, and what to do next where there is nothing."""

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from otrta_core import PaymentRequest, Token, format_msat

_SHORT_ID: Final = 12
_STATES: Final = {
    "in_flight": "on its way",
    "awaiting_change": "awaiting change",
    "disputed": "DISPUTED",
}


def show_balance(shown: Mapping[str, Any]) -> None:
    """Show what the wallet has, at each mint."""
    _say(f"{format_msat(shown['available_msat'])} can be spent")
    if shown["pending_msat"]:
        _say(
            f"{format_msat(shown['pending_msat'])} pending: sent and not claimed yet, in `otrta pending`, or "
            "too small for its mint's fee"
        )
    rows = [
        (f"  {row['url']}", f"{row['available']:,} {row['unit']}", _also(row["pending"], row["unit"]))
        for row in shown["mints"]
    ]
    show_columns(rows, right=(1,))
    if not shown["total_msat"]:
        _say("Top it up: `otrta invoice AMOUNT`, or `otrta receive TOKEN`.")


def show_history(entries: Sequence[Mapping[str, Any]]) -> None:
    """Show what happened, newest first."""
    if not entries:
        _say("Nothing has happened yet. Top the wallet up: `otrta invoice AMOUNT`.")
        return
    show_columns(
        [
            (
                when(entry["time"]),
                entry["kind"],
                _signed(entry["amount_msat"]),
                _details(entry),
            )
            for entry in entries
        ],
        right=(2,),
    )


def show_pending(payments: Sequence[Mapping[str, Any]]) -> None:
    """Show the payments that are not settled."""
    if not payments:
        _say("Nothing is pending.")
        return
    show_columns(
        [
            (
                when(payment["since"]),
                _STATES.get(payment["state"], payment["state"]),
                format_msat(payment["paid_msat"]),
                payment["gateway"] or "",
                payment["reason"] or "",
            )
            for payment in payments
        ],
        right=(2,),
    )
    _say("`otrta recover` asks for it now.")
    if any(payment["state"] == "disputed" for payment in payments):
        _say("A gateway with a dispute is not paid any more; `otrta gateways trust URL` changes that.")


def show_sent(tokens: Sequence[Mapping[str, Any]]) -> None:
    """Show the tokens that were sent and are not known to be claimed."""
    if not tokens:
        _say("Every token that was sent has been claimed or taken back.")
        return
    show_columns(
        [
            (
                sent["id"][:_SHORT_ID],
                when(sent["since"]),
                format_msat(sent["amount_msat"]),
                sent["mint"],
                sent["memo"] or "",
            )
            for sent in tokens
        ],
        right=(2,),
    )
    _say("`otrta send --show ID` prints one again, `otrta send --cancel ID` takes it back.")


def show_invoices(invoices: Sequence[Mapping[str, Any]]) -> None:
    """Show the invoices that have not been paid."""
    if not invoices:
        _say("No invoice is waiting to be paid.")
        return
    show_columns(
        [
            (
                invoice["quote_id"],
                when(invoice["since"]),
                format_msat(invoice["amount_msat"]),
                invoice["mint"],
                "given up" if invoice["state"] == "expired" else "",
            )
            for invoice in invoices
        ],
        right=(2,),
    )
    _say("`otrta invoice --claim ID` asks for one now, `otrta recover --all` for every one.")


def show_unclaimed(tokens: Sequence[Mapping[str, Any]]) -> None:
    """Say how much was sent and not claimed yet, if anything."""
    if tokens:
        total_msat = sum(sent["amount_msat"] for sent in tokens)
        number = "1 token" if len(tokens) == 1 else f"{len(tokens)} tokens"
        _say(f"{number} sent and not claimed yet, {format_msat(total_msat)}: see `otrta send --list`.")


def show_recovery(result: Mapping[str, Any]) -> None:
    """Show how a recovery ended."""
    _say("Nothing is open.")
    if result["disputed"]:
        _say(f"{result['disputed']} disputed: see `otrta pending`.")


def show_restored(results: Sequence[Mapping[str, Any]]) -> None:
    """Show what came back from each mint, and how far was looked."""
    for result in results:
        found = [f"{unit['found']:,} {unit['unit']}" for unit in result["units"] if unit["found"]]
        _say(f"{result['mint']}: {' and '.join(found) or 'nothing new'} came back")
        for unit in result["units"]:
            if unit["pending"]:
                _say(
                    f"  {unit['pending']:,} {unit['unit']} more are pending there: `otrta recover` asks again"
                )
            if unit["gone"]:
                _say(f"  {unit['gone']:,} {unit['unit']} that were thought to be here have been spent")
        refused = sum(keyset["refused"] for keyset in result["keysets"])
        if refused:
            _say(f"  {refused:,} of the mint's signatures do not hold")
        show_columns(
            [
                (
                    f"  keyset {keyset['id'][:16]}",
                    keyset["unit"],
                    f"{keyset['proofs']:,} proofs, {keyset['spent']:,} spent ones",
                    f"looked at {keyset['looked_to']:,} numbers",
                )
                for keyset in result["keysets"]
            ]
        )


def show_mints(mints: Sequence[Mapping[str, Any]]) -> None:
    """Show the mints that may hold money."""
    if not mints:
        _say("No mint yet. Add one that you trust with money: `otrta mints add URL`.")
        return
    show_columns(
        [
            (mint["url"], show_units(mint["units"]), format_msat(mint["available_msat"]), _way(mint))
            for mint in mints
        ],
        right=(2,),
    )


def show_mint(info: Mapping[str, Any]) -> None:
    """Show what a mint says of itself."""
    _say(f"{info['url']}  {info['name'] or ''}  {info['version'] or ''}".rstrip())
    show_columns(
        [
            (
                f"  keyset {keyset['id'][:16]}",
                keyset["unit"],
                f"fee {keyset['input_fee_ppk']} ppk",
                "" if keyset["active"] else "inactive",
            )
            for keyset in info["keysets"]
        ]
    )


def show_units(units: Mapping[str, Mapping[str, int]]) -> str:
    """Write a mint's units with their fees on one line."""
    told = [
        f"{unit} (fee {known['input_fee_ppk']} ppk)" if known["input_fee_ppk"] else unit
        for unit, known in units.items()
    ]
    return ", ".join(told) or "never reached"


def show_gateways(entries: Sequence[Mapping[str, Any]]) -> None:
    """Show the gateways, and which are not paid any more."""
    if not entries:
        _say("No gateway yet. Add one that sells LLM calls: `otrta gateways add URL`.")
        return
    show_columns(
        [
            (
                entry["url"],
                entry["name"] or "",
                "" if entry["trusted"] else f"not paid any more: {entry['distrusted_for']}",
                "locked tokens" if entry["locks"] else "",
                _way(entry),
            )
            for entry in entries
        ]
    )


def _way(place: Mapping[str, Any]) -> str:
    return f"by {place['proxy']}" if place["proxy"] else ""


def show_gateway(info: Mapping[str, Any]) -> None:
    """Show a gateway's mints and prices."""
    _say(f"{info['url']}  {info['name']}".rstrip())
    for mint in info["mints"]:
        _say(f"  takes {show_units(mint['units'])} of {mint['url']}")
    rows = [
        (
            f"  {model['id']}",
            f"{model.get('input_msat_per_mtok', 0):,}",
            f"{model.get('output_msat_per_mtok', 0):,}",
        )
        for model in info["models"]
    ]
    if rows:
        show_columns([("  msat per million tokens:", "input", "output"), *rows], right=(1, 2))


def show_quote(quote: Mapping[str, Any]) -> None:
    """Show what a request could cost."""
    if not quote["quotes"]:
        _say("No gateway may be paid. Add one: `otrta gateways add URL`.")
        return
    rows = []
    for found in quote["quotes"]:
        told = found.get("error") or f"at most {format_msat(found['quote_msat'])}"
        if not found.get("error") and not found["mints"]:
            told += " (it takes none of this wallet's mints)"
        rows.append((found["gateway"], told))
    show_columns(rows)


def show_config(config: Mapping[str, Any]) -> None:
    """Show the settings in force."""
    budgets, privacy = config["budgets"], config["privacy"]
    models = budgets["models"] or "none"
    show_columns(
        [
            ("wallet", config["wallet_file"]),
            ("settings", config["config_file"]),
            ("port", str(config["port"])),
            ("budget per request", _limit(budgets["per_request_sat"])),
            ("budget per hour", _limit(budgets["per_hour_sat"])),
            ("budget per day", _limit(budgets["per_day_sat"]) + _left(config["left_today_msat"])),
            ("budget per month", _limit(budgets["per_month_sat"])),
            ("approval above", _limit(budgets["approve_above_sat"])),
            ("models", ", ".join(models) if isinstance(models, list) else models),
            ("taken out of bodies", ", ".join(privacy["strip_fields"]) or "nothing"),
            ("change is swapped", f"within {privacy['swap_delay_s']:g} s"),
        ]
    )


def token_facts(token: Token) -> dict[str, Any]:
    """Say what a token is, without anything that spends it."""
    return {
        "type": "token",
        "mint": token.mint,
        "unit": token.unit,
        "amount": token.amount,
        "memo": token.memo,
        "proofs": len(token.proofs),
        "amounts": sorted(proof.amount for proof in token.proofs),
        "keysets": sorted({proof.id for proof in token.proofs}),
        "locked": any(proof.secret.lstrip().startswith("[") for proof in token.proofs),
        "dleq": all(proof.dleq is not None for proof in token.proofs),
    }


def request_facts(request: PaymentRequest) -> dict[str, Any]:
    """Say what a payment request asks for."""
    return {
        "type": "payment_request",
        "amount": request.amount,
        "unit": request.unit,
        "mints": list(request.mints),
        "id": request.id,
        "description": request.description,
        "single_use": request.single_use,
        "transports": [transport.type for transport in request.transports],
        "lock": request.nut10.kind if request.nut10 else None,
    }


def show_facts(facts: Mapping[str, Any]) -> None:
    """Show what a token or a payment request says, a line for each thing."""
    told = {name: value for name, value in facts.items() if value not in (None, [], "")}
    show_columns([(name.replace("_", " "), _word(value)) for name, value in told.items()])


def show_invoice(invoice: Mapping[str, Any]) -> None:
    """Show an invoice as text and as a QR code."""
    import segno

    _say(f"Pay {format_msat(invoice['amount_msat'])} to the mint {invoice['mint']}:")
    _say()
    segno.make(str(invoice["request"]).upper(), error="l", micro=False).terminal(out=sys.stdout, compact=True)
    _say()
    _say(str(invoice["request"]))
    _say()


def show_offer(offer: Mapping[str, Any]) -> None:
    """Show what a mint would pay, and for how much at most."""
    reserve = offer["fee_reserve_msat"]
    fee = f"and at most {format_msat(reserve)} for the way there" if reserve else "without a Lightning fee"
    _say(f"{format_msat(offer['amount_msat'])} to the invoice, {fee}, from {offer['mint']}.")


def show_paid(paid: Mapping[str, Any]) -> None:
    """Show how a payment ended."""
    if paid["state"] == "paid":
        fee = f"and {format_msat(paid['fee_msat'])} in fees" if paid["fee_msat"] else "without a fee"
        _say(f"Paid {format_msat(paid['amount_msat'])} {fee}.")
    else:
        _say("It is on its way: `otrta pending` shows it, and `otrta recover` finds out how it ends.")


def _limit(sat: int | str) -> str:
    return f"{sat:,} sat" if isinstance(sat, int) else sat


def _left(left_msat: int | None) -> str:
    return "" if left_msat is None else f", {format_msat(left_msat)} left today"


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _also(pending: int, unit: str) -> str:
    return f"+ {pending:,} {unit} pending" if pending else ""


def _details(entry: Mapping[str, Any]) -> str:
    told = [str(entry[name]) for name in ("model", "gateway") if entry[name]]
    if entry["cost_msat"] is not None:
        told.append(f"cost {format_msat(entry['cost_msat'])}")
    if entry["fee_msat"]:
        told.append(f"fee {format_msat(entry['fee_msat'])}")
    if entry["lost_msat"]:
        told.append(f"lost {format_msat(entry['lost_msat'])}")
    if entry["state"] != "done":
        told.append(_STATES.get(entry["state"], str(entry["state"])))
    return "  ".join(told)


def _signed(amount_msat: int) -> str:
    return f"+{format_msat(amount_msat)}" if amount_msat > 0 else format_msat(amount_msat)


def when(at: float) -> str:
    """Write a time for people, in their zone."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def show_columns(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print rows in columns; nothing is cut or wrapped, so that a URL can be copied."""
    if not rows:
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for index in range(len(rows[0])):
        table.add_column(justify="right" if index in right else "left", no_wrap=True, overflow="ignore")
    for row in rows:
        table.add_row(*row)
    widths = [max(len(row[index]) for row in rows) + 2 for index in range(len(rows[0]))]
    console = Console(
        file=sys.stdout,
        width=max(80, sum(widths)),
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def _say(text: str = "") -> None:
    click.echo(text)
