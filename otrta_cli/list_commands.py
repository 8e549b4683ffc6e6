"""The commands on the wallet's lists: mints, gateways."""

import click

from otrta_cli.wallet_commands import as_json_option, show
from otrta_cli.wallet_link import WalletLink

proxy_option = click.option(
    "--proxy",
    metavar="socks5h://HOST:PORT|direct",
    help="The way there: through a SOCKS proxy that resolves the name, such as Tor's socks5h://127.0.0.1:9050.",
)


@click.group(invoke_without_command=True)
@as_json_option
@click.pass_context
def mints(context: click.Context, as_json: bool) -> None:
    """List the mints that may hold money; add or remove one."""
    if context.invoked_subcommand is None:
        _list_mints(as_json)


@mints.command("list")
@as_json_option
def mints_list(as_json: bool) -> None:
    """List the mints, with their units and what is there."""
    _list_mints(as_json)


@mints.command("add")
@click.argument("url")
@proxy_option
@as_json_option
def mints_add(url: str, proxy: str | None, as_json: bool) -> None:
    """Let the wallet hold money at the mint at URL; whoever runs it can make that money worthless."""
    from otrta_cli.render import show_units

    added = WalletLink().act("mints_add", url=url, proxy=proxy)
    show(added, as_json, lambda mint: click.echo(f"Added {mint['url']}: {show_units(mint['units'])}."))


@mints.command("remove")
@click.argument("url")
@as_json_option
def mints_remove(url: str, as_json: bool) -> None:
    """Take the mint at URL off the list; refused while money is there."""
    removed = WalletLink().act("mints_remove", url=url)
    show(removed, as_json, lambda mint: click.echo(f"Removed {mint['url']}."))


@mints.command("info")
@click.argument("url")
@as_json_option
def mints_info(url: str, as_json: bool) -> None:
    """Show what a mint of the list says of itself."""
    from otrta_cli.render import show_mint

    show(WalletLink().act("mints_info", url=url), as_json, show_mint)


@click.group(invoke_without_command=True)
@as_json_option
@click.pass_context
def gateways(context: click.Context, as_json: bool) -> None:
    """List the gateways that may be paid; add, remove or trust one."""
    if context.invoked_subcommand is None:
        _list_gateways(as_json)


@gateways.command("list")
@as_json_option
def gateways_list(as_json: bool) -> None:
    """List the gateways, and why one is not paid any more."""
    _list_gateways(as_json)


@gateways.command("add")
@click.argument("url")
@click.option(
    "--kind",
    type=click.Choice(["otrta", "nut24", "routstr"]),
    help="What it is, where it cannot say so itself: nut24 sells by HTTP 402 alone and gives no change.",
)
@proxy_option
@as_json_option
def gateways_add(url: str, kind: str | None, proxy: str | None, as_json: bool) -> None:
    """Let the gateway at URL be paid for LLM calls, within the budgets."""
    added = WalletLink().act("gateways_add", url=url, kind=kind, proxy=proxy)
    show(added, as_json, lambda gateway: click.echo(f"Added {gateway['url']}."))


@gateways.command("lock")
@click.argument("url")
@click.argument("switch", type=click.Choice(["on", "off"]))
@as_json_option
def gateways_lock(url: str, switch: str, as_json: bool) -> None:
    """Pay the gateway at URL with tokens that are locked to its key, or no longer.

    They are locked before they are needed, so that no mint stands before a call: it is answered sooner. They
    also let the mint, with the gateway's help, tell which of its coins paid for a call. What is not needed
    comes back hours later; a restore from the seed does not find what is locked.
    """
    told = WalletLink().act("gateways_lock", url=url, on=switch == "on")
    word = (
        "is paid with locked tokens, where it takes them" if switch == "on" else "is paid with plain tokens"
    )
    show(told, as_json, lambda gateway: click.echo(f"{gateway['url']} {word}."))


@gateways.command("remove")
@click.argument("url")
@as_json_option
def gateways_remove(url: str, as_json: bool) -> None:
    """Take the gateway at URL off the list; what it owes is still asked for."""
    removed = WalletLink().act("gateways_remove", url=url)
    show(removed, as_json, lambda gateway: click.echo(f"Removed {gateway['url']}."))


@gateways.command("info")
@click.argument("url")
@as_json_option
def gateways_info(url: str, as_json: bool) -> None:
    """Show the mints and prices of the gateway at URL."""
    from otrta_cli.render import show_gateway

    show(WalletLink().act("gateways_info", url=url), as_json, show_gateway)


@gateways.command("trust")
@click.argument("url")
@as_json_option
def gateways_trust(url: str, as_json: bool) -> None:
    """Let the gateway at URL be paid again after a dispute."""
    trusted = WalletLink().act("gateways_trust", url=url)
    show(trusted, as_json, lambda gateway: click.echo(f"{gateway['url']} may be paid again."))


def _list_mints(as_json: bool) -> None:
    from otrta_cli.render import show_mints

    show(WalletLink().act("mints"), as_json, show_mints)


def _list_gateways(as_json: bool) -> None:
    from otrta_cli.render import show_gateways

    show(WalletLink().act("gateways"), as_json, show_gateways)
