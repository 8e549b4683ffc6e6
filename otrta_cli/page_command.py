"""`otrta page`: the wallet page in the browser, logged in by a link that works once."""

import html
import json
import webbrowser
from pathlib import Path
from typing import Final

import click

from otrta_cli.wallet_link import HOST, WalletLink, serving
from otrta_core import OtrtaError
from proxy_trio.client_settings import client_home

OPENER: Final = "page.html"
"""What the browser is given to open: arguments of processes can be read by everybody on this machine."""


class NotServing(OtrtaError):
    """No proxy serves this wallet, and so nobody serves its page."""

    code = "not_serving"


@click.command()
@click.option("--no-open", is_flag=True, help="Only print the link.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a program, and open nothing.")
def page(no_open: bool, as_json: bool) -> None:
    """Open the wallet page of the running `otrta serve` in the browser.

    The link logs one browser in, once, within ten minutes.
    """
    home = client_home().absolute()
    proxy = serving(home)
    if proxy is None:
        raise NotServing("the wallet page is part of `otrta serve`, which does not run: start it first")
    link = WalletLink(home).act("page_link")
    url = f"http://{HOST}:{proxy.port}{link['path']}"
    if as_json:
        click.echo(json.dumps({"url": url, "expires_s": link["expires_s"]}))
        return
    if no_open or not open_in_browser(home, url):
        click.echo(f"{url}\nIt works once, within {link['expires_s'] // 60} minutes.")


def open_in_browser(home: Path, url: str) -> bool:
    """Open a one-time link in the user's browser; False where there is none."""
    from proxy_trio.private_files import write_private

    opener = home / OPENER
    write_private(
        opener,
        '<!doctype html><meta charset="utf-8">'
        f'<meta http-equiv="refresh" content="0; url={html.escape(url)}">',
    )
    return webbrowser.open(opener.as_uri())
