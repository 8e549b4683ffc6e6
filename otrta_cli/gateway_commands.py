"""`otrta gateway`: the operator's side."""

from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from otrta_cli.gateway_link import DEFAULT_URL, GatewayLink
from otrta_cli.wallet_commands import Amount, as_json_option, read_argument, show

_STATES: Final = ["received", "redeeming", "redeemed", "settled", "claimed", "rejected"]
_Command = TypeVar("_Command", bound=Callable[..., Any])

config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="LiteLLM's config file, where the store's address is not in OTRTA_GATEWAY_STORE.",
)


def _linked(command: _Command) -> Callable[..., Any]:
    """Give a command --url and --config, and in their place the way to the gateway."""

    @config_option
    @click.option(
        "--url",
        default=DEFAULT_URL,
        show_default=True,
        envvar="OTRTA_GATEWAY_URL",
        help="Where the gateway runs; asked with LiteLLM's master key from OTRTA_GATEWAY_KEY.",
    )
    @as_json_option
    @wraps(command)
    def with_link(*args: Any, url: str, config: Path | None, **kwargs: Any) -> Any:
        return command(GatewayLink(url, config), *args, **kwargs)

    return with_link


@click.group()
def gateway() -> None:
    """Look after a gateway: what it holds and owes, its payments, its earnings.

    The running gateway is asked with LiteLLM's master key, from OTRTA_GATEWAY_KEY or the file that
    OTRTA_GATEWAY_KEY_FILE names; where none runs, its store is opened here.
    """


@gateway.command()
@_linked
def balance(link: GatewayLink, as_json: bool) -> None:
    """Show what the gateway holds at each mint, what it owes, and what it has earned."""
    from otrta_cli.gateway_render import show_gateway_balance

    show(link.act("balance"), as_json, show_gateway_balance)


@gateway.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many.")
@click.option("--state", type=click.Choice(_STATES), help="Only those in this state.")
@click.option("--model", help="Only those for this model.")
@_linked
def payments(link: GatewayLink, limit: int, state: str | None, model: str | None, as_json: bool) -> None:
    """List payments, newest first; never anything that could be spent."""
    from otrta_cli.gateway_render import show_gateway_payments

    found = link.act("payments", limit=limit, state=state, model=model)["payments"]
    show(found, as_json, show_gateway_payments)


@gateway.command()
@click.argument("to", required=False)
@click.option("--amount", type=Amount(), help="How much.  [default: all that is free, or the invoice's]")
@click.option("--mint", help="From this mint.  [default: the one that has most]")
@click.option("--unit", type=click.Choice(["msat", "sat"]), help="The unit of its e-cash.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--list", "listed", is_flag=True, help="List the payouts, automatic ones too.")
@click.option("--show", "shown", metavar="ID", help="Say how one of them stands, and print its token again.")
@click.option("--cancel", "cancelled", metavar="ID", help="Take a token back that nobody has claimed.")
@_linked
def payout(
    link: GatewayLink,
    to: str | None,
    amount: int | None,
    mint: str | None,
    unit: str | None,
    yes: bool,
    listed: bool,
    shown: str | None,
    cancelled: str | None,
    as_json: bool,
) -> None:
    """Pay earnings out TO a Lightning invoice, a Lightning address, an LNURL, or as a `token`.

    What it may cost is shown before. What callers may still have to get stays, and so does the float that
    change is made from (`payout.keep_msat`).
    """
    from otrta_cli.gateway_render import show_payout, show_payout_offer, show_payouts

    if sum([to is not None, listed, shown is not None, cancelled is not None]) != 1:
        raise click.UsageError("say where TO, or give one of --list, --show and --cancel.")
    if listed:
        show(link.act("payouts", limit=100)["payouts"], as_json, show_payouts)
        return
    if shown is not None:
        show(link.act("payout/pay", id=_known(link, shown)), as_json, show_payout)
        return
    if cancelled is not None:
        show(link.act("payout/cancel", id=_known(link, cancelled)), as_json, show_payout)
        return
    if as_json and not yes:
        raise click.UsageError("--json needs --yes: nobody can be asked.")
    offer = link.act("payout/offer", to=read_argument(str(to)), amount_msat=amount, mint=mint, unit=unit)
    if not as_json:
        show_payout_offer(offer)
    if not yes and not click.confirm("Pay it out?", err=True):
        raise click.ClickException("nothing was paid")
    show(link.act("payout/pay", id=offer["id"]), as_json, show_payout)


@gateway.command()
@_linked
def recover(link: GatewayLink, as_json: bool) -> None:
    """End now what is open: swaps, calls that died, change that is owed, payouts under way."""
    from otrta_cli.gateway_render import show_gateway_recovery

    show(link.act("recover"), as_json, show_gateway_recovery)


@gateway.command()
@config_option
@click.option("--port", type=click.IntRange(1, 65535), default=4000, show_default=True, help="LiteLLM's.")
@click.option(
    "--num_workers",
    "workers",
    type=click.IntRange(1),
    default=1,
    envvar="NUM_WORKERS",
    help="As LiteLLM is started with.",
)
@as_json_option
def doctor(config: Path | None, port: int, workers: int, as_json: bool) -> None:
    """Check settings, store, mints, prices and the programs that the gateway needs; say how to mend each.

    Wrong settings give one sentence, the same that stops LiteLLM's start. Nothing is changed. Exit code 1
    where anything is wrong.
    """
    from otrta_cli.gateway_doctor import examine
    from otrta_cli.gateway_render import show_checks

    checks = examine(config, port, workers)
    failed = sum(not check.ok for check in checks)
    show({"ok": not failed, "checks": [asdict(check) for check in checks]}, as_json, show_checks)
    if failed:
        raise click.ClickException(f"{failed} of {len(checks)} checks failed")


def _known(link: GatewayLink, start: str) -> str:
    """Complete the beginning of a payout's id.

    Raises:
        click.ClickException: it is that of none that was begun.
    """
    ids = [each["id"] for each in link.act("payouts", limit=1000)["payouts"]]
    found = [each for each in ids if each.startswith(start)]
    if len(found) != 1:
        raise click.ClickException(f"{len(found) or 'no'} payouts begin with {start}: see --list")
    return str(found[0])
