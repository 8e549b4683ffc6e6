"""What a gateway says of itself, read with suspicion: the value, whatever kind of gateway said it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from otrta_core import CallRequest, ModelPrice, OtrtaError, quote_msat
from otrta_core.amounts import MAX_AMOUNT
from otrta_wallet.mint_url import normalize_mint_url
from proxy_trio import routstr
from proxy_trio.routstr import NodeModel


class GatewayKind(StrEnum):
    """How a gateway sells."""

    OTRTA = "otrta"
    """With prices at ``/v1/cashu/info``, and change."""
    NUT24 = "nut24"
    """By 402 alone (NUT-24): what it asks is its price, and nothing comes back."""
    ROUTSTR = "routstr"
    """As a Routstr node: with prices at ``/v1/models``, and change in the header."""


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


class _Lock(_Model):
    policy: Annotated[str, StringConstraints(max_length=32)] = "off"
    pubkey: Annotated[str, StringConstraints(pattern=r"^0[23][0-9a-f]{64}$")] | None = None
    min_lock_s: Annotated[int, Field(ge=0, le=10**9)] = 0


class _KindLimits(_Model):
    min_msat: Annotated[int, Field(ge=0, le=MAX_AMOUNT)] | None = None
    max_msat: Annotated[int, Field(ge=0, le=MAX_AMOUNT)] | None = None


LONGEST_MIN_LOCK_S = 7 * 86_400
"""For how long money may have to be locked at most, in seconds."""


@dataclass(frozen=True, slots=True)
class Quote:
    """What a gateway wants to be paid for a call, and the most it may cost; None for all that is paid."""

    pay_msat: int
    bound_msat: int | None


class GatewayInfo(_Model):
    """What a client needs of a gateway's info; amounts in msat.

    ``kind``, ``listed`` and ``node`` are found out by the client, whatever the gateway writes there.
    """

    kind: GatewayKind = GatewayKind.OTRTA
    name: Annotated[str, StringConstraints(max_length=200)] = ""
    unit: str = "msat"
    mints: Annotated[tuple[_Mint, ...], Field(max_length=1000)] = ()
    limits: _Limits = _Limits()
    lock: _Lock = _Lock()
    rounding: Literal["up", "down", "stochastic"] = "up"
    default_output_tokens: Annotated[int, Field(ge=1, le=10**7)] = 1024
    models: Annotated[dict[str, ModelPrice], Field(max_length=100_000)] = {}
    paths: Annotated[dict[str, _KindLimits], Field(max_length=100)] = {}
    change: Annotated[tuple[str, ...], Field(max_length=16)] = ("header", "sse")
    listed: frozenset[str] | None = None
    """The models that a gateway without prices names; None where it names none."""

    node: dict[str, NodeModel] = {}
    """The models of a Routstr node, by name."""

    @property
    def gives_change(self) -> bool:
        """Whether what is paid beyond the cost comes back."""
        return self.kind is not GatewayKind.NUT24

    @property
    def lock_key(self) -> str | None:
        """The key that tokens are to be locked to; None where none are taken, or for longer than is right."""
        takes = self.lock.policy in ("accepted", "required") and self.lock.min_lock_s <= LONGEST_MIN_LOCK_S
        return self.lock.pubkey if takes else None

    @property
    def change_in_stream(self) -> bool:
        """Whether it takes ``X-Cashu-Change: sse``."""
        return self.kind is GatewayKind.OTRTA and "sse" in self.change

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
        if self.kind is GatewayKind.ROUTSTR and call.kind not in routstr.KINDS:
            return None
        price, limits = self.models.get(call.model), self.paths.get(call.kind)
        if price is None or limits is None:
            return price
        return price.narrowed(limits.min_msat, limits.max_msat)

    def quote(self, call: CallRequest) -> Quote | None:
        """Return what a call is to be paid with, or None where its model is not sold.

        Raises:
            RequestNotPriceable: the model is sold, and this call has no bound.
        """
        price = self.price(call)
        if price is None:
            return None
        if (model := self.node.get(call.model)) is not None:
            return Quote(model.to_pay_msat(call), model.bound_msat(call))
        quoted = quote_msat(price, call, default_output_tokens=self.default_output_tokens)
        return Quote(quoted, quoted)

    def units_by_mint(self) -> dict[str, frozenset[str]]:
        """Return the units that each mint's tokens may have, by the mint's URL in normal form."""
        found = {}
        for mint in self.mints:
            try:
                found[normalize_mint_url(mint.url)] = frozenset(mint.units)
            except OtrtaError:
                continue
        return found
