"""Where the wallet page begins: its routes, behind which nothing is loaded before somebody looks at it."""

from dataclasses import dataclass
from typing import Final

import trio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy_trio.client import Client
from proxy_trio.guard import WALLET_PREFIX
from proxy_trio.page.sessions import CODE_S, PAGE_PREFIX, Sessions

LINK_ACTION: Final = "page_link"
"""The wallet action that makes a one-time link; only a running proxy has it."""


@dataclass(frozen=True, slots=True)
class Door:
    """The wallet page of a client.

    Attributes:
        routes: its routes; the guard has to stand before them, and they before the proxy's own.
        sessions: who is logged in.
    """

    routes: list[BaseRoute]
    sessions: Sessions


def open_door(client: Client, local_token: str) -> Door:
    """Make the wallet page's routes."""
    sessions = Sessions(local_token)
    page = _Page(client, sessions)

    async def make_link(_request: Request) -> Response:
        link = {"path": one_time_path(sessions), "expires_s": int(CODE_S)}
        return JSONResponse(link, headers={"Cache-Control": "no-store"})

    routes: list[BaseRoute] = [
        Route(f"{WALLET_PREFIX}{LINK_ACTION}", make_link, methods=["POST"]),
        Route("/", page),
        Route(f"{PAGE_PREFIX}/{{rest:path}}", page),
    ]
    return Door(routes, sessions)


def one_time_path(sessions: Sessions) -> str:
    """Return the path of a link that logs one browser in."""
    return f"{PAGE_PREFIX}/open/{sessions.new_code()}"


class _Page:
    """The page as an ASGI app that is loaded when it is first asked for."""

    def __init__(self, client: Client, sessions: Sessions) -> None:
        self._client = client
        self._sessions = sessions
        self._site: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._site is None:
            self._site = await trio.to_thread.run_sync(self._load)
        await self._site(scope, receive, send)

    def _load(self) -> ASGIApp:
        from proxy_trio.page.site import build_site

        return build_site(self._client, self._sessions)
