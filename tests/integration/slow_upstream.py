"""An upstream that takes its time: one word every tenth of a second, for as long as the prompt says."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

WORD_S = 0.1


@contextmanager
def slow_upstream() -> Iterator[str]:
    """Run it, and yield the address of its API."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            words = round(float(body["messages"][-1]["content"]) / WORD_S)
            with suppress(OSError):  # a gateway that is killed hangs up
                (self.stream if body.get("stream") else self.whole)(words)
            self.close_connection = True

        def whole(self, words: int) -> None:
            time.sleep(words * WORD_S)
            choice = {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": " w" * words},
            }
            self.start("application/json")
            self.wfile.write(json.dumps(answer("chat.completion", choice) | {"usage": usage(words)}).encode())

        def stream(self, words: int) -> None:
            self.start("text/event-stream")
            for _ in range(words):
                time.sleep(WORD_S)
                self.event(answer("chat.completion.chunk", {"index": 0, "delta": {"content": " w"}}))
            self.event(answer("chat.completion.chunk", {"index": 0, "delta": {}, "finish_reason": "stop"}))
            self.event(answer("chat.completion.chunk") | {"usage": usage(words)})
            self.wfile.write(b"data: [DONE]\n\n")

        def start(self, content_type: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Connection", "close")
            self.end_headers()

        def event(self, data: dict[str, Any]) -> None:
            self.wfile.write(f"data: {json.dumps(data)}\n\n".encode())
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            thread.join()


def answer(kind: str, *choices: dict[str, Any]) -> dict[str, Any]:
    """An answer of OpenAI's shape."""
    return {"id": "slow", "object": kind, "created": 1, "model": "slow", "choices": list(choices)}


def usage(words: int) -> dict[str, int]:
    """What it took."""
    return {"prompt_tokens": 10, "completion_tokens": words, "total_tokens": 10 + words}
