"""Puts the client proxy together: guard, routes, and the nursery in which exchanges run."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version

import httpx
import trio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from proxy_trio.conversation import internal_failure, log_failure
from proxy_trio.errors import render
from proxy_trio.forward import Forwarder
from proxy_trio.gateway import gateway_transport
from proxy_trio.guard import Guard
from proxy_trio.payer import Payer
from proxy_trio.served import LISTED
from proxy_trio.settings import ForwardSettings, GuardSettings


def build_app(
    payer: Payer,
    *,
    forward: ForwardSettings | None = None,
    guard: GuardSettings | None = None,
    routes: Sequence[BaseRoute] = (),
    make_transport: Callable[[], httpx.AsyncBaseTransport] = gateway_transport,
) -> Starlette:
    """Build the ASGI app of the client proxy.

    Args:
        payer: Pays for calls and keeps their change.
        forward: Bounds of a forwarded call.
        guard: Who may call.
        routes: Further routes, such as the wallet's under ``/_otrta/``; they come before the proxy's own, and
            the guard stands before them.
        make_transport: Makes the HTTP client towards the gateways, once per run.

    Returns:
        The app. At its shutdown running exchanges get ``ForwardSettings.stop_s`` to end by themselves.
    """
    settings = forward or ForwardSettings()
    guarded = guard or GuardSettings()
    forwarder = Forwarder(payer, settings, guarded.identify)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with make_transport() as transport, trio.open_nursery() as nursery:
            forwarder.attach(nursery, transport)
            yield
            forwarder.detach()
            nursery.cancel_scope.deadline = trio.current_time() + settings.stop_s

    return Starlette(
        routes=[
            *routes,
            Route("/", landing),
            Route("/health", _health),
            Route("/{path:path}", forwarder),
        ],
        middleware=[Middleware(Guard, settings=guarded)],
        exception_handlers={Exception: _on_failure},
        lifespan=lifespan,
    )


async def landing(_request: Request) -> Response:
    """Tell a program what is served here."""
    return JSONResponse(
        {
            "name": "otrta",
            "version": version("otrta"),
            "serves": LISTED,
        }
    )


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _on_failure(request: Request, error: Exception) -> Response:
    log_failure("a local request", error)
    reply = render(internal_failure(), request.url.path)
    return Response(reply.body, reply.status, {key.decode(): value.decode() for key, value in reply.headers})
