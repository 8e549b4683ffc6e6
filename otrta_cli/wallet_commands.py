"""The wallet's commands: thin, each one action of the wallet and what it shows."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from otrta_cli.wallet_link import WalletLink, error_code
from otrta_core import OtrtaError, PaymentRequest, Token, format_msat, parse_amount_msat
from otrta_core.errors import AmountError, TokenError

RECOVER_S: Final = 60.0
MAX_INPUT_BYTES: Final = 64 << 20

_REFUND_AFTER: Final = "30d"
_LENGTHS_S: Final = {"m": 60, "h": 3_600, "d": 86_400}
_LONGEST_S: Final = 3_650 * 86_400
_POLL_FIRST_S, _POLL_LONGEST_S = 0.3, 3.0
_TRANSIENT: Final = frozenset(
    {"mint_unreachable", "outcome_unknown", "mint_busy", "mint_error", "wallet_busy", "no_answer"}
)

_Command = TypeVar("_Command", bound=Callable[..., Any])


def as_json_option(command: _Command) -> _Command:
    """Give a command the flag --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")(command)


class Amount(click.ParamType[int]):
    """An amount on the command line, in msat."""

    name = "AMOUNT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read whole sat, or a number with its unit."""
        if isinstance(value, int):
            return value
        try:
            return parse_amount_msat(str(value))
        except AmountError as error:
            self.fail(error.message, param, ctx)


class LockedFor(click.ParamType[int | None]):
    """A length of time on the command line, in seconds; None for ever."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Read minutes, hours or days, or the word never."""
        if not isinstance(value, str) or value == "never":
            return value if isinstance(value, int) else None
        number, unit_s = value[:-1], _LENGTHS_S.get(value[-1:], 0)
        if not (
            number.isascii()
            and number.isdecimal()
            and len(number) < 8
            and 0 < int(number) * unit_s <= _LONGEST_S
        ):
            self.fail(
                "a time is a number of minutes, hours or days, such as 90m, 12h or 30d, or never", param, ctx
            )
        return int(number) * unit_s


def show(value: Any, as_json: bool, render: Callable[[Any], None]) -> None:
    """Print a result: as JSON, or for a person."""
    if as_json:
        click.echo(json.dumps(value))
    else:
        render(value)


@click.command()
@as_json_option
def balance(as_json: bool) -> None:
    """Show what the wallet holds: what can be spent now, and what is pending."""
    from otrta_cli.render import show_balance

    show(WalletLink().act("balance"), as_json, show_balance)


@click.command()
@click.argument("token")
@as_json_option
def receive(token: str, as_json: bool) -> None:
    """Put TOKEN into the wallet; - reads it from standard input.

    It is swapped at its mint, so that whoever gave it cannot spend it any more.
    """
    result = WalletLink().act("receive", token=read_argument(token))
    show(result, as_json, lambda got: click.echo(f"Received {format_msat(got['amount_msat'])}{_fee(got)}."))


