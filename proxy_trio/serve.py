"""Serves the app with hypercorn, under Trio: on loopback, and where the user says so on another address."""

import ipaddress
import logging
import socket
from typing import Any, Final

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve
from starlette.types import ASGIApp

from proxy_trio.client_settings import DEFAULT_HOST
from proxy_trio.errors import PortTaken

__all__ = ["PortTaken", "serve"]

MAX_HEADER_BYTES: Final = 128 * 1024
BACKLOG: Final = 100

# SDKs keep a connection for 5 s or more; one that is closed sooner here fails their next call.
_KEEP_ALIVE_S: Final = 75.0
_GRACE_S: Final = 2.0
_STALL_MS: Final = 60_000
_COVERS_LOOPBACK: Final = ("127.0.0.1", "0.0.0.0", "::")  # noqa: S104  # what the user may ask for


async def serve(
    app: ASGIApp,
    port: int,
    *,
    host: str = DEFAULT_HOST,
    stop: trio.Event | None = None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``stop`` is set, then let running requests end for a short while.

    If cancelled, requests are cut at once; the app's lifespan still closes in order.

    Args:
        app: The ASGI app.
        port: The port; 0 picks a free one.
        host: An IP address; 127.0.0.1 is listened on beside it, for the commands of this machine.
        stop: Set it to stop.
        task_status: Gets the port once connections are accepted.

    Raises:
        PortTaken: Something else listens on the port, or the system does not let us have it.
    """
    listeners = [_listen(DEFAULT_HOST, port)] if host not in _COVERS_LOOPBACK else []
    bound: int = listeners[0].getsockname()[1] if listeners else port
    try:
        listeners.append(_listen(host, bound))
    except BaseException:
        for each in listeners:
            each.close()
        raise
    bound = listeners[-1].getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listener.detach()}" for listener in listeners]
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
    is_v6 = ipaddress.ip_address(host).version == 6
    listener = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET)
    try:
        if is_v6:
            # so that "::" covers IPv4, and 127.0.0.1 with it, whatever the system's default is
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
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
