"""`otrta pay`: what it may cost is shown first, then it is paid, then what it did cost is shown."""

import time
from typing import Any, Final

import click

from otrta_cli.wallet_commands import Amount, as_json_option, read_argument, show
from otrta_cli.wallet_link import WalletLink, error_code
from otrta_core import OtrtaError, format_msat

UNASKED_PERCENT: Final = 5
UNASKED_LEAST_MSAT: Final = 10_000
"""Where nobody is asked, a fee of so much, or of so many percent, is the most that is agreed to."""

_POLL_FIRST_S, _POLL_LONGEST_S = 0.3, 3.0
_TRANSIENT: Final = frozenset({"wallet_busy", "no_answer"})


@click.command()
@click.argument("bolt11")
@click.option("--mint", help="Pay from this mint.  [default: the first that has enough]")
@click.option("--unit", type=click.Choice(["msat", "sat"]), help="The unit of its e-cash.")
@click.option(
    "--max-fee",
    type=Amount(),
    help="Do not pay if it may cost more than this.  [default: ask; unasked 5 %, or 10sat if that is more]",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--again", is_flag=True, help="Also an invoice that this wallet has paid before.")
@click.option("--no-wait", is_flag=True, help="Do not wait for a payment that takes its time.")
@as_json_option
def pay(
    bolt11: str,
    mint: str | None,
    unit: str | None,
    max_fee: int | None,
    yes: bool,
    again: bool,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Pay the Lightning invoice BOLT11 from the wallet; - reads it from standard input.

    What is set aside for fees and not needed comes back at once.
    """
    from otrta_cli.render import show_offer, show_paid

    link = WalletLink()
    offer = link.act("pay_quote", invoice=read_argument(bolt11), mint=mint, unit=unit, again=again)
    ask = not (yes or as_json)
    if not as_json:
        show_offer(offer)
    _check_fee(offer, max_fee, ask)
    if ask and not click.confirm("Pay it?", err=True):
        raise click.ClickException("nothing was paid")
    try:
        paid = _paid(link, offer["quote_id"], again)
        if paid["state"] == "pending" and not no_wait:
            paid = _wait_for_the_end(link, offer["quote_id"], paid, quiet=as_json)
    except KeyboardInterrupt:
        raise click.ClickException(
            "not waited for: `otrta pending` shows the payment, `otrta recover` finds out how it ends"
        ) from None
    if paid["state"] == "failed":
        raise click.ClickException(paid["error"] or "the mint did not pay the invoice")
    show(paid, as_json, show_paid)


def _check_fee(offer: dict[str, Any], max_fee_msat: int | None, ask: bool) -> None:
    """Refuse a fee that is above what was agreed to.

    Raises:
        click.ClickException: it is.
    """
    most = max_fee_msat
    if most is None and not ask:
        most = max(UNASKED_LEAST_MSAT, offer["amount_msat"] * UNASKED_PERCENT // 100)
    if most is not None and offer["fee_reserve_msat"] > most:
        raise click.ClickException(
            f"paying it may cost {format_msat(offer['fee_reserve_msat'])}, which is more than "
            f"{format_msat(most)}: nothing was paid; --max-fee sets another limit"
        )


def _paid(link: WalletLink, quote_id: str, again: bool) -> Any:
    try:
        return link.act("pay", quote_id=quote_id, again=again)
    except OtrtaError as error:
        if error_code(error) != "no_answer":
            raise
        return link.act("pay_status", quote_id=quote_id)


def _wait_for_the_end(link: WalletLink, quote_id: str, paid: Any, *, quiet: bool) -> Any:
    from rich.console import Console

    console = Console(stderr=True, quiet=quiet, highlight=False)
    pause_s = _POLL_FIRST_S
    with console.status("on its way (Ctrl-C stops waiting; nothing is lost) …"):
        while paid["state"] == "pending":
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, _POLL_LONGEST_S)
            try:
                paid = link.act("pay_status", quote_id=quote_id)
            except OtrtaError as error:
                if error_code(error) not in _TRANSIENT:
                    raise
    return paid
