"""A server that sells by HTTP 402 alone (NUT-24): no info, no change, the whole token is the price."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from otrta_core import PaymentRequest, Token
from otrta_core.payment_request import Transport
from tests.integration.purse import Purse
from tests.integration.scripted_gateway import ANSWER, JSON, SSE, Seen, _read, send

STREAM = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\ndata: [DONE]\n\n'


@dataclass
class PlainSeller:
    """Sells chat calls.

    Attributes:
        price: of a request, in its unit.
        form: how it writes what it asks.
        mints: whose tokens it takes.
        models: those that it lists; None answers 404.
        status: of a paid call.
        redeems: whether it redeems at once.
        seen: the calls as they came.
        taken: the tokens that paid for one.
    """

    purse: Purse
    price: Callable[[Seen], int]
    form: str = "creqA"
    unit: str = "msat"
    mints: tuple[str, ...] = ()
    transports: tuple[Transport, ...] = ()
    models: tuple[str, ...] | None = ("m",)
    status: int = 200
    redeems: bool = True
    seen: list[Seen] = field(default_factory=list)
    taken: list[Token] = field(default_factory=list)
    url: str = ""

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer one connection's one request."""
        async with stream:
            try:
                seen = await _read(stream)
                if seen.path == "/v1/models" and self.models is not None:
                    listed = {"object": "list", "data": [{"id": name} for name in self.models]}
                    await send(stream, 200, JSON, json.dumps(listed).encode())
                elif seen.path != "/v1/chat/completions":
                    await send(stream, 404, JSON, b'{"detail":"Not Found"}')
                else:
                    self.seen.append(seen)
                    await self._sell(stream, seen)
            except trio.BrokenResourceError:
                pass

    async def _sell(self, stream: trio.SocketStream, seen: Seen) -> None:
        price = self.price(seen)
        asked = PaymentRequest(
            amount=price, unit=self.unit, mints=self.mints or (self.purse.mint,), transports=self.transports
        )
        refusal = {**JSON, "X-Cashu": asked.encode(self.form)}
        if "x-cashu" not in dict(seen.headers):
            await send(stream, 402, refusal, b'{"error":"payment required"}')
        elif seen.token.amount < price or seen.token.unit != self.unit:
            await send(stream, 400, refusal, b'{"error":"not enough"}')
        else:
            self.taken.append(seen.token)
            if self.redeems:
                await trio.to_thread.run_sync(self.purse.spend, seen.token)
            streamed = json.loads(seen.body).get("stream")
            await send(stream, self.status, SSE if streamed else JSON, STREAM if streamed else ANSWER)


@asynccontextmanager
async def plain_seller(
    purse: Purse, price: int | Callable[[Seen], int], **options: Any
) -> AsyncIterator[PlainSeller]:
    """Run a plain seller."""
    asks = price if callable(price) else lambda _seen: price
    seller = PlainSeller(purse, asks, **options)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    seller.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, seller.serve, listeners)
        yield seller
        nursery.cancel_scope.cancel()
