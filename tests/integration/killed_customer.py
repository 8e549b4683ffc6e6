"""A client in a process of its own that kills itself right before its n-th commit of a call."""

import os
import signal
from pathlib import Path
from typing import Any

import trio
from sqlalchemy.engine.default import DefaultDialect

from tests.integration.customer import customer


def call_and_die(home: str, mint: str, number: int) -> None:
    """Make one call from the wallet in `home`, and die before commit `number` if it comes to that."""
    commit = DefaultDialect.do_commit
    left: list[int] = []

    def killing_commit(dialect: Any, connection: Any) -> None:
        if left:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        commit(dialect, connection)

    DefaultDialect.do_commit = killing_commit  # type: ignore[method-assign]

    async def call() -> None:
        async with customer(Path(home), mint=mint, funds=0) as app:
            left.append(number)
            await app.ask()
            await app.settled()

    trio.run(call)
