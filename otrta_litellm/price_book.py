"""Prices of LiteLLM's models in msat: the operator's table first, else LiteLLM's USD prices."""

import time
from collections.abc import Iterable
from decimal import ROUND_CEILING, Decimal

from otrta_core import ModelPrice, PriceTable
from otrta_core.pricing import dearest
from otrta_core.requests import Kind
from otrta_litellm.router_view import Deployment, RouterView, UsdPrices
from otrta_litellm.settings import GatewaySettings

_MSAT_PER_BTC = Decimal(100_000_000_000)
_MILLION = Decimal(1_000_000)

KNOWN_FOR_S = 5.0
"""How long a price is remembered: looking it up takes a millisecond for each deployment."""

MAX_KNOWN = 1000
_TAKE_TOKEN_NUMBERS = ("openai/", "azure/", "hosted_vllm/", "nebius/")


class PriceBook:
    """Says what a call to a model costs at most, whichever deployment or fallback LiteLLM lets answer it."""

    def __init__(self, settings: GatewaySettings, view: RouterView) -> None:
        self._table = PriceTable(settings.prices)
        self._view = view
        self._router: object = None
        self._known: dict[str, ModelPrice | None] = {}
        self._forget_at = 0.0
        self._msat_per_usd = (
            None
            if settings.btc_usd is None
            else _MSAT_PER_BTC / Decimal(settings.btc_usd.fixed) * (1 + Decimal(settings.margin))
        )

    def price(self, model: str, kind: Kind | None = None) -> ModelPrice | None:
        """Return the dearest price among all that may answer for ``model``, or None.

        None where LiteLLM does not serve the model, or where one that may answer has no price: a call to
        it could not be bounded. None too for a chat where only the prompt has a price.
        """
        price = self._looked_up(model)
        if price is not None and kind == "chat" and price.dearest_input and not price.dearest_output:
            return None
        return price

    def all_prices(self) -> dict[str, ModelPrice]:
        """Return the prices of all models that can be bought, by name."""
        found = ((name, self.price(name)) for name in self._view.model_names())
        return {name: price for name, price in found if price is not None}

    def takes_token_numbers(self, model: str) -> bool:
        """Tell whether all that may answer for ``model`` take an input of token numbers as it is.

        For others LiteLLM turns the numbers into text, of which one number may be over a hundred tokens.
        """
        return all(d.litellm_model.startswith(_TAKE_TOKEN_NUMBERS) for d in self._view.candidates(model))

    def _looked_up(self, model: str) -> ModelPrice | None:
        router, now = self._view.router(), time.monotonic()
        if router is not self._router or now > self._forget_at or len(self._known) > MAX_KNOWN:
            self._router, self._forget_at, self._known = router, now + KNOWN_FOR_S, {}
        if model not in self._known:
            self._known[model] = self._dearest(model)
        return self._known[model]

    def _dearest(self, model: str) -> ModelPrice | None:
        prices = [self._price_of(deployment) for deployment in self._view.candidates(model)]
        known = [price for price in prices if price is not None]
        return dearest(known) if known and len(known) == len(prices) else None

    def _price_of(self, deployment: Deployment) -> ModelPrice | None:
        price = self._table.get(deployment.group, deployment.deployment_id)
        if price is None and self._msat_per_usd is not None:
            price = price_from_usd(deployment.prices, self._msat_per_usd)
        if price is None:
            return None
        return with_limits(price, deployment)


def with_limits(price: ModelPrice, deployment: Deployment) -> ModelPrice:
    """Fill in the deployment's own limits where the price names none."""
    values = price.to_dict()
    for name in ("max_input_tokens", "max_output_tokens"):
        limit = getattr(deployment, name)
        if limit is not None:
            values.setdefault(name, limit)
    return ModelPrice.from_dict(values)


def price_from_usd(usd: UsdPrices, msat_per_usd: Decimal) -> ModelPrice | None:
    """Turn USD prices into msat, each rounded up; None where there is no price per token.

    A kind of usage that has a price which this gateway cannot bound makes the model unsellable. So do
    prices that are all zero, which LiteLLM lists for models that run on the operator's own machines: what
    is free has to be in the operator's table.
    """
    per_token = (usd.input_per_token, usd.output_per_token)
    if usd.input_per_token is None or usd.per_search or not (any(per_token) or usd.per_request):
        return None

    def per_million(value: Decimal | None) -> int | None:
        return None if value is None else _up(value * _MILLION * msat_per_usd)

    values: Iterable[tuple[str, int | None]] = (
        ("input_msat_per_mtok", per_million(usd.input_per_token)),
        ("output_msat_per_mtok", per_million(usd.output_per_token)),
        ("cached_input_msat_per_mtok", per_million(usd.cached_input_per_token)),
        ("cache_write_msat_per_mtok", per_million(usd.cache_write_per_token)),
        ("reasoning_msat_per_mtok", per_million(usd.reasoning_per_token)),
        ("request_msat", None if usd.per_request is None else _up(usd.per_request * msat_per_usd)),
    )
    return ModelPrice.from_dict({name: value for name, value in values if value is not None})


def _up(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_CEILING))
