"""The queue before the mints: tokens that wait for a swap of theirs share the next one.

The first token of a mint and unit sets out at once, alone. Those that arrive while it is under way wait for
its end and go together. Nothing is ever delayed to fill a swap.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

import anyio
import structlog
from anyio.abc import TaskGroup

from otrta_core import OtrtaError
from otrta_litellm.change_float import ChangeFloat
from otrta_wallet import Operation, OutcomeUnknown, Wallet
from otrta_wallet.batches import MAX_TOKENS

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Ticket:
    """A queued operation, and how it ended."""

    operation: Operation
    ended: anyio.Event = field(default_factory=anyio.Event)
    result: Operation | OtrtaError | None = None

    async def wait(self) -> Operation:
        """Return the finished operation; cancelled, it goes on all the same.

        Raises:
            the errors of ``Executor.carry_out``.
        """
        await self.ended.wait()
        if isinstance(self.result, Operation):
            return self.result
        raise self.result or _left_behind(self.operation)

    def end(self, result: Operation | OtrtaError) -> None:
        """Tell whoever waits."""
        self.result = result
        self.ended.set()


class SwapQueue:
    """Carries out operations that are journalled as waiting. Work it with ``run``."""

    def __init__(self, wallet: Wallet, change_float: ChangeFloat) -> None:
        """Make an empty queue.

        Args:
            wallet: whose operations they are.
            change_float: says what swaps are to make; their references are payments' ids.
        """
        self._wallet = wallet
        self._float = change_float
        self._tasks: TaskGroup | None = None
        self._waiting: dict[tuple[str, str], list[Ticket]] = defaultdict(list)
        self._busy: dict[tuple[str, str], list[Ticket]] = {}

    @property
    def in_hand(self) -> set[str]:
        """The ids of the operations that are queued or under way here."""
        queued = [*self._waiting.values(), *self._busy.values()]
        return {ticket.operation.id for tickets in queued for ticket in tickets}

    async def run(self) -> None:
        """Work until cancelled; what is under way then is journalled, and its callers are told so."""
        try:
            async with anyio.create_task_group() as self._tasks:
                for place in list(self._waiting):
                    self._set_out(place)
                await anyio.sleep_forever()
        finally:
            self._tasks = None
            for tickets in self._waiting.values():
                _leave_behind(tickets)
            self._waiting.clear()

    def put(self, operation: Operation) -> Ticket:
        """Take an operation that is journalled as waiting; whoever put it need not stay."""
        ticket = Ticket(operation)
        place = operation.mint, operation.unit
        self._waiting[place].append(ticket)
        self._set_out(place)
        return ticket

    def _set_out(self, place: tuple[str, str]) -> None:
        if self._tasks is not None and place not in self._busy and self._waiting[place]:
            self._busy[place] = []
            self._tasks.start_soon(self._work_off, place)

    async def _work_off(self, place: tuple[str, str]) -> None:
        """Swap until nothing waits at a mint."""
        try:
            while waiting := self._waiting.pop(place, None):
                now, later = waiting[:MAX_TOKENS], waiting[MAX_TOKENS:]
                if later:
                    self._waiting[place] = later
                self._busy[place] = now
                await self._swap(now)
        finally:
            self._busy.pop(place)

    async def _swap(self, tickets: list[Ticket]) -> None:
        try:
            operations = [ticket.operation for ticket in tickets]
            self._float.set_out(operation.reference for operation in operations)
            wanted = partial(self._float.wanted, operations[0].mint, operations[0].unit)
            ended = await self._wallet.carry_out_together(operations, wanted=wanted)
            self._float.arrive(each.reference for each in ended if isinstance(each, Operation))
            for ticket, result in zip(tickets, ended, strict=True):
                ticket.end(result)
        except Exception as error:
            _log.error("swap_failed", error=type(error).__name__)
        finally:
            _leave_behind(tickets)


def _leave_behind(tickets: Iterable[Ticket]) -> None:
    """Send away whoever still waits: recovery ends what is journalled."""
    for ticket in tickets:
        if not ticket.ended.is_set():
            ticket.end(_left_behind(ticket.operation))


def _left_behind(operation: Operation) -> OutcomeUnknown:
    return OutcomeUnknown("the swap was not ended: it is journalled, and recovery ends it", operation.id)
