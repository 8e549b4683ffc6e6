"""A client in a process of its own that kills itself right before its n-th commit of a move between mints."""

import os
import signal
from pathlib import Path
from typing import Any

import trio
from sqlalchemy.engine.default import DefaultDialect

from otrta_core import Unit
from proxy_trio.move_plan import MovePlan
from tests.integration.customer import customer


def move_and_die(home: str, source: str, target: str, amount_msat: int, number: int) -> None:
    """Move an amount from the wallet in `home`, and die before commit `number` if it comes to that."""
    commit = DefaultDialect.do_commit
    left: list[int] = []

    def killing_commit(dialect: Any, connection: Any) -> None:
        if left:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        commit(dialect, connection)

    DefaultDialect.do_commit = killing_commit  # type: ignore[method-assign]

    async def move() -> None:
        async with customer(Path(home), mint=source, funds=0) as app:
            left.append(number)
            await app.client.mover.move(MovePlan((source, Unit.MSAT), (target, Unit.MSAT), amount_msat))

    trio.run(move)
