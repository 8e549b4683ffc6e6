"""`otrta serve`: the client proxy that LLM apps point at."""

import json
import os
import signal
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import trio

from otrta_cli.page_command import open_in_browser
from otrta_cli.seed_hint import hint_at_seed
from otrta_cli.wallet_link import serving
from otrta_core import format_msat
from otrta_wallet import WalletBusy
from proxy_trio import log, reports
from proxy_trio.app import build_app
from proxy_trio.client import Client, open_client
from proxy_trio.client_settings import ClientSettings, client_home, load_client_settings, with_host
from proxy_trio.local_api import announced, guard_of, new_local_token, wallet_routes
from proxy_trio.page.door import Door, one_time_path, open_door
from proxy_trio.serve import serve as serve_app
from proxy_trio.settings import ForwardSettings

STOP_S: Final = 1.0
"""How long running calls may still end by themselves, beside the time that the server gives them."""
BUSY_S: Final = 3.0
"""How long another command may still have the wallet open."""

_POLL_S = 0.2
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Which port to listen on.  [default: 8402]")
@click.option("--host", help="Which address to listen on.  [default: 127.0.0.1, this machine only]")
@click.option("--open", "open_page", is_flag=True, help="Open the wallet page in the browser.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object once it listens.")
def serve(port: int | None, host: str | None, open_page: bool, as_json: bool) -> None:
    """Run the client proxy that LLM apps point at, until Ctrl-C.

    It listens on 127.0.0.1 only, pays each call from the wallet within the budgets, and keeps the change. On
    an address that other machines reach (--host) it serves only apps with a key of `otrta keys`.
    """
    log.configure()
    home = client_home().absolute()
    settings = load_client_settings(home)
    if host is not None:
        settings = with_host(settings, host)
    hello = _Hello(as_json, open_page)
    trio.run(_serve, home, settings, settings.port if port is None else port, hello)


@dataclass(frozen=True, slots=True)
class _Hello:
    """What is done once it listens."""

    as_json: bool
    open_page: bool


async def _serve(home: Path, settings: ClientSettings, port: int, hello: _Hello) -> None:
    """Serve until a signal comes; a second one does not wait for running calls."""
    stop = trio.Event()
    # from the first moment on: a signal while the wallet opens must not be a traceback
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_on_signal, signals, stop, nursery.cancel_scope)
            await _open_and_serve(home, settings, port, hello, stop)
            nursery.cancel_scope.cancel()


async def _on_signal(signals: Any, stop: trio.Event, scope: trio.CancelScope) -> None:
    async for _number in signals:
        if stop.is_set():
            scope.cancel()
        stop.set()


async def _open_and_serve(
    home: Path, settings: ClientSettings, port: int, hello: _Hello, stop: trio.Event
) -> None:
    give_up_at = trio.current_time() + BUSY_S
    while not stop.is_set():
        try:
            async with open_client(home, settings) as client:
                await _run(client, port, hello, stop)
            return
        except WalletBusy:
            if (other := serving(home)) is not None:
                raise WalletBusy(
                    f"`otrta serve` has the wallet in {home} already: process {other.pid}, at "
                    f"http://127.0.0.1:{other.port}/v1"
                ) from None
            if trio.current_time() > give_up_at:
                raise WalletBusy(
                    f"another process has the wallet in {home} open: stop it, or name another by OTRTA_HOME"
                ) from None
        await trio.sleep(_POLL_S)


async def _run(client: Client, port: int, hello: _Hello, stop: trio.Event) -> None:
    token = new_local_token()
    door = open_door(client, token)
    app = build_app(
        client.payer,
        forward=ForwardSettings(stop_s=STOP_S, removed_fields=client.settings.privacy.strip_fields),
        guard=guard_of(client, token),
        routes=[*door.routes, *wallet_routes(client)],
        make_transport=client.new_transport,
    )
    async with trio.open_nursery() as background:
        background.start_soon(client.run)
        async with trio.open_nursery() as nursery:
            host = client.settings.host
            bound = await nursery.start(partial(serve_app, app, port, host=host, stop=stop))
            with announced(client.home, bound, token):
                await _say_hello(client, bound, hello, door)
                await hint_at_seed(client)
                await stop.wait()
        background.cancel_scope.cancel()


async def _say_hello(client: Client, port: int, hello: _Hello, door: Door) -> None:
    url = f"http://127.0.0.1:{port}"
    if not client.settings.is_private:
        click.echo(
            f"Other machines can reach this proxy at {client.settings.host}: only apps with a key are "
            "served, keys and prompts go over the network unencrypted, and the wallet is out of their reach.",
            err=True,
        )
    if hello.open_page:
        await trio.to_thread.run_sync(open_in_browser, client.home, url + one_time_path(door.sessions))
    if hello.as_json:
        click.echo(json.dumps({"url": url, "home": str(client.home), "pid": os.getpid()}))
        return
    key = "with a key of `otrta keys`" if client.settings.keys_required else "any key will do"
    click.echo(f"Point apps at {url}/v1 ({key}). The wallet is in {client.home}")
    for hint in await hints(client):
        click.echo(f"  {hint}")
    if sys.stdout.isatty():  # a log is no place for a link that logs in
        click.echo(f"  The wallet page, by a link that works once: {url}{one_time_path(door.sessions)}")
    else:
        click.echo(f"  The wallet page is at {url}/ (`otrta page` opens it).")


async def hints(client: Client) -> list[str]:
    """Return what to do next, each as one line: what is missing before a call can be paid comes first."""
    shown = await client.wallet.transactions.run(reports.balance)
    found = []
    if client.settings.keys_required and not client.keys.known:
        found.append("No app has a key yet, so none is served. Make one: otrta keys add NAME")
    if not client.wallet.mints.urls:
        found.append("No mint yet. Add one that you trust with money: otrta mints add URL")
    elif not shown["total_msat"]:
        found.append("The wallet is empty. Top it up: otrta invoice AMOUNT, or otrta receive TOKEN")
    if not await client.gateways.entries():
        found.append("No gateway yet. Add one that sells LLM calls: otrta gateways add URL")
    return found or [f"{format_msat(shown['available_msat'])} can be spent."]
