"""The console script `otrta`.

Exit codes: 0 done, 1 could not, 2 wrong usage. What went wrong is one line on stderr; `OTRTA_DEBUG=1` shows
the traceback too. Nothing heavy is imported here: each subcommand is imported when it is called.
"""

import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import click

from otrta_cli.lazy import LazyCommand, LazyGroup

COULD_NOT: Final = 1
WRONG_USAGE: Final = 2

_WALLET: Final = "otrta_cli.wallet_commands"
_LISTS: Final = "otrta_cli.list_commands"

COMMANDS: Final[Mapping[str, LazyCommand]] = {
    "demo": LazyCommand(
        "otrta_cli.demo:demo", "Run mint, gateway and client here and pay for two LLM calls."
    ),
    "serve": LazyCommand("otrta_cli.serve_command:serve", "Run the client proxy that LLM apps point at."),
    "page": LazyCommand("otrta_cli.page_command:page", "Open the wallet page in the browser."),
    "balance": LazyCommand(f"{_WALLET}:balance", "Show what the wallet holds."),
    "receive": LazyCommand(f"{_WALLET}:receive", "Put a token into the wallet."),
    "send": LazyCommand(f"{_WALLET}:send", "Take a token out of the wallet."),
    "invoice": LazyCommand(f"{_WALLET}:invoice", "Top the wallet up through a Lightning invoice."),
    "pay": LazyCommand("otrta_cli.pay_command:pay", "Pay a Lightning invoice from the wallet."),
    "history": LazyCommand(f"{_WALLET}:history", "List what came in, went out and was paid."),
    "pending": LazyCommand(
        "otrta_cli.pending_commands:pending", "List payments that are not settled; approve or deny calls."
    ),
    "recover": LazyCommand(f"{_WALLET}:recover", "Take back what is due from gateways and mints."),
    "restore": LazyCommand(
        "otrta_cli.restore_command:restore", "Get the wallet's money back from its seed words."
    ),
    "mints": LazyCommand(f"{_LISTS}:mints", "List, add or remove mints that may hold money."),
    "gateways": LazyCommand(f"{_LISTS}:gateways", "List, add, remove or trust gateways that may be paid."),
    "gateway": LazyCommand(
        "otrta_cli.gateway_commands:gateway", "Look after a gateway: balance, payments, payouts, doctor."
    ),
    "quote": LazyCommand(f"{_WALLET}:quote", "Show what a request could cost, without sending it."),
    "decode": LazyCommand(f"{_WALLET}:decode", "Show what a token or a payment request says."),
    "keys": LazyCommand("otrta_cli.key_commands:keys", "List, add or remove keys for apps, with budgets."),
    "config": LazyCommand(
        "otrta_cli.config_commands:config", "Show or change settings and budgets; pause; show the seed words."
    ),
}

# Libraries that only an extra brings, by the name that is imported.
_EXTRAS: Final[Mapping[str, str]] = {
    "litellm": "gateway",
    "httptools": "gateway",
    "openai": "gateway",
    "trio": "client",
    "hypercorn": "client",
    "starlette": "client",
    "segno": "client",
    "socksio": "client",
    "jinja2": "client",
    "tomlkit": "client",
    "psycopg": "postgres",
}


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="otrta", prog_name="otrta")
@click.pass_context
def otrta(context: click.Context) -> None:
    """Buy and sell LLM calls with anonymous e-cash, exact to the millisatoshi."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `otrta` with these arguments, or with those of the process, and return its exit code."""
    try:
        result = otrta.main(args=arguments, prog_name="otrta", standalone_mode=False)
    except (Exception, BaseExceptionGroup) as failure:
        return _explain(failure)
    return result if type(result) is int else 0


def _explain(failure: BaseException) -> int:
    """Say on one line of stderr what went wrong, and return the exit code for it."""
    if os.environ.get("OTRTA_DEBUG") == "1":
        traceback.print_exception(failure)
    causes = list(_leaves(failure))
    cause = next(filter(_is_ours, causes), causes[0])
    exit_code = WRONG_USAGE if isinstance(cause, click.UsageError) else COULD_NOT
    click.echo(f"otrta: {_sentence(cause)}", err=True)
    return exit_code


def _sentence(cause: BaseException) -> str:
    if isinstance(cause, click.UsageError):
        command = cause.ctx.command_path if cause.ctx else "otrta"
        return f"{cause.format_message()} Try `{command} --help`."
    if isinstance(cause, click.ClickException):
        return cause.format_message()
    if isinstance(cause, (click.Abort, KeyboardInterrupt)):
        return "stopped before it was done"
    if isinstance(cause, ImportError) and (extra := _EXTRAS.get((cause.name or "").partition(".")[0])):
        return f"this command needs {cause.name}, which is not installed: pip install 'otrta[{extra}]'"
    if _is_ours(cause):
        return str(cause)
    # The text of an error that nobody foresaw may hold what was being worked on, a token for one.
    return f"an error in otrta itself ({type(cause).__name__}); OTRTA_DEBUG=1 shows where"


def _is_ours(cause: BaseException) -> bool:
    # Where this module was never imported, nothing can have raised its error.
    errors = sys.modules.get("otrta_core.errors")
    return errors is not None and isinstance(cause, errors.OtrtaError)


def _leaves(failure: BaseException) -> Iterator[BaseException]:
    """The errors inside groups, which nurseries make."""
    if isinstance(failure, BaseExceptionGroup):
        for each in failure.exceptions:
            yield from _leaves(each)
    else:
        yield failure


if __name__ == "__main__":
    sys.exit(main())
