"""A gateway on a real socket that does as a test tells it, byte for byte, with real e-cash."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import trio

from otrta_core import PaymentRequest, Spend, Token, schnorr, unlock
from tests.integration.purse import Purse

PRICE = {"input_msat_per_mtok": 1_000_000, "output_msat_per_mtok": 5_000_000}
USAGE = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
COST_MSAT = 110
"""What a call with `USAGE` costs at `PRICE`."""
ANSWER = json.dumps({"object": "chat.completion", "choices": [], "usage": USAGE}).encode()
MIN_LOCK_S = 600
INSUFFICIENT = json.dumps({"error": {"code": "insufficient_payment", "message": "more"}}).encode()
JSON = {"Content-Type": "application/json"}
SSE = {"Content-Type": "text/event-stream"}


@dataclass
class Seen:
    """A request as it came in."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int = 0
    at: float = 0.0

    @property
    def token(self) -> Token:
        """The payment in its X-Cashu header."""
        return Token.parse(dict(self.headers)["x-cashu"])


Script = Callable[["ScriptedGateway", trio.SocketStream, Seen], Awaitable[None]]


@dataclass
class ScriptedGateway:
    """Answers paid calls with the scripts of a list, and the change routes with one more.

    Attributes:
        purse: makes and takes its e-cash.
        calls: a script for each call, in order.
        claim: the script for the change routes; None answers 404.
        seen: the calls as they came.
        claims: the requests on the change routes.
        taken: the tokens that were redeemed, as they came.
        given: the change of each, by the Y of its first proof.
        lock_key: opens tokens that are locked to it.
        ppk: the mint's input fee, as its change routes reckon with it.
        locks: whether it says that it takes locked tokens.
        keeps_alive: whether a connection may bring more than one request, where its client wants that.
        info: what it says of itself, changed by tests.
    """

    purse: Purse
    calls: list[Script] = field(default_factory=list)
    claim: Script | None = None
    seen: list[Seen] = field(default_factory=list)
    claims: list[Seen] = field(default_factory=list)
    taken: list[Token] = field(default_factory=list)
    given: dict[str, str] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    url: str = ""
    locks: bool = False
    ppk: int = 0
    lock_key: bytes = field(default=bytes([7] * 32), repr=False)
    keeps_alive: bool = False
    running: int = 0
    _connections: int = 0

    async def until_idle(self) -> None:
        """Wait until every script has ended."""
        with trio.fail_after(10):
            while self.running:  # noqa: ASYNC110  # no event tells it
                await trio.sleep(0.01)

    async def take(self, seen: Seen, fee: int = 0) -> Token:
        """Redeem a payment; returns it as it came."""
        token = seen.token
        opened = replace(token, proofs=unlock(token.proofs, [self.lock_key], int(time.time()), Spend()))
        await trio.to_thread.run_sync(partial(self.purse.spend, opened, fee))
        self.taken.append(token)
        return token

    async def money(self, amount: int, unit: str = "msat", **options: Any) -> Token:
        """E-cash of its own."""
        return await trio.to_thread.run_sync(partial(self.purse.token, amount, unit, **options))

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer one connection's requests."""
        self._connections += 1
        number = self._connections
        async with stream:
            try:
                while True:
                    await self._answer(stream, number)
                    if not self.keeps_alive:
                        return
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async def _answer(self, stream: trio.SocketStream, number: int) -> None:
        seen = await _read(stream)
        seen.connection, seen.at = number, trio.current_time()
        async with self._counted():
            if seen.path == "/v1/cashu/info":
                await answer(200, self.info)(self, stream, seen)
            elif seen.path in ("/v1/cashu/change", "/v1/wallet/refund"):
                self.claims.append(seen)
                await (self.claim or answer(404))(self, stream, seen)
            else:
                self.seen.append(seen)
                await self.calls.pop(0)(self, stream, seen)

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1


