"""The order in which tokens set out for their mints, before a wallet that ends swaps when it is told to."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest

from otrta_core import OtrtaError
from otrta_litellm.change_float import ChangeFloat
from otrta_litellm.swap_queue import SwapQueue
from otrta_wallet import Operation, OutcomeUnknown, TokenSpent
from otrta_wallet.records import new_operation

pytestmark = pytest.mark.anyio


class Slow:
    """A wallet whose swaps end one by one, when ``go`` is called."""

    def __init__(self) -> None:
        self.swaps: list[list[str]] = []
        self.wanted: list[Mapping[int, int]] = []
        self.broken: Exception | None = None
        self._gates: list[anyio.Event] = []

    async def carry_out_together(
        self, queued: Sequence[Operation], *, wanted: Callable[[], Mapping[int, int]]
    ) -> list[Operation | OtrtaError]:
        self.swaps.append([operation.id for operation in queued])
        self.wanted.append(wanted())
        self._gates.append(anyio.Event())
        await self._gates[-1].wait()
        if self.broken is not None:
            raise self.broken
        return [TokenSpent("spent") if op.amount == 13 else replace(op, state="done") for op in queued]

    async def go(self) -> None:
        """End the swap that is under way, and see what sets out after it."""
        self._gates[-1].set()
        await anyio.wait_all_tasks_blocked()


@pytest.fixture
def slow() -> Slow:
    return Slow()


@asynccontextmanager
async def working(slow: Slow) -> AsyncIterator[SwapQueue]:
    wallet: Any = slow
    queue = SwapQueue(wallet, ChangeFloat())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.run)
        await anyio.wait_all_tasks_blocked()
        yield queue
        tasks.cancel_scope.cancel()


def token(amount: int = 1, mint: str = "https://a.example", unit: str = "msat") -> Operation:
    return new_operation("receive", mint, unit, amount, 0, 1.0)


async def test_the_first_sets_out_at_once_and_alone(slow: Slow) -> None:
    async with working(slow) as queue:
        ticket = queue.put(token())
        await anyio.wait_all_tasks_blocked()
        assert slow.swaps == [[ticket.operation.id]]
        await slow.go()
        assert (await ticket.wait()).state == "done"
        assert queue.in_hand == set()


async def test_what_arrives_while_a_swap_is_under_way_goes_together_in_order(slow: Slow) -> None:
    async with working(slow) as queue:
        first = queue.put(token())
        await anyio.wait_all_tasks_blocked()
        later = [queue.put(token()) for _ in range(11)]
        await anyio.wait_all_tasks_blocked()
        ids = [ticket.operation.id for ticket in later]
        assert slow.swaps == [[first.operation.id]]
        await slow.go()
        assert slow.swaps[1:] == [ids[:8]]
        assert queue.in_hand == set(ids)
        await slow.go()
        assert slow.swaps[2:] == [ids[8:]]


async def test_swaps_make_what_the_calls_count_on_whose_tokens_have_set_out(slow: Slow) -> None:
    wallet: Any = slow
    change_float = ChangeFloat()
    queue = SwapQueue(wallet, change_float)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.run)
        for name, amount in (("first", 1), ("second", 2), ("gone", 64), ("third", 4)):
            operation = replace(token(amount), reference=name)
            change_float.count_on(name, operation.mint, operation.unit, amount)
            queue.put(operation)
            await anyio.wait_all_tasks_blocked()
        change_float.let_go("gone")
        await slow.go()
        await slow.go()
        assert slow.wanted == [{1: 1}, {1: 1 + 2 + 2, 2: 1}]
        change_float.let_go("first")
        change_float.let_go("third")
        assert change_float.wanted("https://a.example", "msat") == {1: 2}
        tasks.cancel_scope.cancel()


async def test_mints_and_units_wait_for_each_other_not_at_all(slow: Slow) -> None:
    async with working(slow) as queue:
        for operation in (token(), token(unit="sat"), token(mint="https://b.example")):
            queue.put(operation)
        await anyio.wait_all_tasks_blocked()
        assert len(slow.swaps) == 3


async def test_each_caller_hears_of_its_own_token(slow: Slow) -> None:
    async with working(slow) as queue:
        queue.put(token())
        await anyio.wait_all_tasks_blocked()
        good, bad = queue.put(token(5)), queue.put(token(13))
        await slow.go()
        await slow.go()
        assert (await good.wait()).amount == 5
        with pytest.raises(TokenSpent):
            await bad.wait()


async def test_a_caller_who_goes_does_not_stop_its_swap(slow: Slow) -> None:
    async with working(slow) as queue:
        ticket = queue.put(token())
        with anyio.move_on_after(0):
            await ticket.wait()
        await anyio.wait_all_tasks_blocked()
        await slow.go()
        assert (await ticket.wait()).state == "done"


async def test_a_swap_that_breaks_is_left_to_recovery_and_the_next_sets_out(slow: Slow) -> None:
    async with working(slow) as queue:
        broken = queue.put(token())
        await anyio.wait_all_tasks_blocked()
        slow.broken = RuntimeError("the database is gone")
        following = queue.put(token())
        await slow.go()
        with pytest.raises(OutcomeUnknown):
            await broken.wait()
        slow.broken = None
        await slow.go()
        assert (await following.wait()).state == "done"


async def test_when_it_ends_nobody_waits_for_ever(slow: Slow) -> None:
    async with working(slow) as queue:
        under_way = queue.put(token())
        await anyio.wait_all_tasks_blocked()
        waiting = queue.put(token())
    for ticket in (under_way, waiting):
        with pytest.raises(OutcomeUnknown):
            await ticket.wait()


async def test_what_was_put_before_it_worked_is_carried_out(slow: Slow) -> None:
    wallet: Any = slow
    queue = SwapQueue(wallet, ChangeFloat())
    ticket = queue.put(token())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.run)
        await anyio.wait_all_tasks_blocked()
        await slow.go()
        assert (await ticket.wait()).state == "done"
        tasks.cancel_scope.cancel()
