"""The wallet's actions over loopback, and the two files by which this machine's user finds them.

``serve.json`` says which process serves a home, and on which port; ``local.token``, readable by its owner
alone, holds what the guard asks of whoever calls ``/_otrta/``.
"""

import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from otrta_core import InvalidRequest, OtrtaError, wire
from proxy_trio.actions import act
from proxy_trio.app_keys import AppKey
from proxy_trio.client import Client
from proxy_trio.client_settings import SERVE_FILE, TOKEN_FILE
from proxy_trio.errors import BodyTooLarge
from proxy_trio.guard import WALLET_PREFIX
from proxy_trio.headers import Header
from proxy_trio.private_files import write_private
from proxy_trio.settings import GuardSettings

MAX_PARAMS_BYTES: Final = 4 << 20


def wallet_routes(client: Client) -> list[BaseRoute]:
    """Return the routes of the wallet's actions; the guard has to stand before them."""

    async def serve_action(request: Request) -> Response:
        try:
            params = _read_params(await _read_body(request))
            result = await act(client, request.path_params["action"], params)
        except OtrtaError as error:
            told = {"error": {"message": error.message, "code": error.code}}
            return _answer(told, error.http_status)
        return _answer(result, 200)

    return [Route(f"{WALLET_PREFIX}{{action}}", serve_action, methods=["POST"])]


def guard_of(client: Client, local_token: str | None = None) -> GuardSettings:
    """Return who may call a client's proxy, by its settings as they are at the time of each call."""

    def identify(headers: Iterable[Header]) -> AppKey | None:
        return client.keys.identify(headers, required=client.settings.keys_required)

    return GuardSettings(
        extra_hosts=frozenset(name.lower() for name in client.settings.hosts),
        extra_origins=frozenset(client.settings.origins),
        identify=identify,
        local_token=local_token,
    )


def new_local_token() -> str:
    """Make a token for one run of the proxy."""
    return secrets.token_urlsafe(32)


@contextmanager
def announced(home: Path, port: int, local_token: str) -> Iterator[None]:
    """Write ``local.token`` and ``serve.json``, and remove them at the end."""
    write_private(home / TOKEN_FILE, local_token)
    write_private(home / SERVE_FILE, json.dumps({"pid": os.getpid(), "port": port}))
    try:
        yield
    finally:
        for name in (SERVE_FILE, TOKEN_FILE):
            with suppress(FileNotFoundError):
                (home / name).unlink()


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async with aclosing(request.stream()) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > MAX_PARAMS_BYTES:
                raise BodyTooLarge(f"The parameters are larger than {MAX_PARAMS_BYTES} bytes.")
    return bytes(body)


def _read_params(body: bytes) -> object:
    try:
        return wire.from_json(body) if body.strip() else {}
    except (ValueError, UnicodeError):
        raise InvalidRequest("The parameters must be a JSON object.") from None


def _answer(value: Any, status: int) -> Response:
    return JSONResponse(value, status, {"Cache-Control": "no-store"})
