"""The upstream as an application: the kinds of call that it answers, and what else it is asked."""

from collections import Counter

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from otrta_cli.upstream import (
    audio,
    calls,
    chat,
    completions,
    embeddings,
    images,
    messages,
    ranking,
    responses,
)
from otrta_cli.upstream.behaviours import BEHAVIOURS
from otrta_cli.upstream.sending import CREATED, refused

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


def make_app() -> Starlette:
    """The upstream as an ASGI application, with no calls received yet."""
    app = Starlette(
        routes=[
            *chat.ROUTES,
            *completions.ROUTES,
            *responses.ROUTES,
            *messages.ROUTES,
            *embeddings.ROUTES,
            *images.ROUTES,
            *audio.ROUTES,
            *ranking.ROUTES,
            Route("/v1/models", _models),
            Route("/health", _health),
            *calls.ROUTES,
            Route("/{path:path}", _unknown, methods=_METHODS),
        ]
    )
    app.state.calls = calls.no_calls()
    app.state.failed = Counter()
    return app


async def _models(request: Request) -> Response:
    await calls.received(request)
    rows = [{"id": name, "object": "model", "created": CREATED, "owned_by": "otrta"} for name in BEHAVIOURS]
    return JSONResponse({"object": "list", "data": rows})


async def _unknown(request: Request) -> Response:
    await calls.received(request)
    message = f"{request.method} {request.url.path} is not served."
    return refused(404, "invalid_request_error", "unknown_url", message)


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})
