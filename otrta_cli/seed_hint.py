"""Telling a person, once, that the wallet has a seed."""

import sys

import click

from proxy_trio.client import Client
from proxy_trio.seed_actions import is_first_word_of_seed

_HINT = (
    "This wallet is new. Twelve words bring its money back should this machine be lost: "
    "`otrta config seed` shows them. Write them down now, and keep them to yourself."
)


async def hint_at_seed(client: Client) -> None:
    """Say on standard error how to see the seed's words, if that is a terminal and nobody was told before."""
    if sys.stderr.isatty() and await is_first_word_of_seed(client):
        click.echo(_HINT, err=True)
