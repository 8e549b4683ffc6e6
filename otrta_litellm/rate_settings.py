"""The setting ``btc_usd``: a fixed rate, or which feeds are asked and what of them is believed."""

import ipaddress
from decimal import Decimal
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from otrta_litellm.feeds import PUBLIC_FEEDS, FeedFormat
from otrta_litellm.rates import RateRules


def _as_text(value: Any) -> Any:
    """YAML makes a float of an unquoted figure; its shortest text is what stood there."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Share = Annotated[
    str,
    BeforeValidator(_as_text),
    Field(pattern=r"^[0-9]{1,3}(\.[0-9]{1,6})?$", description='a fraction: "0.05" is five per cent'),
]
Usd = Annotated[
    str,
    BeforeValidator(_as_text),
    Field(pattern=r"^[0-9]{1,9}(\.[0-9]{1,8})?$", description='dollars for a bitcoin, such as "100000"'),
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FeedSetting(_Model):
    """One service that is asked: the format of its answer, and its address where it is not the public one."""

    format: FeedFormat
    url: str = ""

    @model_validator(mode="after")
    def _safe(self) -> Self:
        parts = urlsplit(self.address)
        secure = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or ""))
        if not secure or not parts.hostname or parts.username is not None or parts.password is not None:
            raise ValueError("a feed's url begins with https:// and names no user")
        return self

    @property
    def address(self) -> str:
        """The URL that is asked."""
        return self.url or PUBLIC_FEEDS[self.format]


class BtcUsd(_Model):
    """Where the price of bitcoin comes from: ``fixed``, or the median of ``feeds``.

    Attributes:
        fixed: USD for one bitcoin, as it stands.
        feeds: the services that are asked, or "public" for the public ones of all known formats.
        max_age_s: how long a rate counts. Without a fresh one, nothing that is priced in USD is sold.
        max_jump: the share by which the feeds may differ, and by which the rate may move at once.
        min_feeds: how many feeds have to agree.
        every_s: how often they are asked.
    """

    fixed: Annotated[Usd | None, Field(description='dollars for a bitcoin, such as "100000"')] = None
    feeds: Annotated[
        tuple[FeedSetting, ...],
        Field(max_length=20, description="public, or a list of up to 20 such as {format: kraken}"),
    ] = ()
    max_age_s: Annotated[int, Field(ge=120, le=86_400)] = 600
    max_jump: Share = "0.05"
    min_feeds: Annotated[int, Field(ge=1, le=20)] | None = None
    every_s: Annotated[int, Field(ge=5, le=3600)] = 60

    @field_validator("feeds", mode="before")
    @classmethod
    def _public(cls, value: Any) -> Any:
        return [{"format": name} for name in PUBLIC_FEEDS] if value == "public" else value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.fixed is None and not self.feeds:
            raise ValueError('set fixed to a rate such as "100000", or feeds to "public" or a list')
        if self.fixed is not None:
            others = sorted(self.model_fields_set - {"fixed"})
            if others:
                raise ValueError(f"a fixed rate needs no {others[0]}: leave out one of them")
            if not Decimal(self.fixed):
                raise ValueError("fixed must be more than zero")
            return self
        if self.least_feeds > len(self.feeds):
            raise ValueError(f"min_feeds is more than the {len(self.feeds)} feeds that are asked")
        if self.max_age_s < 2 * self.every_s:
            raise ValueError("max_age_s must be at least twice every_s, or each failure would stop sales")
        if not 0 < Decimal(self.max_jump) < 1:
            raise ValueError('max_jump must be a share such as "0.05"')
        return self

    @property
    def least_feeds(self) -> int:
        """How many feeds have to agree: two, unless there is one only."""
        return min(2, len(self.feeds)) if self.min_feeds is None else self.min_feeds

    @property
    def rules(self) -> RateRules:
        """What of the feeds is believed."""
        return RateRules(
            max_age_s=self.max_age_s, max_jump=Decimal(self.max_jump), min_feeds=self.least_feeds
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
