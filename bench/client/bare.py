"""A proxy on the client's server and transport that passes on and does nothing else.

``python -m bench.client.bare PORT TARGET``
"""

import sys
from typing import Any

import httpx
import trio

from proxy_trio.gateway import gateway_transport
from proxy_trio.serve import serve

PASSED = {b"content-type", b"content-length", b"x-cashu"}


class Bare:
    """The ASGI app."""

    def __init__(self, target: str, transport: httpx.AsyncBaseTransport) -> None:
        self._target = target
        self._transport = transport

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        headers = [header for header in scope["headers"] if header[0] in PASSED]
        request = httpx.Request(scope["method"], self._target + scope["path"], headers=headers, content=body)
        reply = await self._transport.handle_async_request(request)
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": reply.status_code,
                    "headers": [h for h in reply.headers.raw if h[0].lower() == b"content-type"],
                }
            )
            async for piece in reply.aiter_raw():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            await reply.aclose()
        await send({"type": "http.response.body", "body": b""})


async def run(port: int, target: str) -> None:
    async with gateway_transport(verify=False) as transport:
        await serve(Bare(target, transport), port)


if __name__ == "__main__":
    trio.run(run, int(sys.argv[1]), sys.argv[2])
