"""A gateway that costs next to no time: it takes what it is given for paid and has its change ready.

It stands in for LiteLLM and its gate, which would drown what is measured. What it gives as change is real
e-cash, made before; what it is paid with it keeps.

``python -m bench.client.gateway PORT MINT FILE``: the file holds its tokens, one a line.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import uvicorn

from otrta_core import Proof, Token, pick_exact

PRICE = {"input_msat_per_mtok": 1_000_000, "output_msat_per_mtok": 1_000_000, "request_msat": 1}
USAGE = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
COST_MSAT = 31
CHUNKS = 20


class Gateway:
    """The ASGI app."""

    def __init__(self, mint: str, tokens: list[Token]) -> None:
        self._mint = mint
        self._stock: dict[int, list[Proof]] = defaultdict(list)
        for token in tokens:
            for proof in token.proofs:
                self._stock[proof.amount].append(proof)
        units = {"msat": {"input_fee_ppk": 0}}
        self._info = {
            "name": "bench",
            "unit": "msat",
            "mints": [{"url": mint, "units": units}],
            "models": [{"id": "m", **PRICE}],
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        if scope["path"] == "/v1/cashu/info":
            await self._send(send, b"application/json", [json.dumps(self._info).encode()])
            return
        sent = dict(scope["headers"]).get(b"x-cashu")
        change = None if sent is None else self._change(Token.parse(sent.decode()).amount - COST_MSAT)
        if json.loads(body).get("stream"):
            await self._send(send, b"text/event-stream", _stream(change))
        else:
            answer = {"object": "chat.completion", "choices": [], "usage": USAGE}
            await self._send(send, b"application/json", [json.dumps(answer).encode()], change)

    def _change(self, amount: int) -> str:
        few = [proof for proofs in self._stock.values() for proof in proofs[-20:]]
        chosen = pick_exact(few, amount, max_proofs=64)
        if chosen is None:
            raise SystemExit(f"the gateway has no change of {amount} msat left")
        for proof in chosen:
            self._stock[proof.amount].remove(proof)
        return Token(self._mint, "msat", tuple(chosen)).encode()

    async def _send(
        self, send: Any, content_type: bytes, pieces: list[bytes], change: str | None = None
    ) -> None:
        headers = [(b"content-type", content_type)]
        if change is not None:
            headers.append((b"x-cashu", change.encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _stream(change: str | None) -> list[bytes]:
    said = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "word "}}]}
    counted = {"object": "chat.completion.chunk", "choices": [], "usage": USAGE}
    events = [f"data: {json.dumps(event)}\n\n".encode() for event in [*[said] * CHUNKS, counted]]
    comments = [] if change is None else [f": x-cashu {change}\n\n".encode()]
    return [*events, *comments, b"data: [DONE]\n\n"]


def main() -> None:
    port, mint, file = sys.argv[1:]
    tokens = [Token.parse(line) for line in Path(file).read_text().split()]
    uvicorn.run(Gateway(mint, tokens), host="127.0.0.1", port=int(port), log_level="error", lifespan="off")


if __name__ == "__main__":
    main()
