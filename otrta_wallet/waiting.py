"""Waiting for what other workers on the same database are doing: looked at again and again, not for ever."""

from collections.abc import Awaitable, Callable

import anyio

WAITS_FOR_OTHERS_S = 15.0
"""How long a call waits for what another living worker has in hand."""

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.5


def backing_off(seconds: float) -> Callable[[], Awaitable[bool]]:
    """Return a function that pauses, longer each time, and tells whether there was time left to.

    Args:
        seconds: from now on, in all.
    """
    until = anyio.current_time() + seconds
    pause_s = _FIRST_PAUSE_S

    async def pause() -> bool:
        nonlocal pause_s
        left_s = until - anyio.current_time()
        if left_s <= 0:
            return False
        await anyio.sleep(min(pause_s, left_s))
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return True

    return pause
