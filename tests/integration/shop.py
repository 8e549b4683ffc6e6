"""Calling a gateway the way any HTTP client does, and reading what it says."""

import http.client
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from otrta_core import PaymentRequest, Token

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"
HI: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
COST_MSAT = 110
"""What a demo-chat call costs."""


def chat(model: str = "demo-chat", **fields: Any) -> dict[str, Any]:
    """The body of a chat call."""
    return {"model": model, "messages": HI, **fields}


@dataclass(frozen=True)
class Reply:
    """A gateway's answer."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error that it says."""
        error: dict[str, Any] = self.json["error"]
        return error

    @property
    def code(self) -> str:
        """The error's code."""
        return str(self.error["code"])

    @property
    def change(self) -> Token | None:
        """The token in its X-Cashu header."""
        text = self.headers.get("x-cashu")
        return None if text is None else Token.parse(text)

    @property
    def request(self) -> PaymentRequest:
        """The payment request in its X-Cashu header."""
        return PaymentRequest.parse(self.headers["x-cashu"])

    @property
    def sums(self) -> tuple[int, int, int, int]:
        """Paid, cost, fee and change in msat, by its headers."""
        names = ("paid", "cost", "fee", "change")
        paid, cost, fee, change = (int(self.headers[f"x-otrta-{name}-msat"]) for name in names)
        return paid, cost, fee, change

    @property
    def comments(self) -> dict[str, str]:
        """The change comments of a stream."""
        lines = [line[2:].partition(" ") for line in self.body.decode().splitlines() if line[:2] == ": "]
        return {name: rest for name, _, rest in lines}

    @property
    def text(self) -> str:
        """The words that a stream delivered."""
        events = [line[6:] for line in self.body.decode().splitlines() if line.startswith("data: {")]
        choices = [choice for event in events for choice in json.loads(event).get("choices", [])]
        return "".join(choice["delta"].get("content") or "" for choice in choices)


@dataclass
class Shop:
    """A gateway, and the upstream behind it."""

    url: str
    upstream: str
    handled: list[str] = field(default_factory=list)
    _http: httpx.Client = field(
        default_factory=lambda: httpx.Client(trust_env=False, timeout=60, headers={"user-agent": "spy-agent"})
    )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def buy(
        self,
        token: Token | str | None,
        body: object = None,
        *,
        path: str = CHAT,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Reply:
        """Make a call that this token pays."""
        sent = dict(headers or {})
        if token is not None:
            sent["X-Cashu"] = token if isinstance(token, str) else token.encode()
        raw = json.dumps(chat() if body is None else body).encode() if content is None else content
        if method in ("GET", "HEAD", "OPTIONS"):
            raw = b""
        reply = self._http.request(method, self.url + path, content=raw, headers=sent)
        found = Reply(reply.status_code, reply.headers, reply.content)
        for text in (reply.headers.get("x-cashu", ""), found_comment(found.body)):
            if text.startswith(("cashuA", "cashuB")):
                self.handled += [text, *(proof.secret for proof in Token.parse(text).proofs)]
        return found

    def ask(self, body: object = None, **options: Any) -> Reply:
        """Make a call without a token."""
        return self.buy(None, body, **options)

    def change(self, token: Token | str, path: str = "/v1/cashu/change") -> Reply:
        """Ask what became of a token."""
        return self.buy(token, {}, path=path)

    def wait_until_taken(self, token: Token) -> Reply:
        """Wait until a token's call runs, and return what the change route then says."""
        deadline = time.monotonic() + 15
        while (reply := self.change(token)).status == 404 and time.monotonic() < deadline:
            time.sleep(0.05)
        return reply

    def wait_until_over(self, token: Token) -> Reply:
        """Wait until a token's call is over and its change is made."""
        deadline = time.monotonic() + 30
        while (reply := self.change(token)).status == 202 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert reply.status == 200, reply.body
        return reply

    def info(self) -> Any:
        """What the gateway says of itself."""
        return self.ask(path="/v1/cashu/info", method="GET").json

    def forget_calls(self) -> None:
        """Make the upstream forget what it has received."""
        self._http.delete(f"{self.upstream}/_calls").raise_for_status()

    def calls(self) -> list[dict[str, Any]]:
        """What the upstream has received."""
        calls: list[dict[str, Any]] = self._http.get(f"{self.upstream}/_calls").json()["calls"]
        return calls


def send_in_segments(port: int, raw: bytes, size: int = 1400) -> tuple[int, bytes]:
    """Send a request as a slow path would cut it, and return status and body of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(raw), size):
            connection.sendall(raw[at : at + size])
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        return reply.status, reply.read()


def found_comment(body: bytes) -> str:
    """The change in a stream's comments, or nothing."""
    lines = [line for line in body.split(b"\n") if line.startswith(b": x-cashu ")]
    return lines[-1][10:].decode() if lines else ""
