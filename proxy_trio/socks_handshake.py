"""How a SOCKS5 proxy is asked for a connection (RFC 1928, RFC 1929)."""

from typing import Final

import httpcore
from socksio import ProtocolError, SOCKSError, socks5

__all__ = ["SOCKSError", "open_way"]

_ADDRESS_BYTES: Final = {b"\x01": 4, b"\x04": 16}


async def open_way(
    stream: httpcore.AsyncNetworkStream, host: str, port: int, credentials: tuple[bytes, bytes]
) -> None:
    """Have a proxy connect to a host, by name.

    Raises:
        SOCKSError: it did not.
        httpcore.ReadError, httpcore.WriteError: the connection to it broke.
    """
    connection = socks5.SOCKS5Connection()
    # Tor takes the user name where it is offered; a proxy that knows no users takes none
    methods = [socks5.SOCKS5AuthMethod.USERNAME_PASSWORD, socks5.SOCKS5AuthMethod.NO_AUTH_REQUIRED]
    connection.send(socks5.SOCKS5AuthMethodsRequest(methods))
    await stream.write(connection.data_to_send())
    chosen = connection.receive_data(await _exactly(stream, 2))
    if not isinstance(chosen, socks5.SOCKS5AuthReply) or chosen.method not in methods:
        raise ProtocolError("the proxy wants to be asked in another way")
    if chosen.method is socks5.SOCKS5AuthMethod.USERNAME_PASSWORD:
        connection.send(socks5.SOCKS5UsernamePasswordRequest(*credentials))
        await stream.write(connection.data_to_send())
        known = connection.receive_data(await _exactly(stream, 2))
        if not isinstance(known, socks5.SOCKS5UsernamePasswordReply) or not known.success:
            raise ProtocolError("the proxy refuses the user name")
    connection.send(
        socks5.SOCKS5CommandRequest.from_address(socks5.SOCKS5Command.CONNECT, (host.encode("ascii"), port))
    )
    await stream.write(connection.data_to_send())
    reply = connection.receive_data(await _whole_reply(stream))
    if not isinstance(reply, socks5.SOCKS5Reply) or reply.reply_code != socks5.SOCKS5ReplyCode.SUCCEEDED:
        raise ProtocolError("the proxy did not connect")


async def _whole_reply(stream: httpcore.AsyncNetworkStream) -> bytes:
    head = await _exactly(stream, 4)
    kind = head[3:4]
    if kind == b"\x03":
        length = await _exactly(stream, 1)
        return head + length + await _exactly(stream, length[0] + 2)
    return head + await _exactly(stream, _ADDRESS_BYTES.get(kind, 4) + 2)


async def _exactly(stream: httpcore.AsyncNetworkStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await stream.read(size - len(data))
        if not more:
            raise ProtocolError("the proxy hung up")
        data += more
    return data
