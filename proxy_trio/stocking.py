"""Keeping proofs at hand in the denominations that calls take, so that a call need not wait for its mint.

What the last calls have paid with tells what the next ones will. The swap that makes it of larger proofs
comes by itself, a random time after a call, so its time does not tell which one it followed.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import structlog
import trio
from sqlalchemy import Connection

from otrta_core import OtrtaError, Unit, split_amount
from otrta_wallet import Wallet
from proxy_trio import calls
from proxy_trio.calls import PaidCall

LOOK_BACK_S: Final = 600.0
LOOK_BACK_CALLS: Final = 16
MOST_OF_A_KIND: Final = 32

_SHORTEST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 4.0
_AFTER_A_FAILURE_S = 60.0

_log = structlog.get_logger(__name__)

Place = tuple[str, str]
"""A mint and a unit."""


def wanted(recent: Iterable[PaidCall]) -> dict[Place, Mapping[int, int]]:
    """Return how many proofs of each denomination would pay for the same calls once more, by place."""
    found: dict[Place, Counter[int]] = {}
    for call in recent:
        amount = call.paid_msat // Unit.parse(call.unit).msat
        found.setdefault((call.mint, call.unit), Counter()).update(split_amount(amount))
    return {
        place: {piece: min(number, MOST_OF_A_KIND) for piece, number in pieces.items()}
        for place, pieces in found.items()
    }


class Stocker:
    """Breaks large proofs of a wallet into what calls take."""

    def __init__(self, wallet: Wallet) -> None:
        self._wallet = wallet

    async def run(self) -> None:
        """Work until cancelled, a little at a time."""
        while True:
            await trio.sleep(random.SystemRandom().uniform(_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S))
            try:
                await self.restock()
            except OtrtaError as error:  # its mint is away: calls then swap for themselves
                _log.info("not_restocked", reason=error.code)
                await trio.sleep(_AFTER_A_FAILURE_S)
            except Exception as error:
                _log.error("restocking_failed", error=type(error).__name__)
                await trio.sleep(_AFTER_A_FAILURE_S)

    async def restock(self) -> int:
        """Make what is short, and return how many swaps that took.

        Raises:
            MintError, KeysetError: a mint could not be asked; what was begun is journalled.
        """
        recent = await self._wallet.transactions.run(_recent)
        swaps = 0
        for (mint, unit), pieces in wanted(recent).items():
            await self._wallet.mints.refresh_if_old(mint)  # one that is away costs no counters of the seed
            while await self._wallet.restock(mint, unit, pieces) is not None:
                swaps += 1
        return swaps


def _recent(conn: Connection, now: float) -> list[PaidCall]:
    return [call for call in calls.newest(conn, LOOK_BACK_CALLS) if call.created_at > now - LOOK_BACK_S]
