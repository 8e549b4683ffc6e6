"""The gateway's settings: ``callback_settings.otrta`` in LiteLLM's config, or ``OTRTA_GATEWAY_<KEY>``."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from otrta_core import ModelPrice, OtrtaError, Unit
from otrta_litellm.rate_settings import BtcUsd, Share
from otrta_wallet.mint_url import normalize_mint_url

ENV_PREFIX = "OTRTA_GATEWAY_"
STORE_FILE = "gateway.sqlite3"


class SettingsError(OtrtaError):
    """A setting is missing or wrong; the message names its key and the fix."""

    code = "settings_invalid"
    http_status = 500


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GatewaySettings(_Model):
    """What an operator sets.

    Attributes:
        store: SQLAlchemy URL, or a directory in which ``gateway.sqlite3`` is kept.
        mints: URLs of the mints whose tokens are taken.
        unit: the unit that a 402 asks for.
        redeem: "before": a token is redeemed before the model is called.
        lock: policy for locked tokens.
        margin: added to LiteLLM's USD prices, as a fraction: "0.05" is five per cent.
        btc_usd: the rate that turns USD prices into msat; without it only ``prices`` count.
        prices: msat prices by model name or glob; they come before USD prices.
        rounding: what is done with less than a sat of a sat token's cost.
        allow_zero: with "down" and "stochastic", whether a cost may round to nothing.
        max_token_bytes: longest X-Cashu header value.
        max_proofs: most proofs of one token.
        max_fee_ppk: a mint with a higher input fee is not offered.
        max_body_bytes: largest request body of a paid call.
        buffer_bytes: largest answer that is held back so that its change fits the header.
        buffer_total_bytes: bound of all held answers together.
        default_output_tokens: assumed in a 402 where a request has no limit.
        min_output_tokens: the least output that a payment must cover.
        claim_days: how long unspent change can be fetched again.
    """

    store: str
    mints: tuple[str, ...]
    unit: Unit = Unit.MSAT
    redeem: Literal["before"] = "before"
    lock: Literal["off", "accepted"] = "accepted"
    margin: Share = "0"
    btc_usd: BtcUsd | None = None
    prices: dict[str, ModelPrice] = {}
    rounding: Literal["up", "down", "stochastic"] = "up"
    allow_zero: bool = False
    max_token_bytes: Annotated[int, Field(ge=1024, le=1 << 20)] = 32_768
    max_proofs: Annotated[int, Field(ge=1, le=1000)] = 64
    max_fee_ppk: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    max_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 32 << 20
    buffer_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 8 << 20
    buffer_total_bytes: Annotated[int, Field(ge=1024, le=1 << 34)] = 256 << 20
    default_output_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    min_output_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 16
    claim_days: Annotated[int, Field(ge=1, le=36_500)] = 365

    @field_validator("mints", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        urls = value.split(",") if isinstance(value, str) else value
        if not isinstance(urls, list | tuple) or not all(isinstance(url, str) for url in urls):
            raise ValueError("must be a list of URLs, or one text with commas between them")
        found = tuple(dict.fromkeys(normalize_mint_url(url) for url in urls if url.strip()))
        if not found:
            raise ValueError("must name at least one mint")
        return found

    @field_validator("prices", mode="before")
    @classmethod
    def _prices(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("must map model names to prices")
        known = set(ModelPrice.__dataclass_fields__)
        for model, price in value.items():
            if not isinstance(price, Mapping) or not price or price.keys() - known:
                raise ValueError(f"{model}: a price has the keys {', '.join(sorted(known))}")
        return {str(model): ModelPrice.from_dict(price) for model, price in value.items()}

    @property
    def store_url(self) -> str:
        """The store as an SQLAlchemy URL."""
        return store_url(self.store)


def store_url(store: str) -> str:
    """Return the SQLAlchemy URL of a ``store`` setting, which may be a directory."""
    return store if "://" in store else f"sqlite:///{Path(store).expanduser().absolute() / STORE_FILE}"


def load_settings(
    values: Mapping[str, Any] | None, environ: Mapping[str, str] = os.environ
) -> GatewaySettings:
    """Read the settings; a variable ``OTRTA_GATEWAY_<KEY>`` stands before the config's key.

    Raises:
        SettingsError: one sentence for the first thing that is wrong, naming its key.
    """
    if values is not None and not isinstance(values, Mapping):
        raise SettingsError("callback_settings.otrta must be a mapping of settings")
    merged = dict(values or {})
    for key in GatewaySettings.model_fields:
        if (text := environ.get(ENV_PREFIX + key.upper())) is not None:
            merged[key] = text
    for key in ("store", "mints"):
        if not merged.get(key):
            raise SettingsError(
                f"callback_settings.otrta.{key} is not set: set it there or as {ENV_PREFIX}{key.upper()}"
            )
    try:
        return GatewaySettings.model_validate(merged)
    except OtrtaError as error:
        raise SettingsError(f"callback_settings.otrta: {error.message}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"callback_settings.otrta.{key}: {reason}") from None
