"""A server that behaves as a Routstr node, as far as its callers see: shapes of replies, not its code."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio

from tests.integration.purse import Purse
from tests.integration.scripted_gateway import JSON, SSE, USAGE, Seen, _read, send

MODEL: Mapping[str, Any] = {
    "id": "m",
    "name": "Maker: M",
    "created": 1750172488,
    "description": "a model",
    "context_length": 100_000,
    "architecture": {
        "modality": "text->text",
        "input_modalities": ["text"],
        "output_modalities": ["text"],
        "tokenizer": "Other",
        "instruct_type": None,
    },
    "pricing": {"prompt": 1e-06, "completion": 5e-06, "request": 0.0, "image": 0.0, "max_cost": 0.09},
    "sats_pricing": {
        "prompt": 0.001,
        "completion": 0.005,
        "request": 0.001,
        "image": 0.0,
        "web_search": 0.0,
        "internal_reasoning": 0.0,
        "input_cache_read": 0.0005,
        "input_cache_write": 0.0,
        "max_prompt_cost": 100.0,
        "max_completion_cost": 5.0,
        "max_cost": 104.0,
    },
    "per_request_limits": None,
    "top_provider": {"context_length": 100_000, "max_completion_tokens": 1_000, "is_moderated": False},
    "enabled": True,
    "upstream_provider_id": 1,
    "canonical_slug": None,
    "alias_ids": ["maker/m"],
    "forwarded_model_id": None,
}
"""What ``/v1/models`` shows of a model: 1 msat a prompt token, 5 msat an output token."""
COST_MSAT = 110
NO_MODEL = {
    "error": {"message": "Model 'unknown' not found", "type": "invalid_model", "code": 400},
    "request_id": "r",
}
ANSWER = {"object": "chat.completion", "model": "m", "choices": [], "usage": USAGE}
STREAM = f'data: {{"choices":[],"model":"m","usage":{json.dumps(USAGE)}}}\n\ndata: [DONE]\n\n'.encode()


@dataclass
class RoutstrNode:
    """Sells chat calls.

    Attributes:
        model: what it lists.
        asks: what it wants before a call, in msat.
        cost: what it charges, in msat.
        failing: what happens to a call once it is paid: None, "upstream" (it gives all back), "refund" (it
            gives nothing, and has nothing), "silent" (the change is only at its route), or "redeem" (it
            cannot redeem the token, and sends it back).
        swept: whether it has taken back change that was not fetched.
        seen: the calls as they came.
        claims: the requests on its refund route.
        given: its change, by the very text of the token.
    """

    purse: Purse
    model: dict[str, Any] = field(default_factory=lambda: json.loads(json.dumps(MODEL)))
    asks: int = 1
    cost: int = COST_MSAT
    failing: str | None = None
    swept: bool = False
    mints: tuple[str, ...] = ()
    seen: list[Seen] = field(default_factory=list)
    claims: list[Seen] = field(default_factory=list)
    given: dict[str, str | None] = field(default_factory=dict)
    url: str = ""

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer one connection's one request."""
        async with stream:
            try:
                seen = await _read(stream)
                match seen.path:
                    case "/v1/models":
                        await reply(stream, 200, {"data": [self.model]})
                    case "/v1/info":
                        mints = list(self.mints or (self.purse.mint,))
                        await reply(stream, 200, {"name": "a node", "version": "0.4", "mints": mints})
                    case "/v1/wallet/refund":
                        self.claims.append(seen)
                        await self._refund(stream, dict(seen.headers).get("x-cashu", ""))
                    case "/v1/chat/completions":
                        self.seen.append(seen)
                        await self._sell(stream, seen)
                    case _:
                        await reply(stream, 400, NO_MODEL)
            except trio.BrokenResourceError:
                pass

    async def _sell(self, stream: trio.SocketStream, seen: Seen) -> None:
        text = dict(seen.headers).get("x-cashu")
        if text is None:
            await reply(stream, 401, {"detail": "Unauthorized", "request_id": "r"})
            return
        token = seen.token
        worth = token.amount * (1000 if token.unit == "sat" else 1)
        if worth < self.asks:
            detail = {"reason": "Insufficient balance", "amount_required_msat": self.asks, "model": "m"}
            detail["type"] = "minimum_balance_required"
            await reply(stream, 402, {"detail": detail, "request_id": "r"})
            return
        if self.failing == "redeem":
            error = {"message": "…", "type": "mint_unreachable", "code": "cashu_mint_unreachable"}
            await reply(stream, 503, {"error": error, "request_id": "r"}, {"X-Cashu": text})
            return
        await trio.to_thread.run_sync(self.purse.spend, token)
        self.given[text] = None
        if self.failing == "refund":
            error = {"message": "…", "type": "upstream_error", "code": "upstream_request_failed"}
            await reply(stream, 502, {"error": error, "request_id": "r"})
            return
        cost = 0 if self.failing == "upstream" else self.cost
        kept = -(-cost // 1000) if token.unit == "sat" else cost
        headers = {}
        if rest := token.amount - kept:
            change = await trio.to_thread.run_sync(partial(self.purse.token, rest, token.unit))
            self.given[text] = change.encode(3)
            headers = {} if self.failing == "silent" else {"X-Cashu": change.encode(3)}
        if self.failing == "upstream":
            error = {"message": "…", "type": "upstream_error", "code": 500}
            error["refund_token"] = self.given[text]
            await reply(stream, 500, {"error": error}, headers)
        elif json.loads(seen.body).get("stream"):
            await send(stream, 200, {**SSE, **headers}, STREAM)
        else:
            await reply(stream, 200, ANSWER, headers)

    async def _refund(self, stream: trio.SocketStream, text: str) -> None:
        if text not in self.given:
            await reply(stream, 404, {"detail": "Refund not found", "request_id": "r"})
        elif self.swept:
            await reply(stream, 410, {"detail": "Refund has been swept", "request_id": "r"})
        elif (change := self.given[text]) is None:
            told = {"detail": "Refund is pending; retry shortly.", "request_id": "r"}
            await reply(stream, 425, told, {"Retry-After": "2"})
        else:
            await reply(stream, 200, {"token": change, "msats": "1"}, {"X-Cashu": change})


async def reply(
    stream: trio.SocketStream, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> None:
    """Answer with JSON."""
    await send(stream, status, {**JSON, **(headers or {})}, json.dumps(body).encode())


@asynccontextmanager
async def routstr_node(purse: Purse, **options: Any) -> AsyncIterator[RoutstrNode]:
    """Run a node."""
    node = RoutstrNode(purse, **options)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    node.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, node.serve, listeners)
        yield node
        nursery.cancel_scope.cancel()
