"""The proxy listens where it is told and on loopback, says so when it cannot, and stops in order."""

import socket
from functools import partial

import httpx
import pytest
import trio

from proxy_trio.app import build_app
from proxy_trio.payer import Ending
from proxy_trio.serve import PortTaken, serve

SSE = {"Content-Type": "text/event-stream"}


async def read_into(received, client, port, stop):
    """Read a stream to its end; its first piece stops the proxy."""
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    async with client.stream("POST", url, json={"model": "m"}) as response:
        async for piece in response.aiter_bytes():
            received += piece
            stop.set()


async def _never(_scope, _receive, _send):
    raise AssertionError


@pytest.mark.trio
async def test_a_taken_port_is_told_in_a_sentence():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"Port {port} on 127.0.0.1 cannot be used"):
            await serve(_never, port)


@pytest.mark.trio
async def test_an_address_that_is_not_this_machines_is_told_in_a_sentence():
    with pytest.raises(PortTaken, match=r"on 192\.0\.2\.1 cannot be used"):
        await serve(_never, 0, host="192.0.2.1")


@pytest.mark.trio
@pytest.mark.parametrize(
    ("host", "answers", "silent"),
    [
        ("127.0.0.1", ["127.0.0.1"], ["127.0.0.2"]),
        ("127.0.0.2", ["127.0.0.1", "127.0.0.2"], ["127.0.0.3"]),
        ("0.0.0.0", ["127.0.0.1", "127.0.0.2"], []),
    ],
)
async def test_what_it_is_told_is_listened_on_and_loopback_always(nursery, payer, host, answers, silent):
    stop = trio.Event()
    app = build_app(payer)
    port = await nursery.start(partial(serve, app, 0, host=host, stop=stop))
    for address in answers:
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"http://{address}:{port}/health")).json() == {"status": "ok"}
    for address in silent:
        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream(address, port)
    stop.set()


@pytest.mark.trio
async def test_after_a_stop_the_port_is_free_again(start_proxy):
    stop = trio.Event()
    port = await start_proxy(stop=stop)
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.get(f"http://127.0.0.1:{port}/health")
        stop.set()
        with trio.fail_after(3):
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) != 0:
                        break
                await trio.sleep(0.02)


@pytest.mark.trio
async def test_a_stop_ends_a_running_stream_and_closes_its_books(start_proxy, gateway, payer, script):
    stop = trio.Event()
    gateway.scripts = [script.pieces(SSE, b"data: a\n\n", trio.Event())]
    port = await start_proxy(stop=stop, stop_s=0.1, drain_s=60)
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await read_into(bytearray(), client, port, stop)
    with trio.fail_after(3):
        await payer.ended.wait()
    assert payer.outcomes[0].ending is Ending.STOPPED


@pytest.mark.trio
async def test_a_call_that_ends_within_the_grace_of_a_stop_is_answered_whole(
    start_proxy, gateway, payer, script
):
    stop = trio.Event()
    gateway.scripts = [script.pieces(SSE, b"data: a\n\n", stop, b"data: b\n\n")]
    port = await start_proxy(stop=stop)
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        received = bytearray()
        await read_into(received, client, port, stop)
    assert received == b"data: a\n\ndata: b\n\n"
    assert payer.outcomes[0].ending is Ending.COMPLETE