@asynccontextmanager
async def scripted_gateway(purse: Purse, *scripts: Script, **options: Any) -> AsyncIterator[ScriptedGateway]:
    """Run a scripted gateway."""
    gateway = ScriptedGateway(purse, list(scripts), **options)
    gateway.info = {
        "name": "scripted",
        "unit": "msat",
        "mints": [
            {
                "url": purse.url,
                "units": {"msat": {"input_fee_ppk": 0}, "sat": {"input_fee_ppk": 0}},
            }
        ],
        "models": [{"id": "m", **PRICE}],
    }
    if gateway.locks:
        key = schnorr.public_key(gateway.lock_key)
        gateway.info["lock"] = {"policy": "accepted", "pubkey": key, "min_lock_s": MIN_LOCK_S}
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    gateway.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, gateway.serve, listeners)
        yield gateway
        nursery.cancel_scope.cancel()


def answer(status: int, body: Any = b"", headers: dict[str, str] | None = None) -> Script:
    """A whole answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def script(_gateway: ScriptedGateway, stream: trio.SocketStream, _seen: Seen) -> None:
        await send(stream, status, headers or JSON, data)

    return script


def sell(cost: int = COST_MSAT, *, body: bytes = ANSWER, fee: int = 0) -> Script:
    """What an honest gateway does: take the token and give the change in the header."""

    async def script(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Seen) -> None:
        paid = await gateway.take(seen, fee)
        rest = paid.amount - fee - cost
        headers = {**JSON, "X-Otrta-Change-Msat": "0"}
        if rest:
            gateway.given[paid.proofs[0].Y] = (await gateway.money(rest, paid.unit)).encode()
            headers = {**JSON, "X-Cashu": gateway.given[paid.proofs[0].Y]}
        await send(stream, 200, headers, body)

    return script


def ask(amount: int, status: int = 402, body: bytes = b"{}", form: str = "creqA") -> Script:
    """A refusal that says what is to be paid."""

    async def script(gateway: ScriptedGateway, stream: trio.SocketStream, _seen: Seen) -> None:
        request = PaymentRequest(amount=amount, unit="msat", mints=(gateway.purse.url,))
        await send(stream, status, {**JSON, "X-Cashu": request.encode(form)}, body)

    return script


def then(*scripts: Script) -> Script:
    """One thing after the other on the same connection."""

    async def script(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Seen) -> None:
        for each in scripts:
            await each(gateway, stream, seen)

    return script


async def take(gateway: ScriptedGateway, _stream: trio.SocketStream, seen: Seen) -> None:
    """Redeem the payment and say nothing."""
    await gateway.take(seen)


async def die(_gateway: ScriptedGateway, stream: trio.SocketStream, _seen: Seen) -> None:
    """Close the connection."""
    await stream.aclose()


def write(text: str | bytes) -> Script:
    """Send bytes as they are."""

    async def script(_gateway: ScriptedGateway, stream: trio.SocketStream, _seen: Seen) -> None:
        await stream.send_all(text.encode() if isinstance(text, str) else text)

    return script


def give_change(cost: int = COST_MSAT) -> Script:
    """An answer of the change route: what is left of the token, the same for everyone who asks."""

    async def script(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Seen) -> None:
        token = seen.token
        made, key = gateway.given, token.proofs[0].Y
        if key not in made:
            made[key] = (await gateway.money(token.amount - cost, token.unit)).encode()
        body = {"state": "settled", "paid_msat": token.amount, "cost_msat": cost, "fee_msat": 0}
        body["change_msat"] = token.amount - cost
        await send(stream, 200, {**JSON, "X-Cashu": made[key]}, json.dumps(body).encode())

    return script


async def send(stream: trio.SocketStream, status: int, headers: dict[str, str], body: bytes) -> None:
    """Write a whole answer."""
    rows = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} Status\r\n{rows}Content-Length: {len(body)}\r\n\r\n"
    await stream.send_all(head.encode() + body)


async def _read(stream: trio.SocketStream) -> Seen:
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some()
        if not more:
            raise trio.BrokenResourceError
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    line, *rows = head.decode("latin-1").split("\r\n")
    headers = [(name.lower(), value) for name, _, value in (row.partition(": ") for row in rows)]
    length = int(dict(headers).get("content-length", 0))
    while len(body) < length:
        body += await stream.receive_some()
    method, path, _ = line.split(" ")
    return Seen(method, path, headers, body)
