"""What shares a commit is told apart all the same."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint
from sqlalchemy import Connection, Engine, event, text

from otrta_wallet.database import open_engine
from otrta_wallet.errors import StoreUnavailable
from otrta_wallet.group_commit import MOST, GroupCommit

pytestmark = pytest.mark.anyio


class Bench:
    """A table of numbers, with its commits counted, and a work that holds the first commit up."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.commits = engine, 0
        self.group = GroupCommit(engine)
        self.may_go = threading.Event()
        with engine.begin() as conn:
            conn.execute(text("CREATE TABLE numbers (n INTEGER PRIMARY KEY)"))
        event.listen(engine, "commit", self._count)

    def _count(self, _conn: Connection) -> None:
        self.commits += 1

    def write(self, number: int) -> Callable[[Connection], int]:
        def work(conn: Connection) -> int:
            conn.execute(text("INSERT INTO numbers VALUES (:n)"), {"n": number})
            return number

        return work

    def hold(self, conn: Connection) -> None:
        assert self.may_go.wait(20)

    def numbers(self) -> list[int]:
        """What a reader sees that waits for nobody."""
        with closing(sqlite3.connect(self.engine.url.database or "")) as conn:
            return [number for (number,) in conn.execute("SELECT n FROM numbers ORDER BY n")]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    engine = open_engine(f"sqlite:///{tmp_path / 'numbers.sqlite3'}")
    bench = Bench(engine)
    yield bench
    bench.may_go.set()
    engine.dispose()


async def queued() -> None:
    for _ in range(5):
        await checkpoint()


async def test_those_that_queue_share_a_commit(bench: Bench) -> None:
    returned: list[int] = []

    async def write(number: int) -> None:
        returned.append(await bench.group.run(bench.write(number)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.group.run, bench.hold)
        await queued()
        for number in range(2 * MOST):
            tasks.start_soon(write, number)
        await queued()
        assert bench.numbers() == []
        bench.may_go.set()
    assert sorted(returned) == list(range(2 * MOST)) == bench.numbers()
    assert bench.commits == 3


async def test_one_that_fails_is_undone_alone(bench: Bench) -> None:
    errors: list[str] = []

    def fails(conn: Connection) -> None:
        bench.write(2)(conn)
        raise KeyError("mine")

    async def hear() -> None:
        with pytest.raises(KeyError, match="mine"):
            await bench.group.run(fails)
        errors.append("heard")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.group.run, bench.hold)
        await queued()
        tasks.start_soon(bench.group.run, bench.write(1))
        tasks.start_soon(hear)
        tasks.start_soon(bench.group.run, bench.write(3))
        await queued()
        bench.may_go.set()
    assert errors == ["heard"]
    assert bench.numbers() == [1, 3]
    assert bench.commits == 2


async def test_a_transaction_that_is_lost_is_done_again_one_by_one(bench: Bench) -> None:
    def undoes_all(conn: Connection) -> None:  # what SQLite does by itself where the disk is full
        conn.exec_driver_sql("ROLLBACK")
        raise StoreUnavailable("full")

    async def hear() -> None:
        with pytest.raises(StoreUnavailable, match="full"):
            await bench.group.run(undoes_all)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.group.run, bench.hold)
        await queued()
        tasks.start_soon(bench.group.run, bench.write(1))
        tasks.start_soon(hear)
        tasks.start_soon(bench.group.run, bench.write(3))
        await queued()
        bench.may_go.set()
    assert bench.numbers() == [1, 3]


async def test_who_is_cancelled_while_queued_leaves_nothing(bench: Bench) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.group.run, bench.hold)
        await queued()
        async with anyio.create_task_group() as leaving:
            for number in range(3):
                leaving.start_soon(bench.group.run, bench.write(number))
            await queued()
            leaving.cancel_scope.cancel()
        tasks.start_soon(bench.group.run, bench.write(7))
        await queued()
        bench.may_go.set()
    assert bench.numbers() == [7]


async def test_who_is_cancelled_as_the_next_leader_hands_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaving = anyio.CancelScope()
    hand_over = bench.group._hand_over

    def hand_over_and_cancel() -> None:
        hand_over()
        leaving.cancel()

    monkeypatch.setattr(bench.group, "_hand_over", hand_over_and_cancel)

    async def write_and_leave() -> None:
        with leaving:
            await bench.group.run(bench.write(1))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.group.run, bench.hold)
        await queued()
        tasks.start_soon(write_and_leave)
        await queued()
        tasks.start_soon(bench.group.run, bench.write(2))
        await queued()
        bench.may_go.set()
    assert leaving.cancel_called
    assert 2 in bench.numbers()
    assert await bench.group.run(bench.write(9)) == 9


async def test_who_is_cancelled_during_its_commit_waits_for_it(bench: Bench) -> None:
    def slow(conn: Connection) -> None:
        bench.write(4)(conn)
        bench.hold(conn)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.group.run, slow)
        await queued()
        tasks.cancel_scope.cancel()
        bench.may_go.set()
    assert bench.numbers() == [4]
