"""The setting ``payout``: where earnings go by themselves, and what stays for change."""

from decimal import Decimal
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from otrta_core import OtrtaError
from otrta_litellm.lnurl import url_of
from otrta_litellm.rate_settings import Share

_MOST_MSAT = 21_000_000 * 10**11


class PayoutSettings(BaseModel):
    """Payouts, at each mint and in each unit by itself.

    Attributes:
        to: a Lightning address or LNURL that is paid by itself; None for none.
        above_msat: paid out once so much is there beyond what is owed.
        keep_msat: stays as the float that change is made from, beyond what is owed.
        max_fee: a payment whose Lightning fee may be a larger share is not begun by itself.
        every_s: how often it is looked at.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: Annotated[
        str | None, Field(description="a Lightning address such as me@example.com, or an LNURL")
    ] = None
    above_msat: Annotated[int, Field(ge=1000, le=_MOST_MSAT)] = 10_000_000
    keep_msat: Annotated[int, Field(ge=0, le=_MOST_MSAT)] = 100_000
    max_fee: Share = "0.02"
    every_s: Annotated[int, Field(ge=10, le=604_800)] = 3600

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.to is not None:
            try:
                url_of(self.to)
            except OtrtaError as error:
                raise ValueError(f"to: {error.message}") from None
        if self.above_msat <= self.keep_msat:
            raise ValueError("above_msat must be more than keep_msat, or nothing would be left to pay out")
        return self

    def allows_fee(self, fee_msat: int, amount_msat: int) -> bool:
        """Tell whether a payment may cost so much without anybody being asked."""
        return fee_msat <= Decimal(self.max_fee) * amount_msat
