"""Asking a gateway what it is: by its own info, else by the list of models that it shows.

A gateway that was known to publish prices and stops doing so is no gateway of another kind: it does not
answer. Else one that hides its info could sell without giving change.
"""

from decimal import Decimal
from typing import Annotated, Any, Final

import httpx
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from otrta_core import wire
from proxy_trio import routstr
from proxy_trio.asking_gateways import ask
from proxy_trio.errors import GatewayBrokeOff
from proxy_trio.gateway_info import GatewayInfo, GatewayKind

INFO_PATH: Final = "/v1/cashu/info"
MODELS_PATH: Final = "/v1/models"

_SILENT: Final = frozenset({400, 401, 402, 403, 404, 405, 406, 410, 422})
"""Statuses by which a gateway says that it has no such path."""


class _Listed(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    id: Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class _Models(BaseModel):
    """The list of models as OpenAI's API has it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    data: Annotated[tuple[_Listed, ...], Field(max_length=100_000)]


async def fetch_info(
    transport: httpx.AsyncBaseTransport, gateway_url: str, kind: GatewayKind | None = None
) -> GatewayInfo:
    """Ask a gateway for its info.

    Args:
        transport: to gateways.
        gateway_url: in normal form.
        kind: what it is known to be; None to find it out.

    Raises:
        GatewayFailure: it did not answer, or not as one of its kind does.
    """
    if kind in (GatewayKind.NUT24, GatewayKind.ROUTSTR):
        return await _by_models(transport, gateway_url, kind)
    status, body = await ask(transport, "GET", gateway_url, INFO_PATH)
    if status == 200:
        try:
            read = GatewayInfo.model_validate_json(body)
            return read.model_copy(update={"kind": GatewayKind.OTRTA, "listed": None, "node": {}})
        except ValidationError:
            if kind is not None or body.lstrip().startswith(b"{"):
                raise GatewayBrokeOff(f"The info of the gateway {gateway_url} cannot be read.") from None
    elif kind is not None or status not in _SILENT:
        raise GatewayBrokeOff(f"The gateway {gateway_url} has no {INFO_PATH} (HTTP {status}).")
    return await _by_models(transport, gateway_url, None)


async def _by_models(
    transport: httpx.AsyncBaseTransport, gateway_url: str, kind: GatewayKind | None
) -> GatewayInfo:
    """Return what is known of a gateway by its list of models: prices of a node, else names.

    Args:
        transport: to gateways.
        gateway_url: in normal form.
        kind: what it is known to be; else only a list of models shows that LLM calls are sold there.
    """
    status, body = await ask(transport, "GET", gateway_url, MODELS_PATH)
    if status != 200 and status not in _SILENT:
        raise GatewayBrokeOff(f"The gateway {gateway_url} does not answer (HTTP {status}).")
    data = _json(body) if status == 200 else None
    if kind is not GatewayKind.NUT24 and (models := routstr.read_models(data)):
        return await _node(transport, gateway_url, models)
    listed = _names(data)
    if kind is GatewayKind.ROUTSTR or (listed is None and kind is None):
        raise GatewayBrokeOff(
            f"{gateway_url} does not say what it sells, neither at {INFO_PATH} nor at {MODELS_PATH}. "
            f"If it sells LLM calls by asking with HTTP 402 (NUT-24): "
            f"`otrta gateways add --kind nut24 {gateway_url}`."
        )
    return GatewayInfo(kind=GatewayKind.NUT24, listed=listed)


async def _node(
    transport: httpx.AsyncBaseTransport, gateway_url: str, models: dict[str, routstr.NodeModel]
) -> GatewayInfo:
    status, body = await ask(transport, "GET", gateway_url, routstr.INFO_PATH)
    try:
        node = routstr.NodeInfo.model_validate_json(body if status == 200 else b"")
    except ValidationError:
        raise GatewayBrokeOff(f"The info of the node {gateway_url} cannot be read.") from None
    units: dict[str, dict[str, int]] = {"msat": {}, "sat": {}}
    read = GatewayInfo.model_validate(
        {
            "name": node.name,
            "mints": [{"url": url, "units": units} for url in node.mints],
            "change": ["header"],
        }
    )
    prices = {name: model.price for name, model in models.items()}
    return read.model_copy(update={"kind": GatewayKind.ROUTSTR, "models": prices, "node": models})


def _json(body: bytes) -> Any:
    try:
        return wire.from_json(body, parse_float=Decimal)
    except (ValueError, UnicodeError):
        return None


def _names(data: Any) -> frozenset[str] | None:
    try:
        return frozenset(model.id for model in _Models.model_validate(data).data) or None
    except ValidationError:
        return None


__all__ = ["INFO_PATH", "MODELS_PATH", "fetch_info"]
