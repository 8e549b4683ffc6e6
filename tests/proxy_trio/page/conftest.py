"""The wallet page of a client in this process, for a browser that is none."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio

from proxy_trio.app import build_app
from proxy_trio.client import Client, open_client
from proxy_trio.client_settings import ClientSettings
from proxy_trio.gateway import gateway_transport
from proxy_trio.local_api import wallet_routes
from proxy_trio.page.door import open_door
from proxy_trio.page.sessions import Sessions
from proxy_trio.serve import serve
from proxy_trio.settings import GuardSettings

TOKEN = "the-local-token"
EXTRA = "http://localhost:3000"


@dataclass
class Visitor:
    """Somebody who looks at the page.

    Attributes:
        client: whose page it is.
        http: remembers cookies as a browser does.
        base: the path of their session's pages.
    """

    client: Client
    sessions: Sessions
    http: httpx.AsyncClient
    base: str = ""
    html: dict[str, str] = field(default_factory=lambda: {"Accept": "text/html"})

    @property
    def origin(self) -> str:
        return str(self.http.base_url).rstrip("/")

    async def log_in(self, token: str = TOKEN) -> httpx.Response:
        headers = {"Origin": self.origin}
        answer = await self.http.post("/wallet/login", data={"token": token}, headers=headers)
        if answer.status_code == 303:
            self.base = answer.headers["location"]
        return answer

    async def look(self, place: str = "") -> httpx.Response:
        return await self.http.get(self.base + place, headers=self.html)

    async def fill_in(self, place: str, form_at: str | None = None, **fields: str) -> httpx.Response:
        """Look at a page, and send its form."""
        shown = (await self.look(place if form_at is None else form_at)).text
        hidden = dict(re.findall(r'<input type="hidden" name="(csrf|once)" value="([^"]+)">', shown))
        return await self.send(place, **hidden, **fields)

    async def send(self, place: str, **fields: str) -> httpx.Response:
        return await self.http.post(self.base + place, data=fields, headers={"Origin": self.origin})


@asynccontextmanager
async def open_page(home: Path, settings: ClientSettings | None = None) -> AsyncIterator[Visitor]:
    async with (
        gateway_transport(verify=False) as transport,
        open_client(home, settings or ClientSettings(), transport=transport) as client,
        trio.open_nursery() as nursery,
    ):
        door = open_door(client, TOKEN)
        guard = GuardSettings(local_token=TOKEN, extra_origins=frozenset({EXTRA}))
        app = build_app(client.payer, guard=guard, routes=[*door.routes, *wallet_routes(client)])
        stop = trio.Event()
        port = await nursery.start(partial(serve, app, 0, stop=stop))
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False, timeout=30
        ) as http:
            yield Visitor(client, door.sessions, http)
        stop.set()


@pytest.fixture
def visitor():
    """Opens the page of a new wallet in a directory."""
    return open_page
