"""What is said of tokens that cannot pay, and which states of a payment are final."""

from otrta_core import KeysetError, OtrtaError, PaymentRequest
from otrta_litellm.answers import GateError
from otrta_litellm.schema import PaymentState
from otrta_wallet import MintNotKnown, MintUnreachable, OutcomeUnknown, TokenUneconomic, UnitMismatch

OVER = frozenset({PaymentState.SETTLED, PaymentState.CLAIMED})


def wants_request(error: OtrtaError) -> bool:
    """Tell whether a refusal is one that also says what would be accepted."""
    return isinstance(error, MintNotKnown | UnitMismatch | TokenUneconomic)


def as_refusal(error: OtrtaError) -> OtrtaError:
    """Return what is said where a token could not even be journalled: it is untouched then."""
    return mint_away() if isinstance(error, MintUnreachable | OutcomeUnknown | KeysetError) else error


def mint_away() -> GateError:
    """Refuse a token whose mint cannot be asked."""
    return GateError(
        "the token's mint cannot be reached right now: the token is untouched; try again later",
        code="mint_unreachable",
        status=503,
    )


def lock_not_accepted(message: str) -> GateError:
    """Refuse a token for how it is locked, or is not."""
    return GateError(message, code="lock_not_accepted", status=400)


def locks_wait(why: str) -> GateError:
    """Refuse a locked token for now; ``why`` begins the message."""
    return GateError(
        f"{why}: the token is untouched; send one without a lock, or try again later",
        code="locks_unavailable",
        status=503,
    )


def no_mint() -> GateError:
    """Refuse a call that nobody could pay for now."""
    return GateError(
        "no mint of this gateway can be reached right now: try again later; nothing was paid",
        code="mint_unreachable",
        status=503,
    )


def journalled() -> GateError:
    """Say that a token's swap has gone out and was not answered."""
    return GateError(
        "the mint has not answered yet: your token is journalled, and what is left of it can be fetched from "
        "/v1/cashu/change once it has",
        code="mint_unreachable",
        status=503,
    )


def insufficient(
    worth_msat: int, minimum_msat: int, quote_msat: int, request: PaymentRequest | None
) -> GateError:
    """Refuse a token that is worth too little; ``request`` says what would be enough."""
    return GateError(
        f"the token is worth {worth_msat} msat after fees: this call takes at least {minimum_msat}",
        code="insufficient_payment",
        status=400,
        required_msat=quote_msat,
        request=request,
    )


def spent(change: str | None = None) -> GateError:
    """Refuse a token that was spent; ``change`` is what was left of it."""
    message = "the token has been spent already"
    if change is not None:
        message += ": what was left of it is in the X-Cashu header"
    return GateError(message, code="token_already_spent", status=400, change=change)


def pending() -> GateError:
    """Refuse a token that pays for a call that is not over."""
    return GateError(
        "the token is paying for another call right now: ask /v1/cashu/change for what is left of it",
        code="token_pending",
        status=409,
    )
