"""Units of e-cash and the one place that reads and writes amounts of money.

Inside, money is an ``int`` of millisatoshi (msat). A token counts in its own unit; only the edge converts.
"""

import re
from enum import StrEnum

from otrta_core.errors import AmountError

MAX_AMOUNT = 2**63 - 1
"""The largest amount, in any unit, that this project handles: what a signed 64-bit column holds."""

_AMOUNT = re.compile(r"(?P<number>[0-9]{1,19})\s?(?P<unit>sats?|msats?)?", re.ASCII)


class Unit(StrEnum):
    """A unit of e-cash that can be counted in msat (NUT-01)."""

    MSAT = "msat"
    SAT = "sat"

    @property
    def msat(self) -> int:
        """How many msat one unit is."""
        return 1 if self is Unit.MSAT else 1000

    @classmethod
    def parse(cls, word: str) -> "Unit":
        """Return the unit that ``word`` names.

        Raises:
            AmountError: the word is not a unit that this version prices in msat.
        """
        try:
            return cls(word)
        except ValueError:
            raise AmountError("the unit must be msat or sat") from None

    def to_msat(self, amount: int) -> int:
        """Convert ``amount`` of this unit to msat, exactly."""
        return amount * self.msat

    def at_least(self, amount_msat: int) -> int:
        """Return the smallest amount of this unit that is worth ``amount_msat`` or more."""
        return -(-amount_msat // self.msat)

    def at_most(self, amount_msat: int) -> int:
        """Return the largest amount of this unit that is worth ``amount_msat`` or less."""
        return amount_msat // self.msat


def parse_amount_msat(text: str) -> int:
    """Read an amount as a person types it and return it in msat.

    A whole number of sat, or a number with its unit: ``10``, ``10sat``, ``2500msat``.

    Raises:
        AmountError: not such a number, zero, or too large.
    """
    match = _AMOUNT.fullmatch(text.strip().lower())
    if match is None:
        raise AmountError("an amount is a whole number of sat, or a number with its unit: 10sat, 2500msat")
    unit = Unit.MSAT if (match["unit"] or "sat").startswith("m") else Unit.SAT
    amount_msat = unit.to_msat(int(match["number"]))
    if not 0 < amount_msat <= MAX_AMOUNT:
        raise AmountError("the amount must be more than zero and fit 63 bits of msat")
    return amount_msat


def format_msat(amount_msat: int) -> str:
    """Write msat for people, exactly: ``123 msat`` below one sat, ``12.345 sat`` above."""
    sign = "-" if amount_msat < 0 else ""
    whole, rest = divmod(abs(amount_msat), 1000)
    if whole == 0:
        return f"{sign}{rest} msat"
    fraction = f".{rest:03d}" if rest else ""
    return f"{sign}{whole:,}{fraction} sat"


def format_sat(amount_msat: int) -> str:
    """Write msat as sat for a column of them, exactly: always three decimals, ``0.123``, ``12.345``."""
    sign = "-" if amount_msat < 0 else ""
    whole, rest = divmod(abs(amount_msat), 1000)
    return f"{sign}{whole:,}.{rest:03d}"
