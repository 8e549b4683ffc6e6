"""How an operation that was not carried out is told to whoever asked for it."""

from otrta_core import OtrtaError
from otrta_wallet.decisions import Verdict
from otrta_wallet.errors import MintRefused, OutcomeUnknown, PaymentFailed, TokenPending, TokenSpent
from otrta_wallet.records import Operation


def unknown(operation: Operation) -> OutcomeUnknown:
    """Say of an operation that it is under way, or may be."""
    if operation.kind == "melt":
        return OutcomeUnknown(
            "the payment is on its way: it is journalled, and recovery finds out how it ended", operation.id
        )
    return OutcomeUnknown(
        "the mint's answer is not known yet: it is journalled and will be settled by recovery", operation.id
    )


def why_failed(operation: Operation, verdict: Verdict, refusal: MintRefused | None) -> OtrtaError:
    """Say why an operation is given up: by the verdict, and by the mint's answer where it gave one."""
    match verdict:
        case Verdict.FAIL_SPENT if operation.kind == "mint":
            return MintRefused("the invoice's e-cash was issued already, and not to this wallet", 400)
        case Verdict.FAIL_SPENT if operation.kind == "melt":
            return TokenSpent("what was to pay the invoice has been spent already, and not by this wallet")
        case Verdict.FAIL_PAID:
            return PaymentFailed("the invoice is paid already, and not with this wallet's money", 400)
        case Verdict.FAIL_REFUSED if operation.kind == "melt":
            why = "the mint did not pay the invoice: nothing was spent"
            if refusal is None:
                return PaymentFailed(why, 400)
            return PaymentFailed(f"{why} ({refusal.message})", refusal.status, refusal.mint_code)
        case Verdict.FAIL_SPENT:
            return TokenSpent("the token has been spent already")
        case Verdict.FAIL_PENDING:
            return TokenPending("the token is being spent somewhere else right now: try again later")
    return refusal or MintRefused("the mint did not carry it out", 400)


def as_it_ended(operation: Operation) -> Operation:
    """Return an operation that is done, and raise for one that is given up as when it was.

    Raises:
        PaymentFailed, MintRefused: it is given up.
    """
    if operation.state == "done":
        return operation
    error = PaymentFailed if operation.kind == "melt" else MintRefused
    raise error(operation.error or "the operation was given up", 400)
