"""What the commands show of budgets, keys and approvals to a person."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from otrta_cli.render import show_columns, when
from otrta_core import format_msat

_NAMES: Final = {
    "request": "a request",
    "hour": "an hour",
    "day": "a day",
    "month": "a month",
    "total": "in all",
}


def show_budgets(told: Mapping[str, Any]) -> None:
    """Show every limit, those of keys below those of all calls together."""
    if told["paused_since"] is not None:
        click.echo(f"All spending is paused since {when(told['paused_since'])}: `otrta config resume`.")
    rows: list[tuple[str, ...]] = [("", "budget", "spent", "left", "renews")]
    rows += [_row("", line) for line in told["limits"]]
    for key in told["keys"]:
        own = [line for line in key["limits"] if line["limit_msat"] is not None]
        rows += [_row(f"key {key['name']}", line) for line in own]
    show_columns(rows, right=(1, 2, 3))
    if told["approve_above_msat"] is not None:
        click.echo(f"Calls above {format_msat(told['approve_above_msat'])} wait for your approval.")
    if told["models"] is not None:
        click.echo(f"Models that may be paid for: {', '.join(told['models']) or 'none'}.")
    click.echo("`otrta config set budgets.per_day_sat SAT` changes one.")


def show_keys(keys: Sequence[Mapping[str, Any]]) -> None:
    """Show the apps' keys, each with its limits."""
    if not keys:
        click.echo("No key yet; apps may give any value. Make one: `otrta keys add NAME`.")
        return
    show_columns([_of_key(key) for key in keys])


def show_key(key: Mapping[str, Any]) -> None:
    """Show one key, with what is left of its limits."""
    show_columns([_of_key(key)])


def show_new_key(key: Mapping[str, Any]) -> None:
    """Show a key that was made, the only time that it can be seen."""
    click.echo(key["key"])
    click.echo(f"This is the key {key['name']}. It is not shown again: give it to the app as its API key.")


def show_approvals(waiting: Sequence[Mapping[str, Any]]) -> None:
    """Show the calls that wait for approval."""
    if not waiting:
        click.echo("No call waits for approval.")
        return
    show_columns(
        [
            (
                call["id"],
                when(call["since"]),
                f"up to {format_msat(call['amount_msat'])}",
                printable(call["model"]),
                call["gateway"],
                f"key {call['key']}" if call["key"] else "",
            )
            for call in waiting
        ],
        right=(2,),
    )
    click.echo("`otrta pending approve ID` lets one be paid, `otrta pending deny ID` refuses it.")


def show_waiting(waiting: Sequence[Mapping[str, Any]]) -> None:
    """Say how many calls wait for approval, if any."""
    if waiting:
        told = "1 call waits" if len(waiting) == 1 else f"{len(waiting)} calls wait"
        click.echo(f"{told} for your approval: see `otrta pending approvals`.")


def show_decision(call: Mapping[str, Any]) -> None:
    """Show what was decided, and for how long it holds."""
    named = f"up to {format_msat(call['amount_msat'])} for {printable(call['model'])}"
    minutes = f"{call['holds_minutes']} min"
    if call["state"] == "approved":
        click.echo(f"Approved {named}: one such call passes within {minutes}.")
    else:
        click.echo(f"Denied {named}: such calls are refused for {minutes}.")


def printable(text: str) -> str:
    """Write what a stranger named without anything that steers a terminal."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def _of_key(key: Mapping[str, Any]) -> tuple[str, ...]:
    limits = [
        f"{format_msat(line['limit_msat'])} {_NAMES[line['window']]}"
        + (f" ({format_msat(line['left_msat'])} left)" if line["spent_msat"] else "")
        for line in key["limits"]
        if line["limit_msat"] is not None
    ]
    models = "any model" if key["models"] is None else ", ".join(key["models"]) or "no model"
    ends = ""
    if key["expires_at"] is not None:
        ends = f"{'ended' if key['expired'] else 'until'} {when(key['expires_at'])}"
    return (key["name"], f"{key['prefix']}…", ", ".join(limits) or "no budget of its own", models, ends)


def _row(owner: str, line: Mapping[str, Any]) -> tuple[str, ...]:
    limit, left = line["limit_msat"], line["left_msat"]
    return (
        f"{owner} {_NAMES[line['window']]}".strip(),
        "unlimited" if limit is None else format_msat(limit),
        "" if line["spent_msat"] is None else format_msat(line["spent_msat"]),
        "" if left is None else format_msat(left),
        "" if limit is None or line["renews_at"] is None else when(line["renews_at"]),
    )
