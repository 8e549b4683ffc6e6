"""`otrta restore`: what a seed has ever had at a mint, back in a wallet."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from otrta_cli.wallet_commands import as_json_option, read_argument, show
from otrta_cli.wallet_link import WalletLink, error_code
from otrta_core import OtrtaError
from otrta_wallet.seed import normalize_words


@click.command()
@click.option("--mint", "mints", multiple=True, required=True, metavar="URL", help="Look at this mint.")
@click.option(
    "--look",
    type=click.IntRange(1, 10_000),
    default=30,
    show_default=True,
    help="Stop after so many hundred numbers in a row that were never used.",
)
@as_json_option
def restore(mints: Sequence[str], look: int, as_json: bool) -> None:
    """Get back what a seed has at a mint; --mint can be given more than once.

    The words are asked for, or read from standard input: never give them as arguments. Doing it again is free
    and changes nothing. Tokens that were sent and never claimed come back too.
    """
    from otrta_cli.render import show_restored

    words = normalize_words(_read_words())
    link = WalletLink()
    results: list[dict[str, Any]] = []
    failures: list[str] = []
    with Console(stderr=True, quiet=as_json, highlight=False).status("looking …") as status:
        for mint in mints:
            try:
                results.append(_restore(link, mint, words, look, status.update))
            except OtrtaError as error:
                if error_code(error) == "seed_in_use":
                    raise click.ClickException(_another_home(link.home, mint)) from None
                failures.append(f"{mint}: {error.message}")
    if results:
        show(results, as_json, show_restored)
    if failures:
        raise click.ClickException(f"{'; '.join(failures)}. Restore again: it goes on where it was")


def _restore(
    link: WalletLink, mint: str, words: str, look: int, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Restore from one mint, slice by slice."""
    while True:
        result: dict[str, Any] = link.act("restore", url=mint, words=words, look=look)
        if result["complete"]:
            return result
        looked = sum(keyset["looked_to"] for keyset in result["keysets"])
        proofs = sum(keyset["proofs"] for keyset in result["keysets"])
        tell(f"{result['mint']}: {looked:,} numbers looked at, {proofs:,} proofs found …")


def _read_words() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("The seed's words", hide_input=True, err=True))
    return read_argument("-")


def _another_home(home: Path, mint: str) -> str:
    return (
        f"the wallet in {home} is in use with another seed. Give the restored one a home of its own: "
        f"`OTRTA_HOME=DIR otrta restore --mint {mint}`"
    )
