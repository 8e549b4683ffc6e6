"""Prices of LiteLLM's models in msat: the operator's table first, else LiteLLM's USD prices."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import anyio
import anyio.lowlevel

from otrta_core import ModelPrice, PriceTable
from otrta_core.pricing import dearest
from otrta_core.requests import Kind
from otrta_litellm.kinds import has_price_for, is_made_for
from otrta_litellm.price_tables import Source
from otrta_litellm.router_view import Deployment, RouterView
from otrta_litellm.settings import GatewaySettings
from otrta_litellm.usd_prices import price_from_usd

_MSAT_PER_BTC = Decimal(100_000_000_000)

KNOWN_FOR_S = 5.0
"""How long it is remembered who may answer: looking it up takes a millisecond for each deployment."""

LISTED_FOR_S = 30.0
"""How long the list of all models is remembered."""

MAX_KNOWN = 1000
_TAKE_TOKEN_NUMBERS = (
    "openai/",
    "azure/",
    "text-completion-openai/",
    "azure_text/",
    "hosted_vllm/",
    "nebius/",
)
_KEEP_SMALL_LIMITS = ("anthropic/", "bedrock/", "gemini/", "vertex_ai/")


@dataclass(frozen=True, slots=True)
class Priced:
    """What a model costs now.

    Attributes:
        source: whether USD prices are in it.
        price: None where a rate is lacking for those.
        modes: what LiteLLM lists those that may answer as.
    """

    source: Source
    price: ModelPrice | None
    modes: frozenset[str | None] = frozenset({None})

    def sells(self, kind: Kind) -> bool:
        """Tell whether all that may answer are for such calls, at a price for such calls."""
        if not all(is_made_for(mode, kind) for mode in self.modes):
            return False
        return self.price is None or has_price_for(self.price, kind)


class PriceBook:
    """Says what a call to a model costs at most, whichever deployment or fallback LiteLLM lets answer it."""

    def __init__(self, settings: GatewaySettings, view: RouterView) -> None:
        self._table = PriceTable(settings.prices)
        self._view = view
        self._usd_prices_count = settings.btc_usd is not None
        self._margin = Decimal(settings.margin)
        self._router: object = None
        self._known: dict[str, Sequence[Deployment]] = {}
        self._forget_at = 0.0
        self._listed: dict[str, Sequence[Deployment]] = {}
        self._listed_router: object = None
        self._list_again_at = 0.0

    def msat_per_usd(self, usd_per_btc: Decimal) -> Decimal:
        """Return what one USD of LiteLLM's prices is charged, in msat, the margin included."""
        return _MSAT_PER_BTC / usd_per_btc * (1 + self._margin)

    def routed(self, model: str, kind: Kind | None = None, *, in_path: bool = False) -> str:
        """Return the name that LiteLLM routes a call by; see ``RouterView.routed``."""
        return self._view.routed(model, kind or "chat", in_path=in_path)

    def priced(self, model: str, msat_per_usd: Decimal | None) -> Priced | None:
        """Return the dearest price among all that may answer for a routed model, or None.

        None where LiteLLM does not serve the model, or where one that may answer has no price: a call to
        it could not be bounded.
        """
        return self._dearest(self._candidates(model), msat_per_usd)

    async def list_models(self) -> None:
        """Look up again who may answer for each model, if that is old or LiteLLM has a new router."""
        router, now = self._view.router(), time.monotonic()
        if router is self._listed_router and now < self._list_again_at:
            return
        found: dict[str, Sequence[Deployment]] = {}
        for name in self._view.model_names():
            found[name] = self._view.candidates(name)
            await anyio.lowlevel.checkpoint()  # calls go on meanwhile
        self._listed, self._listed_router, self._list_again_at = found, router, now + LISTED_FOR_S

    @property
    def is_listed(self) -> bool:
        """Whether the models of LiteLLM's router of now have been listed."""
        return self._view.router() is self._listed_router

    def all_priced(self, msat_per_usd: Decimal | None) -> dict[str, Priced]:
        """Return the prices of all models that were listed and can be bought, by name."""
        found = ((name, self._dearest(who, msat_per_usd)) for name, who in self._listed.items())
        return {name: priced for name, priced in found if priced is not None}

    def takes_token_numbers(self, model: str) -> bool:
        """Tell whether all that may answer for ``model`` take an input of token numbers as it is.

        For others LiteLLM turns the numbers into text, of which one number may be over a hundred tokens.
        """
        return all(d.litellm_model.startswith(_TAKE_TOKEN_NUMBERS) for d in self._candidates(model))

    def raises_small_limits(self, model: str) -> bool:
        """Tell whether LiteLLM may raise an output limit below OpenAI's least for Responses to that."""
        return not all(d.litellm_model.startswith(_KEEP_SMALL_LIMITS) for d in self._candidates(model))

    def _candidates(self, model: str) -> Sequence[Deployment]:
        router, now = self._view.router(), time.monotonic()
        if router is not self._router or now > self._forget_at or len(self._known) > MAX_KNOWN:
            self._router, self._forget_at, self._known = router, now + KNOWN_FOR_S, {}
        if model not in self._known:
            self._known[model] = self._view.candidates(model)
        return self._known[model]

    def _dearest(self, candidates: Sequence[Deployment], msat_per_usd: Decimal | None) -> Priced | None:
        prices: list[ModelPrice] = []
        in_usd = False
        for deployment in candidates:
            price = self._table.get(deployment.group, deployment.deployment_id)
            if price is None and self._usd_prices_count:
                in_usd = True
                price = price_from_usd(deployment, msat_per_usd or Decimal(1))
            if price is None:
                return None
            prices.append(with_known(price, deployment))
        if not prices:
            return None
        modes = frozenset(deployment.mode for deployment in candidates)
        if not in_usd:
            return Priced("config", dearest(prices), modes)
        return Priced("usd", None if msat_per_usd is None else dearest(prices), modes)


def with_known(price: ModelPrice, deployment: Deployment) -> ModelPrice:
    """Fill in what is known of the deployment where the price names none of it: its limits, and reasoning.

    A model that may reason unseen has a price of its own for that, be it that of its output: for ``Relay``.
    """
    values = price.to_dict()
    for name in ("max_input_tokens", "max_output_tokens"):
        limit = getattr(deployment, name)
        if limit is not None:
            values.setdefault(name, limit)
    if deployment.reasons and values.get("output_msat_per_mtok"):
        values.setdefault("reasoning_msat_per_mtok", values["output_msat_per_mtok"])
    return ModelPrice.from_dict(values)
