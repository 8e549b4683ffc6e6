"""Whether a gateway gave back enough: pure arithmetic on what both sides can know."""

from dataclasses import dataclass

from otrta_core import ModelPrice, Unit, Usage, cost_msat, format_msat, round_charge_msat
from otrta_core.settlement import Rounding
from proxy_trio.routstr import with_slack
from proxy_trio.schema import CallState


@dataclass(frozen=True, slots=True)
class Judgement:
    """How a payment is closed: the state, what is missing, and why."""

    state: CallState
    missing_msat: int | None = None
    reason: str | None = None


def most_charge_msat(
    *,
    bound_msat: int,
    failed: bool,
    unit: str,
    rounding: Rounding,
    price: ModelPrice | None,
    usage: Usage | None,
    loose: bool = False,
) -> int:
    """Return the most that a gateway may keep of a payment, beside the mint's fee.

    Args:
        bound_msat: the most that the call may cost: its quote, or all that was paid where that capped it.
        failed: whether the call failed, so that nothing may be kept.
        unit: of the token.
        rounding: the gateway's published policy.
        price: the gateway's published price, or None where it published none.
        usage: as the answer states it, or None where it states none.
        loose: whether the published price is no promise to the msat.
    """
    if failed:
        return 0
    most = bound_msat
    if price is not None and usage is not None:
        cost = cost_msat(price, usage)
        most = min(most, with_slack(cost) if loose else cost)
    policy: Rounding = "up" if rounding == "stochastic" else rounding
    return round_charge_msat(most, Unit.parse(unit), policy)


def least_change_msat(*, paid_msat: int, fee_msat: int, bound_msat: int) -> int:
    """Return the least change that a gateway may give for a payment.

    Args:
        paid_msat: the token's face value.
        fee_msat: its input fee, by our own count.
        bound_msat: the most that the gateway may keep.
    """
    return max(0, paid_msat - fee_msat - bound_msat)


def verdict(change_msat: int, least_msat: int, reason: str | None = None) -> Judgement:
    """Return how a payment is closed whose change is known.

    Args:
        change_msat: what came back.
        least_msat: what had to come back.
        reason: why there is too little, where that is known.
    """
    if change_msat >= least_msat:
        return Judgement(CallState.DONE)
    missing = least_msat - change_msat
    return Judgement(
        CallState.DISPUTED, missing, reason or f"the change is {format_msat(missing)} too little"
    )
