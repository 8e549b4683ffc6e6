"""Connections through a SOCKS5 proxy, such as Tor's (RFC 1928, RFC 1929).

The proxy resolves all names: none is looked up on this machine. Whatever fails before the proxy has said
that the way is open counts as not connected, so that it is certain that no byte of a request has left.
"""

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import SplitResult, quote, unquote, urlsplit

import anyio
import httpcore
import httpx
from httpcore._backends.auto import AutoBackend

from proxy_trio.errors import ProxyInvalid

DEFAULT_PORT: Final = 1080
_HANDSHAKE_S: Final = 60.0
"""How long a proxy may take where the caller set no time: Tor builds a circuit meanwhile."""

Credentials = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class SocksProxy:
    """A proxy, as the user names it.

    Attributes:
        host: of the proxy.
        port: of the proxy.
        credentials: user name and password; None for made-up ones.
    """

    host: str
    port: int
    credentials: Credentials | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read ``socks5h://[user:password@]host[:port]``.

        Raises:
            ProxyInvalid: it is something else; other schemes would look names up here.
        """
        try:
            parts = urlsplit(url.strip())
            host, port = parts.hostname, parts.port or DEFAULT_PORT
        except ValueError:
            raise _not_a_proxy() from None
        if parts.scheme != "socks5h" or not host or parts.path not in ("", "/") or parts.query:
            raise _not_a_proxy()
        return cls(host, port, _credentials(parts))

    @property
    def text(self) -> str:
        """The URL with credentials, as ``parse`` reads it."""
        if self.credentials is None:
            return str(self)
        user, password = (quote(word, safe="") for word in self.credentials)
        return str(self).replace("://", f"://{user}:{password}@", 1)

    def __str__(self) -> str:
        """The URL without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"socks5h://{host}:{self.port}"


def _credentials(parts: SplitResult) -> Credentials | None:
    if parts.username is None:
        return None
    found = (unquote(parts.username).encode(), unquote(parts.password or "").encode())
    if not all(0 < len(word) < 256 for word in found):
        raise _not_a_proxy()
    return found


def _not_a_proxy() -> ProxyInvalid:
    return ProxyInvalid(
        "A proxy is written as socks5h://HOST:PORT, Tor's as socks5h://127.0.0.1:9050. Other kinds are not "
        "used, because this machine would look names up itself."
    )


def made_up() -> Credentials:
    """Make credentials that nobody else uses: Tor keeps streams of different ones on circuits apart."""
    return secrets.token_hex(8).encode(), secrets.token_hex(8).encode()


class ThroughSocks(httpcore.AsyncNetworkBackend):
    """Opens connections by way of a proxy; ``credentials`` is asked for those of each."""

    def __init__(self, proxy: SocksProxy, credentials: Callable[[], Credentials]) -> None:
        self._proxy = proxy
        self._credentials = credentials
        self._direct = AutoBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # the interface's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the proxy and have it connect to a host, by name.

        Raises:
            httpcore.ConnectError, httpcore.ConnectTimeout: no connection; cancelled, there is none either.
        """
        # only who has a proxy needs what this needs
        from proxy_trio.socks_handshake import SOCKSError, open_way

        try:
            with anyio.fail_after(_HANDSHAKE_S if timeout is None else timeout):
                stream = await self._direct.connect_tcp(
                    self._proxy.host, self._proxy.port, timeout, local_address, socket_options
                )
                try:
                    await open_way(stream, host, port, self._credentials())
                except BaseException:
                    with anyio.CancelScope(shield=True):
                        await stream.aclose()
                    raise
        except TimeoutError:
            raise httpcore.ConnectTimeout("the SOCKS proxy did not answer in time") from None
        except (SOCKSError, httpcore.ReadError, httpcore.WriteError):
            raise httpcore.ConnectError("the SOCKS proxy did not open a way") from None
        return stream

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109  # the interface's
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: there is no way to such a one through a proxy."""
        raise httpcore.ConnectError("a proxy reaches no local socket")

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await anyio.sleep(seconds)


def sent_through(transport: httpx.AsyncHTTPTransport, backend: ThroughSocks) -> httpx.AsyncHTTPTransport:
    """Have a new transport open all its connections through a proxy."""
    transport._pool._network_backend = backend  # the one place that httpx leaves
    return transport
