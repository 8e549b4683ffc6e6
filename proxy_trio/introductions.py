"""Asking a gateway what it is: by its own info, else by the list of models that it shows.

A gateway that was known to publish prices and stops doing so is no gateway of another kind: it does not
answer. Else one that hides its info could sell without giving change.
"""

from typing import Annotated, Final

import httpx
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

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
    if kind is GatewayKind.NUT24:
        return await _unpriced(transport, gateway_url, sure=True)
    status, body = await ask(transport, "GET", gateway_url, INFO_PATH)
    if status == 200:
        try:
            read = GatewayInfo.model_validate_json(body)
            return read.model_copy(update={"kind": GatewayKind.OTRTA, "listed": None})
        except ValidationError:
            if kind is not None or body.lstrip().startswith(b"{"):
                raise GatewayBrokeOff(f"The info of the gateway {gateway_url} cannot be read.") from None
    elif kind is not None or status not in _SILENT:
        raise GatewayBrokeOff(f"The gateway {gateway_url} has no {INFO_PATH} (HTTP {status}).")
    return await _unpriced(transport, gateway_url, sure=False)


async def _unpriced(transport: httpx.AsyncBaseTransport, gateway_url: str, *, sure: bool) -> GatewayInfo:
    """Return what is known of a gateway that sells by 402 alone: at best which models it names.

    Args:
        transport: to gateways.
        gateway_url: in normal form.
        sure: whether it is known to be one; else only a list of models shows that LLM calls are sold there.
    """
    status, body = await ask(transport, "GET", gateway_url, MODELS_PATH)
    listed: frozenset[str] | None = None
    if status == 200:
        try:
            listed = frozenset(model.id for model in _Models.model_validate_json(body).data) or None
        except ValidationError:
            listed = None
    elif status not in _SILENT:
        raise GatewayBrokeOff(f"The gateway {gateway_url} does not answer (HTTP {status}).")
    if listed is None and not sure:
        raise GatewayBrokeOff(
            f"{gateway_url} says nothing of what it sells, neither at {INFO_PATH} nor at {MODELS_PATH}. "
            f"If it sells LLM calls by asking with HTTP 402 (NUT-24): "
            f"`otrta gateways add --kind nut24 {gateway_url}`."
        )
    return GatewayInfo(kind=GatewayKind.NUT24, listed=listed)


__all__ = ["INFO_PATH", "MODELS_PATH", "fetch_info"]
