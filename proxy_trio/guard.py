"""Who may call the proxy: apps of this machine, and no web page of another site.

Listening on loopback does not keep browsers out: any page can POST to 127.0.0.1, and a DNS name that
is pointed at 127.0.0.1 makes a foreign page look local. So the Host must be ours, the Origin ours or
absent, and wallet actions need the token of ``local.token`` besides. An app's key opens LLM calls alone.
Where other machines can call, the address that they called is a Host of ours too, since no page can make
a browser send a bare address that it was not loaded from; wallet actions stay for this machine.
"""

import hmac
import ipaddress
import re
from collections.abc import Sequence
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from otrta_core.errors import InvalidRequest, OtrtaError
from proxy_trio.errors import (
    ForeignAddress,
    ForeignCaller,
    ForeignHost,
    ForeignOrigin,
    LocalTokenRequired,
    MethodNotAllowed,
    render,
)
from proxy_trio.headers import EXPOSED_HEADERS, Header, is_json, values
from proxy_trio.page.sessions import PAGE_PREFIX
from proxy_trio.settings import GuardSettings

WALLET_PREFIX: Final = "/_otrta/"

_FOR_HERE: Final = (WALLET_PREFIX, PAGE_PREFIX)
_OUR_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
_HEADER_NAMES: Final = re.compile(r"[A-Za-z0-9_, -]{1,2048}")


class Guard:
    """ASGI middleware, outermost: refuses foreign callers, answers CORS preflights, keeps wallet paths."""

    def __init__(self, app: ASGIApp, settings: GuardSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with an error or as a preflight."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: list[Header] = scope["headers"]
        origins = values(headers, b"origin")
        try:
            self._check_caller(scope, headers, origins)
            preflight = bool(origins) and scope["method"] == "OPTIONS"
            if scope["path"].startswith(_FOR_HERE) or scope["path"] == "/":
                _check_is_here(scope)
            if not preflight and scope["path"].startswith(WALLET_PREFIX):
                self._check_wallet_call(scope, headers)
        except OtrtaError as error:
            reply = render(error, scope["path"])
            answering = send if isinstance(error, ForeignCaller) else _with_cors(send, origins)
            await _answer(answering, reply.status, reply.headers, reply.body)
            return
        if preflight:
            await _answer(_with_cors(send, origins), 204, _preflight_headers(headers), b"")
            return
        await self._app(scope, receive, _with_cors(send, origins))

    def _check_caller(self, scope: Scope, headers: list[Header], origins: list[str]) -> None:
        address, port = scope["server"]
        names = {*_OUR_NAMES, _in_a_url(address)}
        ours = {f"{name}:{port}" for name in names} | self._settings.extra_hosts
        ours |= {f"{name}:{port}" for name in self._settings.extra_hosts}
        if port == 80:
            ours |= names
        hosts = values(headers, b"host")
        if len(hosts) != 1 or hosts[0].lower() not in ours:
            raise ForeignHost(f"The Host header is not this proxy's. Call it as http://127.0.0.1:{port}.")
        known = {f"http://{host}" for host in ours} | self._settings.extra_origins
        if any(origin not in known for origin in origins):
            raise ForeignOrigin(
                "A web page of another site asked for this. If you trust it, add its origin to the settings."
            )

    def _check_wallet_call(self, scope: Scope, headers: list[Header]) -> None:
        if scope["method"] != "POST":
            raise MethodNotAllowed("Wallet actions are served with POST only.")
        if not is_json(headers):
            raise InvalidRequest("The Content-Type must be application/json.")
        given = values(headers, b"authorization")
        expected = self._settings.local_token
        if not expected or len(given) != 1 or not _is_bearer(given[0], expected):
            raise LocalTokenRequired(
                "Wallet actions need `Authorization: Bearer` with the token of the wallet's local.token file."
            )


def _check_is_here(scope: Scope) -> None:
    """Refuse a caller whose end of the connection is not on this machine, or not known."""
    try:
        address = ipaddress.ip_address((scope.get("client") or ("",))[0])
    except ValueError:
        address = None
    if address is None or not (getattr(address, "ipv4_mapped", None) or address).is_loopback:
        raise ForeignAddress("The wallet is for this machine alone.")


def _in_a_url(address: str) -> str:
    """Write an address of a socket as a Host header does."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    mapped = getattr(parsed, "ipv4_mapped", None)
    return f"[{parsed}]" if parsed.version == 6 and mapped is None else str(mapped or parsed)


def _is_bearer(given: str, expected: str) -> bool:
    scheme, _, token = given.partition(" ")
    same = hmac.compare_digest(token.strip().encode("latin-1"), expected.encode())
    return same and scheme.lower() == "bearer"


def _with_cors(send: Send, origins: Sequence[str]) -> Send:
    if len(origins) != 1:
        return send
    added: list[Header] = [
        (b"access-control-allow-origin", origins[0].encode("latin-1")),
        (b"access-control-expose-headers", b", ".join(EXPOSED_HEADERS)),
        (b"vary", b"Origin"),
    ]

    async def send_with_cors(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return send_with_cors


def _preflight_headers(headers: list[Header]) -> list[Header]:
    answer: list[Header] = [
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-max-age", b"600"),
    ]
    wanted = ", ".join(values(headers, b"access-control-request-headers"))
    if _HEADER_NAMES.fullmatch(wanted):
        answer.append((b"access-control-allow-headers", wanted.encode("ascii")))
    if values(headers, b"access-control-request-private-network") == ["true"]:
        answer.append((b"access-control-allow-private-network", b"true"))
    return answer


async def _answer(send: Send, status: int, headers: Sequence[Header], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})
