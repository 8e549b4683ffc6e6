"""The connection to gateways: the one HTTP client factory, and its errors mapped to ours."""

import logging
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Self

import httpx
import trio

from proxy_trio.errors import GatewayBrokeOff, GatewayFailure, GatewayTimeout, GatewayUnreachable
from proxy_trio.headers import Header

MAX_CONNECTIONS: Final = 100
_CLOSE_S: Final = 5

# At DEBUG it writes whole header lists, and with them change that anyone could spend.
logging.getLogger("httpcore.http11").disabled = True


def gateway_transport(verify: ssl.SSLContext | bool = True) -> httpx.AsyncHTTPTransport:
    """Make the client that all requests to gateways go through.

    It is a bare transport: no cookies, no redirects, no default headers, no proxies or credentials from
    the environment, no log lines with addresses. Connections are not kept: one that stays open would
    tell the gateway that two calls are of one payer, and a stale one can swallow a payment.

    Args:
        verify: How certificates are checked.
    """
    return httpx.AsyncHTTPTransport(
        verify=verify,
        trust_env=False,
        http1=True,
        http2=False,
        retries=0,
        limits=httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=0),
    )


def build_request(
    method: str,
    gateway_url: str,
    path: str,
    query: bytes,
    headers: Sequence[Header],
    content: bytes | None,
    *,
    connect_s: float,
    idle_s: float,
) -> httpx.Request:
    """Write one request; of what it sends only Host and Content-Length are not the caller's.

    Args:
        method: The HTTP method.
        gateway_url: The gateway's address, without ``/v1``; a path in it is kept as a prefix.
        path: The path below that address, plain ASCII.
        query: The query string as the app sent it, without the question mark.
        headers: The headers to send.
        content: The body, byte for byte, or None.
        connect_s: Seconds for a free connection and for the connection and its TLS.
        idle_s: Seconds without a byte read or written.

    Raises:
        GatewayUnreachable: The address cannot be used.
    """
    try:
        url = httpx.URL(gateway_url)
    except (httpx.InvalidURL, TypeError, ValueError):
        raise GatewayUnreachable("The gateway's address is not a URL. Check `otrta gateways`.") from None
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise GatewayUnreachable(
            "The gateway's address is not a plain http or https URL. Check `otrta gateways`."
        )
    prefix = url.raw_path.partition(b"?")[0].rstrip(b"/")
    target = prefix + path.encode("ascii") + (b"?" + query if query else b"")
    timeout = httpx.Timeout(idle_s, connect=connect_s, pool=connect_s)
    return httpx.Request(
        method,
        url,
        headers=list(headers),
        content=content,
        # The target goes around the URL parser, which would write some query strings anew.
        extensions={"timeout": timeout.as_dict(), "target": target},
    )


@contextmanager
def gateway_failures() -> Iterator[None]:
    """Map the HTTP client's errors to ours. Their texts are dropped: they can quote headers.

    Raises:
        GatewayUnreachable: Nothing was sent.
        GatewayTimeout: The gateway was silent for too long.
        GatewayBrokeOff: Anything else.
    """
    failure: GatewayFailure
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol):
        failure = GatewayUnreachable("The gateway cannot be reached; nothing was paid. Try again later.")
    except httpx.PoolTimeout:
        failure = GatewayUnreachable(
            f"{MAX_CONNECTIONS} calls are running already; nothing was paid. Try again when some have ended."
        )
    except (httpx.ReadTimeout, httpx.WriteTimeout):
        failure = GatewayTimeout(
            "The gateway was silent for too long. Your change is fetched in the background: "
            "see `otrta pending`."
        )
    except httpx.HTTPError:
        failure = broke_off()
    else:
        return
    raise failure from None


def broke_off() -> GatewayBrokeOff:
    """The error for an answer that did not come whole."""
    return GatewayBrokeOff(
        "The gateway broke off before its answer was whole. Your change is fetched in the background: "
        "see `otrta pending`."
    )


class GatewayReply:
    """An answer whose body is read piece by piece; ``close`` ends it at any point."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers: tuple[Header, ...] = tuple(response.headers.raw)
        self._response = response
        self._pieces = aiter(_stream(response))

    @classmethod
    async def ask(cls, transport: httpx.AsyncBaseTransport, request: httpx.Request) -> Self:
        """Send a request and wait for the head of the answer.

        If cancelled, the request may have been sent, in part or whole.

        Raises:
            GatewayFailure: No head of an answer came.
        """
        with gateway_failures():
            return cls(await transport.handle_async_request(request))

    async def next_piece(self) -> bytes | None:
        """Wait for the next bytes of the body, still encoded.

        Returns:
            The bytes, or None at the end.

        Raises:
            GatewayFailure: The body does not come whole.
        """
        with gateway_failures():
            return await anext(self._pieces, None)

    async def close(self) -> None:
        """Close the connection, also where the task is cancelled."""
        with trio.move_on_after(_CLOSE_S) as scope:
            scope.shield = True
            await self._unwind()
            await self._response.aclose()

    async def _unwind(self) -> None:
        # The HTTP client nests generators that only an error inside the innermost one unwinds in order.
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                async for _ in self._pieces:
                    pass
            except httpx.HTTPError:
                return


def _stream(response: httpx.Response) -> httpx.AsyncByteStream:
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise TypeError("the transport answered with a blocking stream")
    return response.stream
