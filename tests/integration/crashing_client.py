"""A client in a process of its own that kills itself at a given step: no hook is in the client."""

from pathlib import Path
from typing import Any

import httpx
import trio
from sqlalchemy.engine.default import DefaultDialect

from tests.integration.customer import customer
from tests.otrta_wallet.crashing import Kill


class Killing(httpx.AsyncBaseTransport):
    """Dies before a POST leaves, or when its answer begins, to a gateway or to a mint."""

    def __init__(self, kill: Kill, carries: httpx.AsyncBaseTransport) -> None:
        self._kill = kill
        self._carries = carries

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self._kill.pass_by("post", "before")
        response = await self._carries.handle_async_request(request)
        if request.method == "POST":
            self._kill.pass_by("post", "after")
        return response

    async def aclose(self) -> None:
        await self._carries.aclose()


def live(home: str, mint: str, bodies: list[dict[str, Any]], kill: Kill, *, locks: bool = False) -> None:
    """Make calls side by side from the wallet in `home`, settle them, and die if the step comes.

    Where tokens are to be locked, the calls are made twice, and tokens locked for them in between.
    """
    commit = DefaultDialect.do_commit

    def killing_commit(dialect: Any, connection: Any) -> None:
        kill.pass_by("commit", "before")
        commit(dialect, connection)
        kill.pass_by("commit", "after")

    DefaultDialect.do_commit = killing_commit  # type: ignore[method-assign]

    async def ask(app: Any, body: dict[str, Any]) -> None:
        try:
            await app.ask(body)
        except httpx.RemoteProtocolError:
            return  # what an app sees of a cut answer

    async def main() -> None:
        async with customer(Path(home), mint=mint, funds=0, between=lambda t: Killing(kill, t)) as app:
            kill.armed = True
            for _ in range(2 if locks else 1):
                async with trio.open_nursery() as calls:
                    for body in bodies:
                        calls.start_soon(ask, app, body)
                await app.client.pool.fill()
            await app.settled()

    trio.run(main)
