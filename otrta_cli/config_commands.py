"""`otrta config`: settings and budgets, the pause switch, the wallet's seed words and its public key."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from otrta_cli.wallet_commands import as_json_option, show
from otrta_cli.wallet_link import WalletLink


@click.group(invoke_without_command=True)
@as_json_option
@click.pass_context
def config(context: click.Context, as_json: bool) -> None:
    """Show and change settings and budgets; pause spending; show the wallet's seed words.

    A flag goes before a variable such as OTRTA_BUDGETS_PER_DAY_SAT, that before config.toml, and that before
    the default.
    """
    if context.invoked_subcommand is None:
        _show(as_json)


@config.command("list")
@as_json_option
def config_list(as_json: bool) -> None:
    """Show the settings in force."""
    _show(as_json)


@config.command("show", hidden=True)
@as_json_option
def config_show(as_json: bool) -> None:
    """Show the settings in force."""
    _show(as_json)


@config.command("get")
@click.argument("key")
@as_json_option
def config_get(key: str, as_json: bool) -> None:
    """Show the value of the setting KEY that is in force, such as budgets.per_day_sat."""
    link = WalletLink()

    def read() -> dict[str, Any]:
        from proxy_trio.client_settings import load_client_settings
        from proxy_trio.config_file import setting

        return {"key": key, "value": setting(load_client_settings(link.home), key)}

    told = link.act("config_get", key=key) if link.taken else read()
    show(told, as_json, lambda got: click.echo(_as_text(got["value"])))


@config.command("set")
@click.argument("key")
@click.argument("value", nargs=-1, required=True)
@as_json_option
def config_set(key: str, value: tuple[str, ...], as_json: bool) -> None:
    """Write the setting KEY into config.toml; budgets hold at once.

    \b
      otrta config set budgets.per_day_sat 5000
      otrta config set budgets.per_month_sat unlimited
      otrta config set budgets.models 'gpt-*' 'claude-*'
    """  # noqa: D301  # click wants the character itself
    from proxy_trio.config_file import typed

    _put({key: typed(key, value)}, as_json)


@config.command("unset")
@click.argument("key")
@as_json_option
def config_unset(key: str, as_json: bool) -> None:
    """Take the setting KEY out of config.toml, so that its default holds."""
    _put({key: None}, as_json)


@config.command("budgets")
@as_json_option
def config_budgets(as_json: bool) -> None:
    """Show every budget: what was spent of it, what is left, and when it renews."""
    from otrta_cli.budget_render import show_budgets

    show(WalletLink().act("budgets"), as_json, show_budgets)


@config.command("pause")
@as_json_option
def config_pause(as_json: bool) -> None:
    """Pause all spending on calls, until `otrta config resume`."""
    paused = WalletLink().act("pause")
    told = "Paused: no call is paid until `otrta config resume`. What is on its way ends as it would."
    show(paused, as_json, lambda _told: click.echo(told))


@config.command("resume")
@as_json_option
def config_resume(as_json: bool) -> None:
    """Let calls be paid again, within the budgets."""
    show(WalletLink().act("resume"), as_json, lambda _told: click.echo("Calls are paid again."))


@config.command("path")
@as_json_option
def config_path(as_json: bool) -> None:
    """Show where the settings are."""
    from proxy_trio.client_settings import CONFIG_FILE

    path: Path = WalletLink().home / CONFIG_FILE
    show({"config_file": str(path), "exists": path.exists()}, as_json, lambda _told: click.echo(path))


@config.command("seed")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@as_json_option
def config_seed(yes: bool, as_json: bool) -> None:
    """Show the wallet's seed words. Whoever has them has the money."""
    if not yes:
        click.confirm("Show the words that hold this wallet's money on the screen?", abort=True, err=True)
    show(WalletLink().act("seed"), as_json, lambda told: click.echo(told["words"]))


@config.command("pubkey")
@as_json_option
def config_pubkey(as_json: bool) -> None:
    """Show the key that others can lock tokens to, so that only this wallet can take them."""
    show(WalletLink().act("pubkey"), as_json, lambda told: click.echo(told["pubkey"]))


def _show(as_json: bool) -> None:
    from otrta_cli.render import show_config

    show(WalletLink().act("config"), as_json, show_config)


def _put(values: dict[str, Any], as_json: bool) -> None:
    """Change config.toml, through the running proxy where there is one, so that it holds there at once."""
    link = WalletLink()

    def write() -> dict[str, Any]:
        from proxy_trio.config_file import changed, put_settings

        return changed(list(values), put_settings(link.home, values, os.environ), os.environ)

    told = link.act("config_set", values=values) if link.taken else write()
    show(told, as_json, _show_changed(link.taken))


def _show_changed(served: bool) -> Callable[[Any], None]:
    def say(told: Any) -> None:
        for key, value in told["values"].items():
            click.echo(f"{key} = {_as_text(value)}")
            if (name := told["overruled_by"].get(key)) is not None:
                click.echo(f"That is what {name} in the environment says, which goes before config.toml.")
            elif served and key in told["at_next_start"]:
                click.echo("It holds from the next start of `otrta serve` on.")

    return say


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