@click.command()
@click.argument("amount", type=Amount(), required=False)
@click.option("--mint", help="Take it from this mint.  [default: the first that has enough]")
@click.option("--unit", type=click.Choice(["msat", "sat"]), help="The unit of its e-cash.")
@click.option("--at-least", is_flag=True, help="Rather a little more than asking the mint to make it fit.")
@click.option("--memo", help="Say something to whoever receives it.")
@click.option("--lock", metavar="PUBKEY", help="Only who has the private key of PUBKEY can take it.")
@click.option(
    "--refund-after",
    type=LockedFor(),
    default=_REFUND_AFTER,
    show_default=True,
    help="From when on a locked one can be taken back: 90m, 12h, 30d or never.",
)
@click.option("--list", "listed", is_flag=True, help="List the tokens that were sent and not claimed yet.")
@click.option("--show", "shown", metavar="ID", help="Print one of them again.")
@click.option(
    "--cancel", "cancelled", metavar="ID", help="Take one of them back, unless its receiver was first."
)
@as_json_option
def send(
    amount: int | None,
    mint: str | None,
    unit: str | None,
    at_least: bool,
    memo: str | None,
    lock: str | None,
    refund_after: int | None,
    listed: bool,
    shown: str | None,
    cancelled: str | None,
    as_json: bool,
) -> None:
    """Take a token of AMOUNT out of the wallet: whole sat, or 2500msat.

    Whoever has the token has the money, unless it is locked. It is pending here until it is claimed.
    """
    from otrta_cli.render import show_sent

    wanted = [amount is not None, listed, shown is not None, cancelled is not None]
    if sum(wanted) != 1:
        raise click.UsageError("give an AMOUNT, or one of --list, --show and --cancel.")
    if amount is None and (mint or unit or at_least or memo):
        raise click.UsageError("--mint, --unit, --at-least and --memo go with an AMOUNT.")
    if lock is not None and (amount is None or at_least):
        raise click.UsageError("--lock goes with an AMOUNT, which is then always exact.")
    link = WalletLink()
    if listed:
        show(link.act("sent"), as_json, show_sent)
    elif shown is not None:
        show(link.act("sent_show", id=shown), as_json, lambda sent: click.echo(sent["token"]))
    elif cancelled is not None:
        result = link.act("sent_cancel", id=cancelled)
        show(result, as_json, _show_taken_back)
    else:
        result = link.act(
            "send",
            amount_msat=amount,
            mint=mint,
            unit=unit,
            at_least=at_least,
            memo=memo,
            lock=lock,
            refund_after_s=refund_after,
        )
        show(result, as_json, lambda sent: _show_token(sent, amount))


@click.command()
@click.argument("amount", type=Amount(), required=False)
@click.option("--mint", help="Top up at this mint.  [default: the first in the list]")
@click.option("--unit", type=click.Choice(["msat", "sat"]), help="The unit of its e-cash.")
@click.option("--no-wait", is_flag=True, help="Do not wait until it is paid; the wallet will notice.")
@click.option("--list", "listed", is_flag=True, help="List the invoices that have not been paid.")
@click.option("--claim", "claimed", metavar="ID", help="Ask once more for one of them that was paid.")
@as_json_option
def invoice(
    amount: int | None,
    mint: str | None,
    unit: str | None,
    no_wait: bool,
    listed: bool,
    claimed: str | None,
    as_json: bool,
) -> None:
    """Top the wallet up by AMOUNT through a Lightning invoice, and wait until it is paid.

    An invoice that nobody waits for is asked for ever more rarely, and given up four weeks after it expired.
    """
    from otrta_cli.render import show_invoice, show_invoices

    if sum([amount is not None, listed, claimed is not None]) != 1:
        raise click.UsageError("give an AMOUNT, or one of --list and --claim.")
    if amount is None and (mint or unit or no_wait):
        raise click.UsageError("--mint, --unit and --no-wait go with an AMOUNT.")
    link = WalletLink()
    if listed:
        show(link.act("invoices"), as_json, show_invoices)
        return
    if claimed is not None:
        got = link.act("claim_invoice", quote_id=claimed)
        show(got, as_json, _show_claimed)
        if not got["paid"]:
            raise click.ClickException("its mint says that this invoice has not been paid")
        return
    asked = link.act("invoice", amount_msat=amount, mint=mint, unit=unit)
    if not as_json:
        show_invoice(asked)
    paid = not no_wait and _wait_until_paid(link, asked, quiet=as_json)
    if as_json:
        told = {key: asked[key] for key in ("quote_id", "request", "amount_msat", "mint", "unit")}
        click.echo(json.dumps({**told, "state": "issued" if paid else "open"}))
    elif paid:
        click.echo(f"Paid: {format_msat(asked['amount_msat'])} are in the wallet.")
    else:
        click.echo("Once it is paid, `otrta serve` or `otrta recover` puts it into the wallet.")


@click.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many.")
@as_json_option
def history(limit: int, as_json: bool) -> None:
    """List what came in, what went out and what was paid, newest first."""
    from otrta_cli.render import show_history

    show(WalletLink().act("history", limit=limit), as_json, show_history)


