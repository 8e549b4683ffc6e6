"""A SOCKS5 proxy on a real socket that notes what it was asked for and knows names of its own (RFC 1928)."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

NAME, IPV4 = 3, 1
USER_NAME, NO_USER = 2, 0


@dataclass(frozen=True)
class Asked:
    """One connection that was asked for."""

    kind: int
    host: str
    port: int
    user: str


@dataclass
class SocksServer:
    """Connects names of a list to ports of this machine.

    Attributes:
        ports: by host.
        asked: what was asked for, in order.
        silent: whether it says nothing at all.
        users: whether it wants user names.
    """

    ports: dict[str, int]
    asked: list[Asked] = field(default_factory=list)
    silent: bool = False
    users: bool = True
    url: str = ""

    def names_of(self, host: str) -> list[str]:
        """The user names under which a host was asked for."""
        return [asked.user for asked in self.asked if asked.host == host]

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection."""
        async with stream:
            if self.silent:
                await trio.sleep_forever()
            user = await self._greet(stream)
            _, _, _, kind = await _read(stream, 4)
            size = (await _read(stream, 1))[0] if kind == NAME else 4
            raw = await _read(stream, size)
            host = raw.decode() if kind == NAME else ".".join(map(str, raw))
            asked = Asked(kind, host, int.from_bytes(await _read(stream, 2), "big"), user)
            self.asked.append(asked)
            if host not in self.ports:
                await stream.send_all(b"\x05\x04\x00\x01" + bytes(6))
                return
            async with await trio.open_tcp_stream("127.0.0.1", self.ports[host]) as far:
                for piece in (
                    b"\x05",
                    b"\x00\x00\x03",
                    b"\x09localhost",
                    b"\x00\x00",
                ):  # in pieces, as TCP may
                    await stream.send_all(piece)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_pour, stream, far)
                    await _pour(far, stream)
                    nursery.cancel_scope.cancel()

    async def _greet(self, stream: trio.SocketStream) -> str:
        _, offered = await _read(stream, 2)
        methods = await _read(stream, offered)
        if not self.users:
            assert NO_USER in methods
            await stream.send_all(b"\x05\x00")
            return ""
        assert USER_NAME in methods
        await stream.send_all(b"\x05\x02")
        _, length = await _read(stream, 2)
        user = (await _read(stream, length)).decode()
        await _read(stream, (await _read(stream, 1))[0])
        await stream.send_all(b"\x01\x00")
        return user


@asynccontextmanager
async def socks_server(ports: Mapping[str, int]) -> AsyncIterator[SocksServer]:
    """Run a proxy."""
    server = SocksServer(dict(ports))
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server.url = f"socks5h://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        yield server
        nursery.cancel_scope.cancel()


async def _read(stream: trio.SocketStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await stream.receive_some(size - len(data))
        if not more:
            raise trio.BrokenResourceError
        data += more
    return data


async def _pour(source: trio.SocketStream, target: trio.SocketStream) -> None:
    try:
        async for data in source:
            await target.send_all(data)
        await target.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return
