"""What each wallet action takes: bounded, typed, and nothing unknown."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from otrta_core import Unit
from otrta_core.amounts import MAX_AMOUNT
from otrta_core.invoice import MAX_INVOICE_CHARACTERS
from otrta_wallet.restore import EMPTY_BATCHES
from proxy_trio.app_keys import NAME_PATTERN
from proxy_trio.model_names import is_pattern

MAX_TOKEN_CHARACTERS = 1 << 20
MAX_HISTORY = 10_000
MAX_LOCK_S = 10 * 365 * 86_400
MAX_MEMO_CHARACTERS = 1000

Url = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
AmountMsat = Annotated[int, Field(strict=True, gt=0, le=MAX_AMOUNT)]


def _model_name(text: str) -> str:
    if not is_pattern(text):
        raise ValueError("is no model's name")
    return text


ModelName = Annotated[str, AfterValidator(_model_name)]


class Params(BaseModel):
    """Base: unknown keys are refused, and no error quotes what was given."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class NoParams(Params):
    """Nothing."""


class ReceiveParams(Params):
    """A token to take."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TOKEN_CHARACTERS)] = Field(
        repr=False
    )


class PlaceParams(Params):
    """Where money is: without a mint or a unit the wallet picks them."""

    mint: Url | None = None
    unit: Unit | None = None


class AmountParams(PlaceParams):
    """An amount."""

    amount_msat: AmountMsat


class SendParams(AmountParams):
    """A token to make: of exactly the amount, or of at least so much without asking the mint.

    Attributes:
        lock: the public key that it is to be locked to.
        refund_after_s: how long a locked one cannot be taken back; None for never.
    """

    at_least: Annotated[bool, Field(strict=True)] = False
    memo: Annotated[str, StringConstraints(min_length=1, max_length=MAX_MEMO_CHARACTERS)] | None = None
    lock: Annotated[str, StringConstraints(pattern=r"^0[23][0-9a-fA-F]{64}$")] | None = None
    refund_after_s: Annotated[int, Field(strict=True, gt=0, le=MAX_LOCK_S)] | None = None


class SentParams(Params):
    """A token that was sent, by its id or the beginning of it."""

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{6,32}$")]


class QuoteIdParams(Params):
    """An invoice, by the id of its quote."""

    quote_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,200}$")] = Field(repr=False)


class RecoverParams(Params):
    """What to ask for."""

    expired: Annotated[bool, Field(strict=True)] = False


class InvoiceParams(PlaceParams):
    """A Lightning invoice to pay; ``again`` for one that this wallet has paid before."""

    invoice: Annotated[str, StringConstraints(min_length=1, max_length=MAX_INVOICE_CHARACTERS)] = Field(
        repr=False
    )
    again: Annotated[bool, Field(strict=True)] = False


class PayParams(QuoteIdParams):
    """A mint's offer to pay an invoice, by its id."""

    again: Annotated[bool, Field(strict=True)] = False


class HistoryParams(Params):
    """How many entries."""

    limit: Annotated[int, Field(strict=True, ge=1, le=MAX_HISTORY)] = 100


class ActivityParams(Params):
    """Which part of what happened."""

    offset: Annotated[int, Field(strict=True, ge=0, le=10**9)] = 0
    limit: Annotated[int, Field(strict=True, ge=1, le=1000)] = 50


class SpendingParams(Params):
    """How many days back."""

    days: Annotated[int, Field(strict=True, ge=1, le=366)] = 30


class UrlParams(Params):
    """A mint or a gateway."""

    url: Url


class PlaceByProxyParams(UrlParams):
    """A mint or a gateway, and the SOCKS proxy that leads there, or ``direct``; None for what is set."""

    proxy: Annotated[str, StringConstraints(min_length=1, max_length=2048)] | None = None


class GatewayParams(PlaceByProxyParams):
    """A gateway, and what kind of gateway it is; without it that is found out."""

    kind: Literal["otrta", "nut24", "routstr"] | None = None


class LockParams(UrlParams):
    """A gateway, and whether it is paid with tokens that are locked to its key."""

    on: bool


class QuoteParams(Params):
    """The body of an LLM call that is not sent."""

    body: dict[str, Any] = Field(repr=False)
    path: Annotated[str, StringConstraints(max_length=200)] = "/v1/chat/completions"


class RestoreParams(Params):
    """A mint to restore from, the words of the wallet's seed, and how far to look."""

    url: Url
    words: Annotated[str, StringConstraints(min_length=1, max_length=1000)] = Field(repr=False)
    look: Annotated[int, Field(strict=True, ge=1, le=10_000)] = EMPTY_BATCHES


class ConfigKeyParams(Params):
    """A setting, by its key: ``budgets.per_day_sat``."""

    key: Annotated[str, StringConstraints(min_length=1, max_length=100)]


class ConfigSetParams(Params):
    """Settings and their values, by key; None takes one out of config.toml, so that its default holds."""

    values: dict[str, bool | int | float | str | list[str] | None] = Field(min_length=1, max_length=50)


KeyLimit = Annotated[int, Field(strict=True, ge=0, le=MAX_AMOUNT)]


class KeyLimits(Params):
    """Limits of an app's key, in msat; None: none of its own. What is left out stays."""

    per_request_msat: KeyLimit | None = None
    per_hour_msat: KeyLimit | None = None
    per_day_msat: KeyLimit | None = None
    per_month_msat: KeyLimit | None = None
    total_msat: KeyLimit | None = None


class KeyNameParams(Params):
    """An app's key, by its name."""

    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]


class KeyParams(KeyNameParams):
    """An app's key and what it may do; what is left out stays as it is.

    Attributes:
        limits: of its own, in msat.
        models: that it may pay for; ``"any"``.
        expires_in_s: from now on; 0 for never.
    """

    limits: KeyLimits = KeyLimits()
    models: Annotated[list[ModelName], Field(max_length=1000)] | Literal["any"] | None = None
    expires_in_s: Annotated[int, Field(strict=True, ge=0, le=MAX_LOCK_S)] | None = None

    def expires_at(self, now: float, known: float | None) -> float | None:
        """Return when the key ends, in unix seconds; ``known`` where nothing was said."""
        if self.expires_in_s is None:
            return known
        return now + self.expires_in_s if self.expires_in_s else None


class ApprovalParams(Params):
    """A call that waits for approval."""

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")]