@click.command()
@click.option("--all", "expired", is_flag=True, help="Ask also for invoices that were given up.")
@as_json_option
def recover(expired: bool, as_json: bool) -> None:
    """Take back what is due from gateways and mints, until nothing is open or a minute is over."""
    from otrta_cli.render import show_recovery

    link = WalletLink()
    deadline = time.monotonic() + RECOVER_S
    pause_s = _POLL_FIRST_S
    while (result := link.act("recover", expired=expired))["open"] and time.monotonic() + pause_s < deadline:
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _POLL_LONGEST_S)
    if as_json or not result["open"]:
        show(result, as_json, show_recovery)
    if result["open"]:
        raise click.ClickException(f"{result['open']} still open: see `otrta pending`, and try again later")


@click.command()
@click.argument("text", metavar="TOKEN|CREQ")
@as_json_option
def decode(text: str, as_json: bool) -> None:
    """Show what a token or a payment request says; - reads it from standard input.

    Nobody is asked, and nothing that could be spent is shown.
    """
    from otrta_cli.render import request_facts, show_facts, token_facts

    text = read_argument(text)
    start = text.strip().lower().removeprefix("cashu:")
    if start.startswith(("creq", "bitcoin:")):
        facts = request_facts(PaymentRequest.parse(text))
    elif start.startswith("cashu"):
        facts = token_facts(Token.parse(text))
    else:
        raise TokenError("neither a token (cashuA…, cashuB…) nor a payment request (creqA…, creqB…)")
    show(facts, as_json, show_facts)


@click.command()
@click.argument("file", metavar="FILE|-")
@click.option("--path", default="/v1/chat/completions", show_default=True, help="Where it would be sent.")
@as_json_option
def quote(file: str, path: str, as_json: bool) -> None:
    """Show what the LLM request in FILE, a JSON body, could cost at most. It is not sent."""
    from otrta_cli.render import show_quote

    try:
        body = json.loads(read_text(file))
    except ValueError:
        raise click.ClickException(f"{'standard input' if file == '-' else file} holds no JSON") from None
    if not isinstance(body, dict):
        raise click.ClickException("the body of an LLM request is a JSON object")
    show(WalletLink().act("quote", body=body, path=path), as_json, show_quote)


def read_argument(value: str) -> str:
    """Return an argument's text, read from standard input where it is -."""
    return (read_text(value) if value == "-" else value).strip()


def read_text(name: str) -> str:
    """Read a file, or standard input where it is named -."""
    try:
        data = sys.stdin.buffer.read(MAX_INPUT_BYTES) if name == "-" else Path(name).read_bytes()
        return data.decode("utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot read {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.ClickException(f"{name} is not UTF-8 text") from None


def _wait_until_paid(link: WalletLink, asked: dict[str, Any], *, quiet: bool) -> bool:
    """Wait until an invoice is paid.

    Raises:
        click.ClickException: it has expired.
    """
    from rich.console import Console

    console = Console(stderr=True, quiet=quiet, highlight=False)
    pause_s = _POLL_FIRST_S
    with console.status("waiting for the payment (Ctrl-C stops waiting; nothing is lost) …"):
        while True:
            try:
                if link.act("claim_invoice", quote_id=asked["quote_id"])["paid"]:
                    return True
            except OtrtaError as error:
                if error_code(error) not in _TRANSIENT:
                    raise
            if asked["expiry"] and time.time() > asked["expiry"]:
                raise click.ClickException("the invoice has expired without being paid; ask for another one")
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, _POLL_LONGEST_S)


def _show_token(sent: dict[str, Any], wanted_msat: int | None) -> None:
    """Print a token; on standard error, that it is of more than was asked for."""
    click.echo(sent["token"])
    if sent["amount_msat"] != wanted_msat:
        click.echo(f"It is of {format_msat(sent['amount_msat'])}.", err=True)


def _show_claimed(got: dict[str, Any]) -> None:
    if got["paid"]:
        click.echo(f"Paid: {format_msat(got['amount_msat'])} are in the wallet.")


def _show_taken_back(got: dict[str, Any]) -> None:
    click.echo(f"Took {format_msat(got['amount_msat'])} back{_fee(got)}.")


def _fee(got: dict[str, Any]) -> str:
    return f" (the mint's fee was {format_msat(got['fee_msat'])})" if got["fee_msat"] else ""
