"""A click group that imports a subcommand only when it is called.

`otrta --help` shows names and one line each from a table, so it starts as fast as click does, and so that
the wallet's commands work where the gateway's libraries are not installed.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import click


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a subcommand is, and what it does.

    Attributes:
        target: "module:attribute" of a click command.
        summary: One line for the list of commands.
    """

    target: str
    summary: str

    def load(self) -> click.Command:
        """Import it; raises ImportError where a library of an extra is missing."""
        module, _, attribute = self.target.partition(":")
        return cast("click.Command", getattr(importlib.import_module(module), attribute))


class LazyGroup(click.Group):
    """A group whose subcommands are `LazyCommand`s, listed in the order of the table."""

    def __init__(self, *args: Any, lazy: Mapping[str, LazyCommand], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all subcommands."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand of this name, imported now; None where there is none."""
        return self.lazy[cmd_name].load() if cmd_name in self.lazy else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of subcommands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in self.lazy.items()])
