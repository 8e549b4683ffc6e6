"""Swapping kept change in the background, so that the gateway that gave it can no longer spend it.

When each swap happens must not tell which call it belongs to: each token of change is swapped by itself,
after a random delay. Swapped together, for less work and fees, they would tell a mint and whoever gave them
that their calls are of one payer; that is for the user to choose.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import structlog
import trio

from otrta_core import OtrtaError
from otrta_wallet import MintRefused, Operation, Wallet
from proxy_trio.bookkeeper import Bookkeeper

SHORTEST_DELAY_S: Final = 0.5
FIRST_PAUSE_S: Final = 30.0
LONGEST_PAUSE_S: Final = 3600.0
PATIENCE: Final = 6
"""After how many refusals in a row kept change counts as false, whatever reason the mint gives."""

_LOOK_EVERY_S = 1.0
_FALSE_PROOFS: Final = frozenset({10001, 10003})
"""The codes for proofs that the mint has not signed (NUT error codes; older Nutshell)."""

_log = structlog.get_logger(__name__)


class Swapper:
    """Swaps kept change. A refused swap costs counters of the seed, so tries thin out."""

    def __init__(
        self, wallet: Wallet, bookkeeper: Bookkeeper, longest_delay_s: float, *, merge: bool = False
    ) -> None:
        """Make a swapper.

        Args:
            wallet: with the change.
            bookkeeper: told of change that is false.
            longest_delay_s: how long change waits at most, once its mint answers.
            merge: whether the change of several calls shares a swap.
        """
        self._merge = merge
        self._wallet = wallet
        self._books = bookkeeper
        self._longest_delay_s = max(longest_delay_s, SHORTEST_DELAY_S)
        self._refusals: dict[str, int] = {}
        self._turns: dict[str, trio.Lock] = defaultdict(trio.Lock)

    async def run(self) -> None:
        """Swap whatever is kept, each after a delay of its own, until cancelled."""
        if self._merge:
            await self._run_merged()
        waiting: set[str] = set()
        async with trio.open_nursery() as nursery:
            while True:
                for operation in await self._kept():
                    if operation.id not in waiting:
                        waiting.add(operation.id)
                        nursery.start_soon(self._swap_until_done, operation, waiting)
                await trio.sleep(_LOOK_EVERY_S)

    async def swap_now(self, mint: str | None = None, unit: str | None = None) -> bool:
        """Swap what waits at a mint and in a unit, or everywhere; tells whether anything was swapped."""
        kept = await self._wallet.kept()
        wanted = [each for each in kept if mint in (None, each.mint) and unit in (None, each.unit)]
        swapped = False
        if self._merge and len(wanted) > 1:
            swapped = await self._swap_together(wanted)
            ids = {each.id for each in wanted}
            wanted = [each for each in await self._wallet.kept() if each.id in ids]
        for operation in wanted:
            swapped |= await self.swap(operation)
        return swapped

    async def swap(self, operation: Operation) -> bool:
        """Swap one kept token; tells whether it is swapped now.

        Never raises for what the mint does. Change that the mint says is false is given up and disputed.
        """
        try:
            # a mint that is away is found out before any counter is used
            await self._wallet.mints.refresh_if_old(operation.mint)
            await self._wallet.redeem(operation.id)
        except MintRefused as error:
            refusals = self._refusals[operation.id] = self._refusals.get(operation.id, 0) + 1
            is_false = error.mint_code in _FALSE_PROOFS or refusals >= PATIENCE
            if is_false and operation.reference is not None:
                self._refusals.pop(operation.id, None)
                await self._books.void_change(
                    operation, f"the mint says that the change is false: {error.message}"
                )
            return False
        except OtrtaError as error:
            _log.info("change_not_swapped", operation=operation.id, reason=error.code)
            return False
        self._refusals.pop(operation.id, None)
        return True

    async def _swap_together(self, operations: Sequence[Operation]) -> bool:
        """Swap kept tokens in as few swaps as can be; those that this fails for stay kept."""
        queued = []
        for operation in operations:
            try:
                await self._wallet.mints.refresh_if_old(operation.mint)
                waiting = await self._wallet.queue_again(operation.id)
            except OtrtaError as error:
                _log.info("change_not_swapped", operation=operation.id, reason=error.code)
                continue
            if waiting is not None:
                queued.append(waiting)
        ended = await self._wallet.carry_out_together(queued)
        return any(isinstance(each, Operation) for each in ended)

    async def _run_merged(self) -> None:
        while True:
            await trio.sleep(self._delay_s())
            try:
                await self.swap_now()
            except Exception as error:  # the background must outlive it
                _log.error("swap_failed", error=type(error).__name__)

    def _delay_s(self) -> float:
        return random.SystemRandom().uniform(SHORTEST_DELAY_S, self._longest_delay_s)

    async def _kept(self) -> list[Operation]:
        try:
            return await self._wallet.kept()
        except Exception as error:  # the background must outlive a database that is busy
            _log.error("kept_change_not_read", error=type(error).__name__)
            return []

    async def _swap_until_done(self, operation: Operation, waiting: set[str]) -> None:
        tries = 0
        delay_s = self._delay_s()
        while True:
            await trio.sleep(delay_s)
            try:
                async with self._turns[operation.mint]:  # side by side they would slow down the calls
                    swapped = await self.swap(operation)
                if swapped:
                    break
                if all(kept.id != operation.id for kept in await self._wallet.kept()):
                    break
            except Exception as error:
                _log.error("swap_failed", operation=operation.id, error=type(error).__name__)
            delay_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(tries, 10))
            tries += 1
        waiting.discard(operation.id)
