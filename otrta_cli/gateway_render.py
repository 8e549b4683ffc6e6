"""What the operator's commands show to a person."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from otrta_cli.render import show_columns, when
from otrta_core import format_msat

_SHORT_ID: Final = 12
_UNCLAIMED: Final = {"open": "unclaimed", "reclaiming": "cancelling"}
_SUMS: Final = (
    ("float_msat", "at hand, for change and payouts"),
    ("free_msat", "of it owed to nobody"),
    ("pending_msat", "on its way, or too small for its mint's fee"),
    ("locked_waiting_msat", "of that locked tokens that wait for their mint"),
    ("owed_msat", "change that is owed and not made yet"),
    ("running_msat", "paid for calls that run"),
    ("change_out_msat", "change handed out and not seen spent"),
    ("earned_msat", "earned in all"),
    ("lost_msat", "lost: what calls cost beyond their payments"),
    ("locked_lost_msat", "lost: locked tokens that their mint did not redeem"),
    ("input_fees_msat", "input fees that callers paid"),
    ("swap_fees_msat", "input fees that the gateway paid"),
    ("paid_out_msat", "paid out"),
    ("payout_fees_msat", "fees of that"),
)


def show_gateway_balance(told: Mapping[str, Any]) -> None:
    """Show the sums, and those of each mint where there are several."""
    show_columns(
        [(format_msat(told[key]), word) for key, word in _SUMS if _worth_showing(told, key)], right=(0,)
    )
    for mint in told["mints"]:
        click.echo(f"{mint['url']} in {mint['unit']}")
        rows = [(f"  {format_msat(mint[key])}", word) for key, word in _SUMS if mint[key]]
        show_columns(rows, right=(0,))
        pieces = ", ".join(f"{number} of {amount}" for amount, number in mint["float"].items())
        if pieces:
            click.echo(f"  in proofs of {pieces} {mint['unit']}")


def _worth_showing(told: Mapping[str, Any], key: str) -> bool:
    return bool(told[key]) or key in ("float_msat", "free_msat", "earned_msat")


def show_gateway_payments(payments: Sequence[Mapping[str, Any]]) -> None:
    """Show payments, newest first."""
    if not payments:
        click.echo("No payment yet.")
        return
    show_columns(
        [
            (
                when(each["created_at"]),
                "owed" if each["change_due"] else str(each["state"]),
                format_msat(each["paid_msat"]),
                "" if each["cost_msat"] is None else f"cost {format_msat(each['cost_msat'])}",
                str(each["model"]),
                str(each["outcome"] or ""),
            )
            for each in payments
        ],
        right=(2, 3),
    )


def show_payout_offer(offer: Mapping[str, Any]) -> None:
    """Show what is paid out, and what that may cost."""
    fee = f"for at most {format_msat(offer['fee_msat'])} in fees" if offer["fee_msat"] else "without a fee"
    to = "a token" if offer["kind"] == "token" else _short(offer["destination"])
    click.echo(f"{format_msat(offer['amount_msat'])} to {to}, {fee}, from {offer['mint']}.")


def show_payout(payout: Mapping[str, Any]) -> None:
    """Show how a payout ended; a token by itself, so that it can be handed on."""
    if payout.get("token"):
        click.echo(payout["token"])
        short = payout["id"][:_SHORT_ID]
        click.echo(f"`otrta gateway payout --show {short}` prints it again.", err=True)
        click.echo(f"`otrta gateway payout --cancel {short}` takes it back until it is claimed.", err=True)
    elif payout["transfer_state"] == "reclaiming":
        click.echo("It is being taken back: `otrta gateway recover` finds out how that ends.")
    elif payout["state"] == "cancelled":
        click.echo(f"{format_msat(payout['amount_msat'])} taken back, less the mint's input fee.")
    elif payout["state"] == "paid":
        fee = f"and {format_msat(payout['fee_msat'])} in fees" if payout["fee_msat"] else "without a fee"
        done = "claimed" if payout["kind"] == "token" else "paid out"
        click.echo(f"{format_msat(payout['amount_msat'])} {done} {fee}.")
    elif payout["state"] == "paying":
        click.echo("It is on its way: `otrta gateway recover` finds out how it ends.")
    else:
        click.echo(f"Nothing was paid: {payout['error']}.")


def show_payouts(payouts: Sequence[Mapping[str, Any]]) -> None:
    """Show payouts, newest first."""
    if not payouts:
        click.echo("Nothing has been paid out yet: `otrta gateway payout TO`.")
        return
    show_columns(
        [
            (
                str(each["id"])[:_SHORT_ID],
                when(each["created_at"]),
                _UNCLAIMED.get(each["transfer_state"], str(each["state"])),
                format_msat(each["amount_msat"]),
                f"fee {format_msat(each['fee_msat'])}",
                _short(each["destination"]),
                "by itself" if each["automatic"] else "",
                str(each["error"] or ""),
            )
            for each in payouts
        ],
        right=(3, 4),
    )


def show_gateway_recovery(told: Mapping[str, Any]) -> None:
    """Show what a recovery did, and what is left."""
    swaps, running, owed = told["swaps"], told["running"], told["owed_msat"]
    click.echo(f"{swaps['finished']} swaps finished, {swaps['failed']} failed, {swaps['open']} still open.")
    click.echo(f"Calls that run: {running['after']} ({running['before']} before).")
    click.echo(f"Change owed: {format_msat(owed['after'])} ({format_msat(owed['before'])} before).")


def show_checks(told: Mapping[str, Any]) -> None:
    """Show what was looked at, and under what is wrong how to mend it."""
    rows: list[tuple[str, ...]] = []
    for check in told["checks"]:
        rows.append(("ok" if check["ok"] else "WRONG", check["what"], check["told"]))
        if check["fix"]:
            rows.append(("", "", f"→ {check['fix']}"))
    show_columns(rows)


def _short(destination: str) -> str:
    return destination if len(destination) <= 40 else f"{destination[:37]}…"
