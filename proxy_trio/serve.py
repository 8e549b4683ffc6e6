"""Serves the app on loopback with hypercorn, under Trio."""

import ipaddress
import logging
import socket
from typing import Any, Final

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve
from starlette.types import ASGIApp

from proxy_trio.errors import PortTaken

__all__ = ["PortTaken", "serve"]

MAX_HEADER_BYTES: Final = 128 * 1024
BACKLOG: Final = 100

# SDKs keep a connection for 5 s or more; one that is closed sooner here fails their next call.
_KEEP_ALIVE_S: Final = 75.0
_GRACE_S: Final = 2.0
_STALL_MS: Final = 60_000


async def serve(
    app: ASGIApp,
    port: int,
    *,
    host: str = "127.0.0.1",
    stop: trio.Event | None = None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``stop`` is set, then let running requests end for a short while.

    If cancelled, requests are cut at once; the app's lifespan still closes in order.

    Args:
        app: The ASGI app.
        port: The port; 0 picks a free one.
        host: A loopback address.
        stop: Set it to stop.
        task_status: Gets the port once connections are accepted.

    Raises:
        PortTaken: Something else listens on the port, or the system does not let us have it.
        ValueError: The host is no loopback address.
    """
    listener = _listen(host, port)
    bound: int = listener.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.h11_max_incomplete_size = MAX_HEADER_BYTES
    config.graceful_timeout = _GRACE_S
    config.keep_alive_timeout = _KEEP_ALIVE_S
    config.accesslog = None
    config.errorlog = logging.getLogger("proxy_trio.hypercorn")
    config.include_server_header = False
    config.include_date_header = False
    await hypercorn_serve(
        app,
        config,
        shutdown_trigger=stop.wait if stop is not None else trio.sleep_forever,
        task_status=_Started(task_status, bound),
        mode="asgi",
    )


class _Started:
    """Tells the caller the port where hypercorn tells its list of addresses."""

    def __init__(self, task_status: trio.TaskStatus[int], port: int) -> None:
        self._task_status = task_status
        self._port = port

    def started(self, _binds: Any) -> None:
        self._task_status.started(self._port)


def _listen(host: str, port: int) -> socket.socket:
    address = ipaddress.ip_address(host)
    if not address.is_loopback:
        raise ValueError("the client proxy listens on loopback addresses only")
    listener = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # An app that stopped reading would otherwise hold its connection, and a shutdown, for ever.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STALL_MS)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise PortTaken(
            f"Port {port} on {host} cannot be used ({error.strerror}). Stop what listens there, "
            "or choose another port with --port."
        ) from None
    return listener
