"""A gateway for tests that run no event loop: it sells chat calls from a thread, with real e-cash."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from otrta_core import Token
from tests.integration.purse import Purse

USAGE = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
COST_MSAT = 110


@contextmanager
def small_gateway(
    purse: Purse,
    models: Sequence[str] = ("small",),
    name: str = "small gateway",
    price_msat: int = 1_000_000,
) -> Iterator[str]:
    """Run a gateway that takes the purse's e-cash; every call costs `COST_MSAT`. Yields its URL."""
    price = {"input_msat_per_mtok": price_msat, "output_msat_per_mtok": 5_000_000}
    info = {
        "name": name,
        "unit": "msat",
        "mints": [{"url": purse.mint, "units": {"msat": {"input_fee_ppk": 0}, "sat": {"input_fee_ppk": 0}}}],
        "models": [{"id": model, **price} for model in models],
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(info if self.path == "/v1/cashu/info" else {}, {})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path != "/v1/chat/completions":
                self.send_error(404)
                return
            paid = Token.parse(self.headers["X-Cashu"])
            purse.spend(paid)
            change = purse.token(paid.amount - COST_MSAT, paid.unit)
            figures = {"Paid": paid.amount, "Cost": COST_MSAT, "Fee": 0, "Change": change.amount}
            headers = {f"X-Otrta-{word}-Msat": str(sum_) for word, sum_ in figures.items()}
            message = {"role": "assistant", "content": "hello"}
            body = {
                "object": "chat.completion",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": USAGE,
            }
            self._answer(body, {"X-Cashu": change.encode(), **headers})

        def _answer(self, body: Any, headers: dict[str, str]) -> None:
            data = json.dumps(body).encode()
            self.send_response(200)
            for key, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
