"""The requests that the upstream received last."""

import json
from collections import deque
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

KEPT_CALLS = 200
KEPT_BODY_BYTES = 100_000


def no_calls() -> deque[dict[str, Any]]:
    """Room for the calls received last, with none in it."""
    return deque(maxlen=KEPT_CALLS)


async def received(request: Request) -> bytes:
    """Keep a call and return its body."""
    raw = await request.body()
    try:
        body = json.loads(raw) if len(raw) <= KEPT_BODY_BYTES else None
    except ValueError:
        body = None
    keep(request, body if isinstance(body, dict) else {}, body)
    return raw


def keep(request: Request, fields: dict[str, Any], body: Any) -> None:
    """Keep a call with the fields of its body, and with as much of the body as shall be seen."""
    call = {
        "path": request.url.path,
        "model": fields.get("model"),
        "stream": fields.get("stream") is True,
        "headers": request.headers.items(),
        "body_keys": sorted(fields),
        "body": body,
    }
    request.app.state.calls.append(call)


async def _calls(request: Request) -> Response:
    calls: deque[dict[str, Any]] = request.app.state.calls
    if request.method == "DELETE":
        calls.clear()
    return JSONResponse({"calls": list(calls)})


ROUTES = [Route("/_calls", _calls, methods=["GET", "DELETE"])]
