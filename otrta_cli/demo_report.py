"""What the demo's two calls did to the wallet's and the gateway's money, and whether it adds up."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_COLUMN = 12


@dataclass(frozen=True, slots=True)
class PaidCall:
    """What one call cost, in msat."""

    stream: bool
    paid_msat: int
    cost_msat: int
    fee_msat: int
    change_msat: int

    @property
    def name(self) -> str:
        """How the report calls it."""
        return "streamed" if self.stream else "plain"


@dataclass(frozen=True, slots=True)
class Check:
    """One equation of the balance sheet.

    Attributes:
        claim: The equation in words.
        left_msat: Its left side.
        right_msat: The terms of its right side.
    """

    claim: str
    left_msat: int
    right_msat: tuple[int, ...]

    @property
    def difference_msat(self) -> int:
        """By how much the left side is more than the right one."""
        return self.left_msat - sum(self.right_msat)

    @property
    def line(self) -> str:
        """The equation with its numbers, marked where it does not hold."""
        right = " + ".join(map(str, self.right_msat))
        if self.difference_msat == 0:
            return f"  ok     {self.claim}: {self.left_msat} = {right}"
        return f"  WRONG  {self.claim}: {self.left_msat} is {right} {self.difference_msat:+d} msat"


@dataclass(frozen=True, slots=True)
class BalanceSheet:
    """The money of all sides, in msat.

    Attributes:
        calls: The calls, in the order in which they were made.
        wallet_before_msat: All that the wallet owned before them.
        wallet_after_msat: All that it owns after them, nothing being pending.
        earned_msat: What the gateway's ledger charged for them.
        held_msat: By how much they increased what the gateway's proofs are worth, less change it owes.
    """

    calls: tuple[PaidCall, ...]
    wallet_before_msat: int
    wallet_after_msat: int
    earned_msat: int
    held_msat: int

    @property
    def cost_msat(self) -> int:
        """What all calls cost."""
        return sum(call.cost_msat for call in self.calls)

    @property
    def fee_msat(self) -> int:
        """What the mint took of all payments."""
        return sum(call.fee_msat for call in self.calls)

    @property
    def checks(self) -> tuple[Check, ...]:
        """All that must be equal."""
        return (
            *(
                Check(
                    f"{call.name} call: paid = cost + fee + change",
                    call.paid_msat,
                    (call.cost_msat, call.fee_msat, call.change_msat),
                )
                for call in self.calls
            ),
            Check(
                "wallet before = after + cost + fee",
                self.wallet_before_msat,
                (self.wallet_after_msat, self.cost_msat, self.fee_msat),
            ),
            Check(
                "gateway's ledger = cost of the calls",
                self.earned_msat,
                tuple(call.cost_msat for call in self.calls),
            ),
            Check(
                "gateway's e-cash = cost of the calls",
                self.held_msat,
                tuple(call.cost_msat for call in self.calls),
            ),
        )

    @property
    def wrong(self) -> tuple[Check, ...]:
        """The checks that do not hold."""
        return tuple(check for check in self.checks if check.difference_msat != 0)

    @property
    def text(self) -> str:
        """The sheet for a person."""
        rows = [_row("msat", *(call.name for call in self.calls), "sum")]
        for field in ("paid", "cost", "fee", "change"):
            amounts = [int(getattr(call, f"{field}_msat")) for call in self.calls]
            rows.append(_row(field, *amounts, sum(amounts)))
        blank = [""] * len(self.calls)
        rows += [
            "",
            _row("wallet before", *blank, self.wallet_before_msat),
            _row("wallet after", *blank, self.wallet_after_msat),
            _row("gateway earned", *blank, self.earned_msat),
            "",
        ]
        return "\n".join([*rows, *(check.line for check in self.checks)])

    def as_json(self, urls: Mapping[str, str], home: str) -> dict[str, Any]:
        """The sheet for a program."""
        return {
            "ok": not self.wrong,
            "calls": [
                {
                    "paid_msat": call.paid_msat,
                    "cost_msat": call.cost_msat,
                    "fee_msat": call.fee_msat,
                    "change_msat": call.change_msat,
                    "stream": call.stream,
                }
                for call in self.calls
            ],
            "wallet_msat_before": self.wallet_before_msat,
            "wallet_msat_after": self.wallet_after_msat,
            "gateway_msat": self.earned_msat,
            "urls": dict(urls),
            "home": home,
        }


def _row(title: str, *cells: object) -> str:
    return f"  {title:<16}" + "".join(f"{cell!s:>{_COLUMN}}" for cell in cells)
