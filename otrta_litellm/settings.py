"""The gateway's settings: ``callback_settings.otrta`` in LiteLLM's config, or ``OTRTA_GATEWAY_<KEY>``."""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from otrta_core import ModelPrice, OtrtaError, Unit
from otrta_core.amounts import MAX_AMOUNT
from otrta_core.requests import Kind
from otrta_litellm.kind_limits import KindLimits, by_kind
from otrta_litellm.logs import LogFormat, LogLevel
from otrta_litellm.payout_settings import PayoutSettings
from otrta_litellm.rate_settings import BtcUsd, Share
from otrta_litellm.setting_faults import ENV_PREFIX, SettingsError, name_of, sentence
from otrta_litellm.setting_sources import gathered
from otrta_wallet.mint_url import normalize_mint_url

__all__ = ["ENV_PREFIX", "BtcUsd", "GatewaySettings", "SettingsError", "load_settings", "store_url"]

STORE_FILE = "gateway.sqlite3"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GatewaySettings(_Model):
    """What an operator sets.

    Attributes:
        store: SQLAlchemy URL, or a directory in which ``gateway.sqlite3`` is kept.
        state_dir: where the file is kept by which a copied or restored store is known; beside an SQLite
            store, and with PostgreSQL where this system keeps programs' state, unless it is set.
        mints: URLs of the mints whose tokens are taken.
        unit: the unit that a 402 asks for.
        redeem: whether an unlocked token is redeemed "before" the model is called, or "with_call": at the
            same time, with the answer held back until that is certain.
        at_risk_msat: how much may be paid for calls that run before their payment is certain.
        with_call_pause_s: for how long calls wait for their payments again after one was lost.
        lock: policy for locked tokens, which are paid before their mint is asked.
        min_lock_s: how far ahead the locktime of a locked token must be, where it has one.
        lock_grace_s: how long a locked token may wait for its mint before no more of that mint are taken.
        lock_max_mint_msat: how much may wait so at one mint.
        lock_max_msat: how much may wait so at all mints together.
        margin: added to LiteLLM's USD prices, as a fraction: "0.05" is five per cent.
        btc_usd: the rate that turns USD prices into msat; without it only ``prices`` count.
        prices: msat prices by model name or glob; they come before USD prices.
        paths: the least and the most that a call costs, by path or kind of call; see ``KindLimits``.
        rounding: what is done with less than a sat of a sat token's cost.
        allow_zero: with "down" and "stochastic", whether a cost may round to nothing.
        max_token_bytes: longest X-Cashu header value.
        max_proofs: most proofs of one token.
        max_fee_ppk: a mint with a higher input fee is not offered.
        max_body_bytes: largest request body of a paid call.
        body_within_s: how long an unpaid body may take, beside a second for each 32 kB of it.
        max_unpaid: most calls at once whose body is being read and which have not paid.
        refusals_per_minute: tokens of one address that mints may refuse; further ones do not go to a mint.
        refusals_per_minute_in_all: the same for all addresses together.
        max_held_msat: most msat held at one mint; beyond it its tokens are refused. None: no bound.
        trusted_proxies: how many proxies of the operator's own stand before the gateway and add to
            X-Forwarded-For.
        buffer_bytes: largest answer that is held back so that its change fits the header.
        buffer_total_bytes: bound of all held answers together.
        default_output_tokens: assumed in a 402 where a request has no limit.
        min_output_tokens: the least output that a payment must cover.
        cache_hit: what an answer costs that LiteLLM had in its cache: as much as another, or nothing.
        log_format: how the gateway's own lines look: "text" or "json".
        log_level: the least important of them that are written.
        claim_days: how long unspent change can be fetched again.
        payout: where earnings go by themselves, and what stays for change.
    """

    store: Annotated[str, Field(description="a directory, or the SQLAlchemy URL of a database of its own")]
    mints: Annotated[tuple[str, ...], Field(description="the URLs of mints, with commas between them")]
    state_dir: Annotated[str | None, Field(description="a directory that lasts")] = None
    unit: Unit = Unit.MSAT
    redeem: Literal["before", "with_call"] = "before"
    at_risk_msat: Annotated[int, Field(ge=0, le=1 << 60)] = 1_000_000
    with_call_pause_s: Annotated[int, Field(ge=1, le=3600)] = 60
    lock: Literal["off", "accepted", "required"] = "accepted"
    min_lock_s: Annotated[int, Field(ge=60, le=31_536_000)] = 3600
    lock_grace_s: Annotated[int, Field(ge=1, le=15_768_000, validate_default=True)] = 300
    lock_max_mint_msat: Annotated[int, Field(ge=0, le=1 << 60)] = 10_000_000
    lock_max_msat: Annotated[int, Field(ge=0, le=1 << 60)] = 50_000_000
    margin: Share = "0"
    btc_usd: Annotated[
        BtcUsd | None, Field(description='a mapping, such as {fixed: "100000"} or {feeds: public}')
    ] = None
    prices: dict[str, ModelPrice] = {}
    paths: Annotated[dict[Kind, KindLimits], BeforeValidator(by_kind)] = {}
    rounding: Literal["up", "down", "stochastic"] = "up"
    allow_zero: bool = False
    cache_hit: Literal["full", "free"] = "full"
    max_token_bytes: Annotated[int, Field(ge=1024, le=1 << 20)] = 32_768
    max_proofs: Annotated[int, Field(ge=1, le=1000)] = 64
    max_fee_ppk: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    max_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 32 << 20
    body_within_s: Annotated[int, Field(ge=1, le=600)] = 15
    max_unpaid: Annotated[int, Field(ge=1, le=100_000)] = 256
    refusals_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 30
    refusals_per_minute_in_all: Annotated[int, Field(ge=2, le=1_000_000)] = 600
    max_held_msat: Annotated[int, Field(ge=1, le=MAX_AMOUNT)] | None = None
    trusted_proxies: Annotated[int, Field(ge=0, le=10)] = 0
    buffer_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 8 << 20
    buffer_total_bytes: Annotated[int, Field(ge=1024, le=1 << 34)] = 256 << 20
    default_output_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    min_output_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 16
    log_format: LogFormat = "text"
    log_level: LogLevel = "info"
    claim_days: Annotated[int, Field(ge=1, le=36_500)] = 365
    payout: Annotated[
        PayoutSettings, Field(description="a mapping, such as {to: me@example.com, above_msat: 10000000}")
    ] = PayoutSettings()

    @field_validator("mints", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        urls = value.split(",") if isinstance(value, str) else value
        if not isinstance(urls, list | tuple) or not all(isinstance(url, str) for url in urls):
            raise ValueError("give a list of URLs, or one text with commas between them")
        try:
            found = tuple(dict.fromkeys(normalize_mint_url(url) for url in urls if url.strip()))
        except OtrtaError as error:
            raise ValueError(error.message) from None
        if not found:
            raise ValueError("name at least one mint, by its URL")
        return found

    @field_validator("prices", mode="before")
    @classmethod
    def _prices(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("give a mapping of model names to prices")
        known = set(ModelPrice.__dataclass_fields__)
        found = {}
        for model, price in value.items():
            if not isinstance(price, Mapping) or not price or price.keys() - known:
                raise ValueError(f"{model}: a price has one or more of the keys {', '.join(sorted(known))}")
            try:
                found[str(model)] = ModelPrice.from_dict(price)
            except OtrtaError as error:
                raise ValueError(f"{model}: {error.message}") from None
        return found

    @field_validator("lock_grace_s")
    @classmethod
    def _grace(cls, value: int, info: ValidationInfo) -> int:
        if value * 2 > info.data.get("min_lock_s", value * 2):
            raise ValueError("at most half of min_lock_s, so that locked tokens are redeemed in time")
        return value

    @field_validator("store")
    @classmethod
    def _store(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("give a directory or a database URL")
        if "://" not in value:
            return value
        try:
            url = make_url(value)
        except ArgumentError:
            raise ValueError("this URL cannot be read: write it as postgresql://user@host/name") from None
        backend = url.get_backend_name()
        if backend not in ("sqlite", "postgresql", "postgres"):
            raise ValueError("the database must be SQLite or PostgreSQL: begin its URL with postgresql://")
        if backend == "sqlite" and url.database in (None, "", ":memory:"):
            raise ValueError("a store in memory would end with the process: name a file or a directory")
        if backend != "sqlite" and importlib.util.find_spec("psycopg") is None:
            raise ValueError("PostgreSQL needs psycopg: pip install 'otrta[postgres]'")
        return value

    @property
    def store_is_shared(self) -> bool:
        """Whether several processes can have the store open."""
        return not self.store_url.startswith("sqlite")

    @property
    def store_url(self) -> str:
        """The store as an SQLAlchemy URL."""
        return store_url(self.store)


def store_url(store: str) -> str:
    """Return the SQLAlchemy URL of a ``store`` setting, which may be a directory."""
    return store if "://" in store else f"sqlite:///{Path(store).expanduser().absolute() / STORE_FILE}"


def _same_database(store: object, other: str) -> bool:
    """Whether two settings name one database; LiteLLM adds parameters of its own to its URL."""
    if not isinstance(store, str) or "://" not in store or "://" not in other:
        return False
    try:
        urls = make_url(store), make_url(other)
    except ArgumentError:
        return False
    local = {None: "127.0.0.1", "": "127.0.0.1", "localhost": "127.0.0.1", "::1": "127.0.0.1"}
    ours, theirs = ((local.get(url.host, url.host), url.port or 5432, url.database) for url in urls)
    return ours == theirs


def load_settings(
    values: Mapping[str, Any] | None, environ: Mapping[str, str] = os.environ
) -> GatewaySettings:
    """Read the settings; a variable ``OTRTA_GATEWAY_<KEY>`` stands before the config's key.

    Args:
        values: ``callback_settings.otrta``, or None where there is none.
        environ: the process's variables.

    Raises:
        SettingsError: one sentence for the first thing that is wrong, naming its key.
    """
    merged, origins = gathered(values, GatewaySettings.model_fields, environ)
    for key in ("store", "mints"):
        if merged.get(key) in (None, ""):
            description = GatewaySettings.model_fields[key].description
            raise SettingsError(
                f"{name_of([key])} is not set: set it there or as {ENV_PREFIX}{key.upper()}, to {description}"
            )
    if _same_database(merged["store"], environ.get("DATABASE_URL", "")):
        raise SettingsError(f"{name_of(['store'])} is LiteLLM's own DATABASE_URL: name another database")
    try:
        return GatewaySettings.model_validate(merged)
    except ValidationError as invalid:
        faults = invalid.errors(include_url=False)
        # a key that is misspelt is often also one that is missing
        first = next((each for each in faults if each["type"] == "extra_forbidden"), faults[0])
        origin = origins.get(str(first["loc"][0])) if first["loc"] else None
        fault = sentence(GatewaySettings, first, origin)
    # raised here, so that no traceback shows the validator's error, which holds the values
    raise SettingsError(fault)
