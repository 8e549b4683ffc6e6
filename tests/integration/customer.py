"""The client proxy in this process, with a wallet on disk and money from a real mint."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trio
from sqlalchemy import Connection

from otrta_core import Token
from otrta_wallet.mint_client import new_http_client
from otrta_wallet.schema import ProofStatus
from otrta_wallet.store import insert_proofs
from otrta_wallet.transactions import Transactions
from proxy_trio import calls, reports
from proxy_trio.actions import act
from proxy_trio.app import build_app
from proxy_trio.calls import PaidCall
from proxy_trio.client import Client, open_client
from proxy_trio.client_settings import ClientSettings
from proxy_trio.gateway import gateway_transport
from proxy_trio.local_api import guard_of
from proxy_trio.schema import CallState
from proxy_trio.serve import serve
from proxy_trio.settings import ForwardSettings

CHAT = "/v1/chat/completions"
HI: Mapping[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 100,
}
"""A call whose quote is 32 + 16 + 2 prompt tokens and 100 output tokens: 550 msat."""
QUOTE_MSAT = 550
Between = Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport]
FUNDS = 10_000


@dataclass
class Customer:
    """An app and its client proxy."""

    client: Client
    http: httpx.AsyncClient
    port: int

    async def ask(self, body: Mapping[str, Any] = HI, **options: Any) -> httpx.Response:
        """Make a chat call."""
        return await self.http.post(CHAT, json=dict(body), **options)

    async def ask_and_leave(self, body: Mapping[str, Any]) -> None:
        """Make a chat call and hang up at the first byte of its answer's body."""
        data = json.dumps(dict(body)).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n"
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            await stream.send_all(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
            got = b""
            while b"\r\n\r\n" not in got or got.endswith(b"\r\n\r\n"):
                got += await stream.receive_some()

    async def total(self) -> int:
        """All that the wallet has, in msat."""
        return int((await self.balance())["total_msat"])

    async def balance(self) -> dict[str, Any]:
        """What the wallet says that it has."""
        return await self.db.run(reports.balance)

    async def pending(self) -> list[dict[str, Any]]:
        """What is not settled."""
        return await self.db.run(reports.pending)

    async def paid(self) -> list[PaidCall]:
        """All payments, newest first."""
        return await self.db.run(lambda conn, _now: calls.newest(conn, 100))

    async def until_no_call_runs(self) -> None:
        """Wait until the proxy has closed the books of every call."""

        async def none_runs() -> bool:
            return not self.client.payer.running

        await until(none_runs)

    async def settled(self) -> PaidCall:
        """Recover and swap until nothing moves, and return the newest payment."""
        for _ in range(3):
            await self.client.recover_once(at_once=True)
            if not await self.client.swapper.swap_now() and not await self.pending():
                break
        return (await self.paid())[0]

    async def keep_as_it_is(self, token: Token) -> None:
        """Put a token's proofs into the wallet as its own, without the swap that makes others of them."""

        def keep(conn: Connection, now: float) -> None:
            proofs = [(proof, None) for proof in token.proofs]
            insert_proofs(
                conn, proofs, mint=token.mint, unit=token.unit, status=ProofStatus.AVAILABLE, now=now
            )

        await self.db.run(keep)

    async def act(self, action: str, **params: Any) -> Any:
        """Carry out a wallet action."""
        return await act(self.client, action, params)

    @property
    def db(self) -> Transactions:
        """The store."""
        return self.client.wallet.transactions


@asynccontextmanager
async def customer(
    home: Path,
    *gateways: str,
    mint: str,
    funds: int = FUNDS,
    unit: str = "msat",
    settings: ClientSettings | None = None,
    forward: ForwardSettings | None = None,
    between: Between = lambda transport: transport,
    clock: Callable[[], float] = time.time,
    own_ways: bool = False,
) -> AsyncIterator[Customer]:
    """Open a client whose wallet gets `funds`, and serve it. Nothing runs in the background.

    What goes out passes `between`, to the gateways and to the mint; with `own_ways` it goes as the settings
    and the client's store say.
    """

    # loading the system's certificates, for each transport, takes longer than a test
    def make_transport() -> httpx.AsyncBaseTransport:
        return between(gateway_transport(verify=False))

    to_mint = between(httpx.AsyncHTTPTransport(verify=False))
    async with (
        make_transport() as transport,
        new_http_client(transport=to_mint, timeout_s=forward.idle_s if forward else 30) as mint_http,
        open_client(
            home,
            settings or ClientSettings(),
            transport=None if own_ways else transport,
            mint_http=None if own_ways else mint_http,
            clock=clock,
        ) as client,
        trio.open_nursery() as nursery,
    ):
        if mint not in client.wallet.mints.urls:
            await client.wallet.mints.add(mint)
        if funds:
            quote = await client.wallet.request_invoice(mint, funds, unit)
            await client.wallet.claim_quote(quote.id)
        known = {entry.url for entry in await client.gateways.entries()}
        for url in gateways:
            if url not in known:
                await client.gateways.add(url)
        app = build_app(
            client.payer,
            forward=forward or ForwardSettings(stop_s=0.5),
            guard=guard_of(client),
            make_transport=client.new_transport if own_ways else make_transport,
        )
        stop = trio.Event()
        port = await nursery.start(partial(serve, app, 0, stop=stop))
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30, verify=False
        ) as http:
            yield Customer(client, http, port)
        stop.set()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so."""
    with trio.fail_after(10):
        while not await condition():  # noqa: ASYNC110  # no event tells it
            await trio.sleep(0.02)


def error_code(response: httpx.Response) -> str:
    """The code of an error in OpenAI's shape."""
    return str(json.loads(response.content)["error"]["code"])


__all__ = ["CHAT", "FUNDS", "HI", "QUOTE_MSAT", "CallState", "Customer", "customer", "error_code", "until"]
