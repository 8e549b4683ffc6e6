"""Routstr nodes: their list of models with ``sats_pricing``, read as prices in msat. Pure.

Such a node wants to be paid the most that a call could cost before it makes it, gives the rest back in the
``X-Cashu`` header (of a stream too, which it holds until its end), and charges what its upstream said or what
its prices come to at its own USD rate, so the prices that it shows are no promise to the msat.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from otrta_core import CallRequest, ModelPrice, OtrtaError, quote_msat
from otrta_core.requests import Kind

INFO_PATH: Final = "/v1/info"

KINDS: Final[frozenset[Kind]] = frozenset({"chat", "messages", "responses", "embeddings"})
"""What it gives change for; of any other call it keeps all that was paid."""
_READ_KINDS: Final[frozenset[Kind]] = frozenset({"chat", "messages"})
"""Of which it looks at the prompt and the limit, before it says what is to be paid."""

CHARGE_SLACK_PPM: Final = 100_000
CHARGE_SLACK_MSAT: Final = 1_000
"""What it may charge beyond its prices and the answer's usage before that is held against it."""

_IMAGE_TOKENS: Final = 1_105
_MOST_TOKENS: Final = 10**8
_MOST_SAT: Final = Decimal(10**9)
_MSAT_OF_SAT: Final = 1_000
_MILLION: Final = 1_000_000

_Sat = Annotated[Decimal, Field(ge=0, le=_MOST_SAT, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, le=_MOST_TOKENS)]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Pricing(_Model):
    prompt: _Sat
    completion: _Sat
    request: _Sat = Decimal(0)
    input_cache_read: _Sat = Decimal(0)
    input_cache_write: _Sat = Decimal(0)
    max_prompt_cost: _Sat = Decimal(0)
    max_completion_cost: _Sat = Decimal(0)
    max_cost: _Sat = Decimal(0)


class _TopProvider(_Model):
    context_length: _Count | None = None
    max_completion_tokens: _Count | None = None


class _Listed(_Model):
    id: _Name
    enabled: bool = True
    alias_ids: Annotated[tuple[_Name, ...], Field(max_length=100)] | None = None
    context_length: _Count | None = None
    sats_pricing: _Pricing
    top_provider: _TopProvider | None = None


class NodeInfo(_Model):
    """What a node says of itself at ``/v1/info``."""

    name: Annotated[str, StringConstraints(max_length=200)] = ""
    mints: Annotated[tuple[Annotated[str, StringConstraints(max_length=2048)], ...], Field(max_length=1000)]


@dataclass(frozen=True, slots=True)
class NodeModel:
    """A model of a node.

    Attributes:
        price: what it charges, rounded up.
        most_msat: what a call is to be paid with where nothing is known of it.
        most_prompt_msat: the part of that which a known prompt lowers.
        most_output_msat: the part of that which an output limit lowers.
    """

    price: ModelPrice
    most_msat: int
    most_prompt_msat: int
    most_output_msat: int

    def to_pay_msat(self, call: CallRequest) -> int:
        """Return what is to be paid for a call, which comes back but for its cost.

        Raises:
            RequestNotPriceable: the call holds something that has no bound.
        """
        if call.kind not in _READ_KINDS:
            return max(1, self.most_msat, quote_msat(self.price, call, default_output_tokens=1))
        prompt = -(-call.prompt_tokens * self.price.input_msat_per_mtok // _MILLION)
        needed = self.most_msat - max(0, self.most_prompt_msat - prompt)
        if call.output_limit is None:
            return max(1, needed)
        output = -(-call.output_limit * self.price.output_msat_per_mtok // _MILLION)
        needed -= max(0, self.most_output_msat - output)
        return max(1, needed, quote_msat(self.price, call))

    def bound_msat(self, call: CallRequest) -> int | None:
        """Return the most that a call may cost; None where only what is paid bounds it."""
        if call.output_limit is None and call.kind != "embeddings":
            return None
        return with_slack(quote_msat(self.price, call, default_output_tokens=1))


def with_slack(cost_msat: int) -> int:
    """Return what a node may charge for what costs so much by its prices."""
    return cost_msat + cost_msat * CHARGE_SLACK_PPM // _MILLION + CHARGE_SLACK_MSAT


def read_models(data: Any) -> dict[str, NodeModel]:
    """Read a decoded ``/v1/models``; empty where it is no node's. Models that cannot be read are left out."""
    listed = data.get("data") if isinstance(data, dict) else None
    found: dict[str, NodeModel] = {}
    for entry in listed if isinstance(listed, list) else []:
        if not isinstance(entry, dict) or not isinstance(entry.get("sats_pricing"), dict):
            continue
        try:
            model = _Listed.model_validate(entry)
            read = _read(model)
        except (ValidationError, OtrtaError):
            continue
        if model.enabled:
            for name in _names(model):
                found.setdefault(name, read)
    return found


def _names(model: _Listed) -> Iterator[str]:
    yield model.id
    yield from model.alias_ids or ()


def _read(model: _Listed) -> NodeModel:
    sats, top = model.sats_pricing, model.top_provider or _TopProvider()
    most_output = top.max_completion_tokens
    price = ModelPrice(
        input_msat_per_mtok=_rate(sats.prompt),
        output_msat_per_mtok=_rate(sats.completion),
        cached_input_msat_per_mtok=_rate(sats.input_cache_read) or None,
        cache_write_msat_per_mtok=_rate(sats.input_cache_write) or None,
        request_msat=_msat(sats.request),
        image_input_tokens=_IMAGE_TOKENS,
        max_output_tokens=most_output or None,
    )
    return NodeModel(
        price,
        most_msat=_msat(sats.max_cost),
        most_prompt_msat=_most_prompt_msat(model),
        most_output_msat=_msat(sats.max_completion_cost),
    )


def _most_prompt_msat(model: _Listed) -> int:
    """Return the prompt's part of the most that is to be paid, as a node counts it, rounded down."""
    sats, top = model.sats_pricing, model.top_provider or _TopProvider()
    tokens: int | None = model.context_length
    if top.context_length and top.max_completion_tokens:
        tokens = max(0, top.context_length - top.max_completion_tokens)
    elif top.context_length or top.max_completion_tokens:
        tokens = top.context_length or 0
    known = sats.max_prompt_cost if tokens is None else tokens * sats.prompt
    return int(known * _MSAT_OF_SAT)


def _rate(sat_per_token: Decimal) -> int:
    return int((sat_per_token * _MSAT_OF_SAT * _MILLION).to_integral_value(ROUND_CEILING))


def _msat(sat: Decimal) -> int:
    return int((sat * _MSAT_OF_SAT).to_integral_value(ROUND_CEILING))
