"""The setting ``paths``: the least and the most that any call of a kind costs."""

from collections.abc import Mapping
from typing import Annotated, Any, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from otrta_core import ModelPrice
from otrta_core.amounts import MAX_AMOUNT
from otrta_core.requests import PAYABLE_PATHS, Kind

_KINDS = frozenset(get_args(Kind))


class KindLimits(BaseModel):
    """The least and the most that a call of one kind costs, in msat."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_msat: Annotated[int, Field(ge=0, le=MAX_AMOUNT)] | None = None
    max_msat: Annotated[int, Field(ge=0, le=MAX_AMOUNT)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_msat is None and self.max_msat is None:
            raise ValueError("set min_msat, max_msat or both")
        if self.min_msat is not None and self.max_msat is not None and self.min_msat > self.max_msat:
            raise ValueError("min_msat is more than max_msat")
        return self

    def on(self, price: ModelPrice) -> ModelPrice:
        """Return a model's price for calls of this kind: the narrower of both bounds counts."""
        return price.narrowed(self.min_msat, self.max_msat)


def by_kind(value: Any) -> Any:
    """Name limits by the kind of call that they are for; paths are taken for the kind that they sell.

    Raises:
        ValueError: neither a path that can be bought nor a kind, or two names of one kind.
    """
    if not isinstance(value, Mapping):
        raise ValueError('must map paths or kinds to limits, such as {"/v1/embeddings": {min_msat: 10}}')
    found: dict[str, Any] = {}
    for name, limits in value.items():
        kind = PAYABLE_PATHS.get(name, name)
        if kind not in _KINDS:
            raise ValueError(f"{name!r} is not a path that can be bought, nor a kind of call")
        if kind in found:
            raise ValueError(f"{name!r} is for {kind}, which has its limits already")
        found[kind] = limits
    return found
