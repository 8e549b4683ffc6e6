"""Small requests to gateways: bounded in size and time, read whole, never redirected."""

from typing import Final

import httpx
import trio

from proxy_trio.errors import GatewayBrokeOff, GatewayTimeout
from proxy_trio.gateway import GatewayReply, build_request

MAX_BYTES: Final = 8 << 20
CONNECT_S: Final = 10.0
IDLE_S: Final = 20.0
WHOLE_S: Final = 40.0
"""How long an answer may take in all, however steadily it trickles."""


async def ask(
    transport: httpx.AsyncBaseTransport, method: str, gateway_url: str, path: str
) -> tuple[int, bytes]:
    """Make a small request to a gateway; return status and body.

    Raises:
        GatewayFailure: no whole answer came, or one that is too large.
    """
    reply, body = await ask_for_reply(transport, method, gateway_url, path, [])
    return reply.status, body


async def ask_for_reply(
    transport: httpx.AsyncBaseTransport,
    method: str,
    gateway_url: str,
    path: str,
    headers: list[tuple[bytes, bytes]],
) -> tuple[GatewayReply, bytes]:
    """Make a small request to a gateway; return the reply, closed, and its body.

    Raises:
        GatewayFailure: no whole answer came, or one that is too large.
    """
    fixed = [(b"Accept", b"application/json"), (b"Accept-Encoding", b"identity")]
    content = b"" if method == "POST" else None
    request = build_request(
        method, gateway_url, path, b"", [*fixed, *headers], content, connect_s=CONNECT_S, idle_s=IDLE_S
    )
    with trio.move_on_after(WHOLE_S):
        reply = await GatewayReply.ask(transport, request)
        try:
            return reply, await _whole(reply, gateway_url)
        finally:
            await reply.close()
    raise GatewayTimeout(f"The gateway {gateway_url} did not answer within {WHOLE_S:g} s.")


async def _whole(reply: GatewayReply, gateway_url: str) -> bytes:
    body = bytearray()
    while (piece := await reply.next_piece()) is not None:
        body += piece
        if len(body) > MAX_BYTES:
            raise GatewayBrokeOff(f"The gateway {gateway_url} answered with more than it should.")
    return bytes(body)
