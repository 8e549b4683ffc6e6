"""`python -m otrta_cli.upstream`: serve the upstream until told to stop."""

import signal
import socket

import click
import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from otrta_cli.upstream import make_app


async def _until_told_to_stop() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=4010, show_default=True, help="Port to listen on.")
def main(host: str, port: int) -> None:
    """Serve an OpenAI-compatible upstream whose model names pick its faults."""
    try:
        listener = socket.create_server((host, port))
    except OSError as failure:
        raise click.ClickException(f"cannot listen on {host}:{port}: {failure.strerror}") from failure
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.graceful_timeout = 0.0
    # A connection closed while idle would fail a pooled client's next call: a fault that no model has.
    config.keep_alive_timeout = 3600.0
    config.keep_alive_max_requests = 1_000_000_000
    trio.run(lambda: serve(make_app(), config, shutdown_trigger=_until_told_to_stop))


if __name__ == "__main__":
    main()
