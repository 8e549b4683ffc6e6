"""`otrta keys`: keys for apps, each with budgets of its own."""

from typing import Any, Final

import click

from otrta_cli.wallet_commands import Amount, LockedFor, as_json_option, show
from otrta_cli.wallet_link import WalletLink

_NONE: Final = "none"
_WINDOWS: Final = {
    "per_request": "For one request.",
    "per_hour": "From one full hour to the next.",
    "per_day": "From midnight to midnight.",
    "per_month": "From the first of a month to the next.",
    "total": "For as long as the key is there.",
}


class LimitAmount(Amount):
    """A limit on the command line: an amount, 0 for nothing at all, or none for no limit."""

    name = "AMOUNT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it; "none" stays a word."""
        if value == _NONE:
            return value
        return 0 if value == "0" else super().convert(value, param, ctx)


class Lasting(LockedFor):
    """How long a key lasts, in seconds; 0 for ever."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read minutes, hours or days, or the word never."""
        return 0 if value == "never" else super().convert(value, param, ctx) or 0


def _limits(command: Any) -> Any:
    for name, told in reversed(_WINDOWS.items()):
        command = click.option(f"--{name.replace('_', '-')}", type=LimitAmount(), help=told)(command)
    command = click.option(
        "--model",
        "models",
        multiple=True,
        metavar="NAME",
        help="A model that it may pay for; * stands for anything. May be given often; any: every model.",
    )(command)
    return click.option(
        "--expires", type=Lasting(), help="From when on it is refused: 90m, 12h, 30d or never."
    )(command)


@click.group(invoke_without_command=True)
@as_json_option
@click.pass_context
def keys(context: click.Context, as_json: bool) -> None:
    """List the keys of apps; add, change, rotate or remove one.

    An app gives its key as its API key. It can make LLM calls with it, within the key's own budgets and those
    of all calls together, and nothing else. `otrta config set require_keys true` serves only apps with a key.
    """
    if context.invoked_subcommand is None:
        _list(as_json)


@keys.command("list")
@as_json_option
def keys_list(as_json: bool) -> None:
    """List the keys, with their budgets and what is left of them."""
    _list(as_json)


@keys.command("add")
@click.argument("name")
@_limits
@as_json_option
def keys_add(name: str, as_json: bool, **options: Any) -> None:
    """Make a key called NAME and show it, this once.

    Budgets are an AMOUNT such as 100, 100sat or 2500msat, 0 for nothing, or none.
    """
    from otrta_cli.budget_render import show_new_key

    show(WalletLink().act("keys_add", name=name, **_params(options)), as_json, show_new_key)


@keys.command("set")
@click.argument("name")
@_limits
@as_json_option
def keys_set(name: str, as_json: bool, **options: Any) -> None:
    """Change budgets, models or the end of the key NAME; what is not named stays.

    Budgets are an AMOUNT such as 100, 100sat or 2500msat, 0 for nothing, or none.
    """
    from otrta_cli.budget_render import show_key

    params = _params(options)
    if not params:
        raise click.UsageError("Nothing to change was named.", click.get_current_context())
    show(WalletLink().act("keys_set", name=name, **params), as_json, show_key)


@keys.command("rotate")
@click.argument("name")
@as_json_option
def keys_rotate(name: str, as_json: bool) -> None:
    """Put another key in the place of NAME, which is refused from now on, and show it, this once."""
    from otrta_cli.budget_render import show_new_key

    show(WalletLink().act("keys_rotate", name=name), as_json, show_new_key)


@keys.command("remove")
@click.argument("name")
@as_json_option
def keys_remove(name: str, as_json: bool) -> None:
    """Take the key NAME away; its app is refused from now on."""
    removed = WalletLink().act("keys_remove", name=name)
    show(removed, as_json, lambda key: click.echo(f"Removed {key['name']}: its app is refused from now on."))


def _params(options: dict[str, Any]) -> dict[str, Any]:
    """Return what was named, as the wallet's action takes it."""
    named = {name: options[name] for name in _WINDOWS if options[name] is not None}
    limits = {f"{name}_msat": None if value == _NONE else value for name, value in named.items()}
    params: dict[str, Any] = {"limits": limits} if limits else {}
    if options["models"]:
        params["models"] = "any" if options["models"] == ("any",) else list(options["models"])
    if options["expires"] is not None:
        params["expires_in_s"] = options["expires"]
    return params


def _list(as_json: bool) -> None:
    from otrta_cli.budget_render import show_keys

    show(WalletLink().act("keys"), as_json, show_keys)
