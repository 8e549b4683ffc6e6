"""What a gateway says of itself at ``/v1/cashu/info``, read with suspicion."""

from typing import Annotated, Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from otrta_core import CallRequest, ModelPrice, OtrtaError
from otrta_core.amounts import MAX_AMOUNT
from otrta_wallet.mint_url import normalize_mint_url
from proxy_trio.errors import GatewayBrokeOff, GatewayFailure
from proxy_trio.gateway import GatewayReply, build_request

MAX_INFO_BYTES = 4 << 20
CONNECT_S, IDLE_S = 10.0, 20.0


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Unit(_Model):
    input_fee_ppk: Annotated[int, Field(ge=0, le=10**9)] = 0


class _Mint(_Model):
    url: Annotated[str, StringConstraints(max_length=2048)]
    units: dict[str, _Unit]


class _Limits(_Model):
    max_token_bytes: Annotated[int, Field(ge=256)] = 32_768
    max_proofs: Annotated[int, Field(ge=1)] = 64


class _KindLimits(_Model):
    min_msat: Annotated[int, Field(ge=0, le=MAX_AMOUNT)] | None = None
    max_msat: Annotated[int, Field(ge=0, le=MAX_AMOUNT)] | None = None


class GatewayInfo(_Model):
    """What a client needs of a gateway's info; amounts in msat."""

    name: Annotated[str, StringConstraints(max_length=200)] = ""
    unit: str = "msat"
    mints: Annotated[tuple[_Mint, ...], Field(max_length=1000)] = ()
    limits: _Limits = _Limits()
    rounding: Literal["up", "down", "stochastic"] = "up"
    default_output_tokens: Annotated[int, Field(ge=1, le=10**7)] = 1024
    models: Annotated[dict[str, ModelPrice], Field(max_length=100_000)] = {}
    paths: Annotated[dict[str, _KindLimits], Field(max_length=100)] = {}

    @field_validator("models", mode="before")
    @classmethod
    def _by_id(cls, value: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError("must be a list")
        prices = {}
        for entry in value:
            if isinstance(entry, dict) and isinstance(entry.get("id"), str):
                try:
                    prices[entry["id"]] = ModelPrice.from_dict(entry)
                except OtrtaError:
                    continue  # a price that cannot be read is a model that is not bought
        return prices

    def price(self, call: CallRequest) -> ModelPrice | None:
        """Return what a call is priced by, or None where its model is not sold."""
        price, limits = self.models.get(call.model), self.paths.get(call.kind)
        if price is None or limits is None:
            return price
        return price.narrowed(limits.min_msat, limits.max_msat)

    def units_by_mint(self) -> dict[str, frozenset[str]]:
        """Return the units that each mint's tokens may have, by the mint's URL in normal form."""
        found = {}
        for mint in self.mints:
            try:
                found[normalize_mint_url(mint.url)] = frozenset(mint.units)
            except OtrtaError:
                continue
        return found


async def fetch_info(transport: httpx.AsyncBaseTransport, gateway_url: str) -> GatewayInfo:
    """Ask a gateway for its info.

    Raises:
        GatewayFailure: it did not answer, or not with an info.
    """
    status, body = await ask(transport, "GET", gateway_url, "/v1/cashu/info", [])
    if status != 200:
        raise GatewayBrokeOff(f"The gateway {gateway_url} has no /v1/cashu/info (HTTP {status}).")
    try:
        return GatewayInfo.model_validate_json(body)
    except ValidationError:
        raise GatewayBrokeOff(f"The info of the gateway {gateway_url} cannot be read.") from None


async def ask(
    transport: httpx.AsyncBaseTransport,
    method: str,
    gateway_url: str,
    path: str,
    headers: list[tuple[bytes, bytes]],
) -> tuple[int, bytes]:
    """Make a small request to a gateway; return status and body.

    Raises:
        GatewayFailure: no whole answer came.
    """
    reply, body = await ask_for_reply(transport, method, gateway_url, path, headers)
    return reply.status, body


async def ask_for_reply(
    transport: httpx.AsyncBaseTransport,
    method: str,
    gateway_url: str,
    path: str,
    headers: list[tuple[bytes, bytes]],
) -> tuple[GatewayReply, bytes]:
    """Make a small request to a gateway; return the reply, closed, and its body.

    Raises:
        GatewayFailure: no whole answer came, or one that is too large.
    """
    fixed = [(b"Accept", b"application/json"), (b"Accept-Encoding", b"identity")]
    content = b"" if method == "POST" else None
    request = build_request(
        method, gateway_url, path, b"", [*fixed, *headers], content, connect_s=CONNECT_S, idle_s=IDLE_S
    )
    reply = await GatewayReply.ask(transport, request)
    body = bytearray()
    try:
        while (piece := await reply.next_piece()) is not None:
            body += piece
            if len(body) > MAX_INFO_BYTES:
                raise GatewayBrokeOff(f"The gateway {gateway_url} answered with more than it should.")
    finally:
        await reply.close()
    return reply, bytes(body)


__all__ = ["GatewayFailure", "GatewayInfo", "ask", "ask_for_reply", "fetch_info"]
