"""How a payment divides into cost, fee and change."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from otrta_core.amounts import Unit
from otrta_core.errors import AmountError

Rounding = Literal["up", "down", "stochastic"]

DRAWS: Final = 1000
"""How many draws of stochastic rounding there are: as many as a sat has msat."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """The division of a payment: ``paid == charged + fee + change``, exactly.

    Attributes:
        paid: the token's face value.
        fee: the input fee of redeeming it.
        charged: what is kept for the call.
        change: what goes back.
        excess: what the call cost beyond what was paid; the operator's loss.
    """

    paid: int
    fee: int
    charged: int
    change: int
    excess: int = 0


def settle(paid: int, fee: int, cost: int) -> Settlement:
    """Divide a payment; all amounts in one unit, usually msat.

    Raises:
        AmountError: an amount is negative, or the fee is more than was paid.
    """
    if min(paid, fee, cost) < 0:
        raise AmountError("paid, fee and cost cannot be negative")
    if fee > paid:
        raise AmountError("the input fee is more than the token: it cannot be redeemed")
    charged = min(cost, paid - fee)
    return Settlement(paid, fee, charged, paid - fee - charged, cost - charged)


def round_charge_msat(
    cost_msat: int, unit: Unit, rounding: Rounding = "up", *, draw: int = 0, allow_zero: bool = False
) -> int:
    """Round a cost to what can be charged in a token's unit, in msat.

    Args:
        cost_msat: the exact cost.
        unit: of the token; msat needs no rounding.
        rounding: the operator's published policy for what is less than one unit.
        draw: for "stochastic": a uniform number from 0 to 999, drawn once per payment by the caller.
        allow_zero: with "down" and "stochastic", whether a cost above zero may be charged as nothing.

    Raises:
        AmountError: a negative cost, a draw out of its range, or a policy that is none.
    """
    if cost_msat < 0:
        raise AmountError("a cost cannot be negative")
    if rounding not in get_args(Rounding) or not 0 <= draw < DRAWS:
        raise AmountError("round up, down, or stochastic with a draw from 0 to 999")
    whole, rest = divmod(cost_msat, unit.msat)
    if rest and (rounding == "up" or (rounding == "stochastic" and draw < rest)):
        whole += 1
    if cost_msat > 0 and not allow_zero:
        whole = max(whole, 1)
    return whole * unit.msat
