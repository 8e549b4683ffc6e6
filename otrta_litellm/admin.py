"""The operator's routes, ``/v1/cashu/admin/…``: for whoever has LiteLLM's master key, and nobody else."""

import hmac
import json
from collections.abc import Callable, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qsl

import anyio

from otrta_litellm.answers import Answer, GateError, Header, json_answer
from otrta_litellm.asgi import Receive
from otrta_litellm.desk import ACTIONS, Desk
from otrta_litellm.gateway import Gateway
from otrta_litellm.metrics import CONTENT_TYPE
from otrta_litellm.way import ADMIN, METRICS

MAX_BODY_BYTES: Final = 64 << 10
BODY_WITHIN_S: Final = 10.0

MasterKey = Callable[[], str | None]


def no_master_key() -> None:
    """There is none: nobody is the operator."""


class Admin:
    """Answers the operator's requests.

    Args:
        gateway: whose operator.
        master_key: LiteLLM's, read at each request, since LiteLLM may reload its config.
    """

    def __init__(self, gateway: Gateway, master_key: MasterKey = no_master_key) -> None:
        self._gateway = gateway
        self._desk = Desk(gateway)
        self._master_key = master_key

    async def answer(self, scope: MutableMapping[str, Any], receive: Receive) -> Answer:
        """Answer one request.

        Raises:
            OtrtaError: the refusal. Without the key nothing is read, and nothing is said of what there is.
        """
        if not self._is_operator(scope["headers"]):
            raise GateError(
                "this is for the operator: LiteLLM's master key is needed, as Authorization: Bearer …",
                code="invalid_api_key",
                status=401,
            )
        action, method = scope["path"].removeprefix(ADMIN), scope["method"]
        if action == METRICS:
            return await self._metrics(method)
        if action not in ACTIONS:
            raise GateError("there is no such path", code="not_found", status=404)
        if method != ACTIONS[action]:
            raise GateError("this path takes another method", code="method_not_allowed", status=405)
        asked = _query(scope) if method == "GET" else await _body(scope["headers"], receive)
        return json_answer(200, await self._desk.do(action, asked))

    async def _metrics(self, method: str) -> Answer:
        if method != "GET":
            raise GateError("this path takes another method", code="method_not_allowed", status=405)
        transactions = (await self._gateway.wallet()).transactions
        body = await self._gateway.metrics.render(transactions, self._gateway.guards.breakers.away)
        return Answer(200, body, ((b"content-type", CONTENT_TYPE), (b"cache-control", b"no-store")))

    def _is_operator(self, headers: list[Header]) -> bool:
        key = self._master_key()
        given = [value for name, value in headers if name == b"authorization"]
        if not key or len(given) != 1:
            return False
        scheme, _, text = given[0].partition(b" ")
        # compared in constant time, so that the answer's delay tells nothing of the key
        return hmac.compare_digest(text.strip(), key.encode()) and scheme.lower() == b"bearer"


def _query(scope: MutableMapping[str, Any]) -> dict[str, str]:
    try:
        pairs = parse_qsl(scope["query_string"].decode(), strict_parsing=True, max_num_fields=8)
    except ValueError:
        pairs = []
    return dict(pairs)


async def _body(headers: list[Header], receive: Receive) -> dict[str, Any]:
    """Read a JSON object; a browser cannot send one across origins without being asked first."""
    kinds = [value.partition(b";")[0].strip().lower() for name, value in headers if name == b"content-type"]
    if kinds != [b"application/json"]:
        raise GateError("send application/json", code="invalid_request", status=415)
    data = bytearray()
    with anyio.move_on_after(BODY_WITHIN_S) as patience:
        more = True
        while more:
            message = await receive()
            data += message.get("body", b"")
            more = message["type"] == "http.request" and bool(message.get("more_body"))
            if len(data) > MAX_BODY_BYTES:
                raise GateError("the request is too large", code="invalid_request", status=413)
    if patience.cancelled_caught:
        raise GateError("the request's body did not come", code="invalid_request", status=408)
    try:
        asked = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise GateError("send a JSON object", code="invalid_request", status=400)
    return asked
