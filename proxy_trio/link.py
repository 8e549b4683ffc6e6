"""The way from an exchange to the app: what passes on it, and what the exchange learns of the app."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from otrta_core.errors import OtrtaError
from proxy_trio.headers import Header

# Pieces, of at most 64 KiB each, that may wait for a slow app; then the gateway's stream waits.
QUEUE_PIECES: Final = 16


@dataclass(frozen=True, slots=True)
class ReplyHead:
    """Status and headers for the app."""

    status: int
    headers: tuple[Header, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """The call failed: answered in the app's error shape, or by cutting an answer that has begun."""

    error: OtrtaError


@dataclass(frozen=True, slots=True)
class End:
    """The answer is whole. A link that closes without it was cut."""


Item = ReplyHead | bytes | Failure | End


class AppLink:
    """The exchange's end. An app that went away, or takes nothing for ``stall_s``, is gone for good."""

    def __init__(self, channel: trio.MemorySendChannel[Item], stall_s: float) -> None:
        self._channel = channel
        self._stall_s = stall_s
        self._stalled = False

    @property
    def gone(self) -> bool:
        """Whether nothing can reach the app any more."""
        return self._stalled or self._channel.statistics().open_receive_channels == 0

    async def put(self, item: Item) -> None:
        """Pass an item on; does nothing once the app is gone.

        If cancelled, nothing was passed on.
        """
        if self.gone:
            return
        with trio.move_on_after(self._stall_s) as scope:
            try:
                await self._channel.send(item)
            except trio.BrokenResourceError:
                return
        self._stalled = scope.cancelled_caught

    def close(self) -> None:
        """Say that nothing more comes."""
        self._channel.close()


class Delivery:
    """One answer on its way to the app.

    The head goes with the first byte or the end, so that a gateway which fails before its first byte
    still gets the app a proper error; a refusal is held until it is known whether a retry follows.
    """

    def __init__(self, link: AppLink, head: ReplyHead, *, hold_bytes: int, length: int | None) -> None:
        """Prepare an answer.

        Args:
            link: The way to the app.
            head: What the answer begins with.
            hold_bytes: Up to this size nothing goes on before ``finish``; 0 to hold nothing.
            length: The body's length, if known: its last bytes wait for ``finish``, because with them
                the app has its whole answer.
        """
        self.begun = False
        self._link = link
        self._head = head
        self._hold_bytes = hold_bytes
        self._held: list[bytes] = []
        self._left = length

    async def pass_on(self, data: bytes) -> None:
        """Pass on the next bytes of the body, or hold them."""
        if not data:
            return
        if self._left is not None:
            self._left -= len(data)
        self._held.append(data)
        if self._left == 0 or sum(map(len, self._held)) <= self._hold_bytes:
            return
        self._hold_bytes = 0
        await self._release()

    async def finish(self) -> None:
        """Pass on what is held, and the end."""
        await self._begin()
        await self._release()
        await self._link.put(End())

    async def _begin(self) -> None:
        if not self.begun:
            self.begun = True
            await self._link.put(self._head)

    async def _release(self) -> None:
        await self._begin()
        held: Sequence[bytes] = self._held
        self._held = []
        for data in held:
            await self._link.put(data)
