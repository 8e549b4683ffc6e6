"""Calls pass through the proxy over real sockets: bytes, change, faults, and apps that go away."""

import gzip
import json
import logging
import zlib

import httpx
import pytest
import trio
from pytest_trio import trio_fixture

from proxy_trio.errors import BudgetExceeded
from proxy_trio.payer import Attempt, Ending

TOKEN = "cashuBsecretpayment"
CHANGE = "cashuBsecretchange"
CHAT = "/v1/chat/completions"
TRANSCRIBE = "/v1/audio/transcriptions"
BODY = b'{ "model": "m",  "messages": [{"role": "user", "content": "h\xc3\xa9"}] }\n'
JSON = {"Content-Type": "application/json"}
SSE = {"Content-Type": "text/event-stream; charset=utf-8"}
COMMENTS = b": otrta paid=10 cost=1 fee=0 change=9\n: x-cashu " + CHANGE.encode() + b"\n\n"
DONE = b"data: [DONE]\n\n"


@trio_fixture
async def app_client():
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        yield client


def chat(port):
    return f"http://127.0.0.1:{port}{CHAT}"


def code(response):
    return response.json()["error"]["code"]


async def leave_mid_stream(port):
    """Read until the first piece of the answer is there, then hang up."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(request(port))
        received = b""
        while b"data: a" not in received:
            received += await stream.receive_some()


async def read_into(received, client, port):
    async with client.stream("POST", chat(port), content=BODY, headers=JSON) as response:
        async for piece in response.aiter_bytes():
            received += piece


# --- what passes ---


@pytest.mark.trio
async def test_both_bodies_pass_byte_for_byte(start_proxy, gateway, payer, script, app_client):
    reply = b'{ "id": 1,\n "usage": {"prompt_tokens": 1} }  '
    gateway.scripts = [
        script.answer(200, {**JSON, "Content-Length": len(reply), "X-Otrta-Cost-Msat": "110"}, reply)
    ]
    response = await app_client.post(chat(await start_proxy()), content=BODY, headers=JSON)
    assert gateway.seen[0].body == BODY
    assert (response.status_code, response.content) == (200, reply)
    assert response.headers["content-length"] == str(len(reply))
    assert response.headers["x-otrta-cost-msat"] == "110"
    [outcome] = payer.outcomes
    assert (outcome.ending, outcome.status) == (Ending.COMPLETE, 200)
    assert (outcome.answer, outcome.answer_whole) == (reply, True)


@pytest.mark.trio
async def test_the_gateway_sees_the_allow_list_and_the_payment_only(start_proxy, gateway, script, app_client):
    gateway.scripts = [script.answer(200, {**JSON, "Content-Length": 2}, b"{}")]
    await app_client.post(
        chat(await start_proxy()),
        content=b'{"model":"m","user":"me","metadata":{"a":1},"n":1}',
        headers={
            **JSON,
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Authorization": "Bearer sk-secret",
            "User-Agent": "App/1",
            "Cookie": "a=b",
            "X-Cashu": "cashuBown",
            "X-Stainless-Lang": "python",
            "Anthropic-Version": "2023-06-01",
        },
    )
    body = b'{"model":"m","n":1}'
    assert gateway.seen[0].body == body
    assert sorted(gateway.seen[0].headers) == sorted(
        [
            ("host", gateway.url.removeprefix("http://")),
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("accept", "*/*"),
            ("accept-encoding", "identity"),
            ("anthropic-version", "2023-06-01"),
            ("x-cashu", TOKEN),
            ("x-cashu-change", "sse"),
        ]
    )


@pytest.mark.trio
async def test_query_strings_are_kept_as_they_are(start_proxy, gateway, script, app_client):
    gateway.scripts = [script.answer(200, {**JSON, "Content-Length": 2}, b"{}")]
    await app_client.post(chat(await start_proxy()) + "?a=%7e%2F+b&&c", content=BODY, headers=JSON)
    assert gateway.seen[0].target == f"{CHAT}?a=%7e%2F+b&&c"


@pytest.mark.trio
async def test_the_list_of_models_is_free(start_proxy, gateway, payer, script, app_client):
    gateway.scripts = [script.answer(200, {**JSON, "Content-Length": 11}, b'{"data":[]}')]
    port = await start_proxy()
    response = await app_client.get(f"http://127.0.0.1:{port}/v1/models")
    assert response.json() == {"data": []}
    assert not payer.calls[0].payable
    assert sorted(name for name, _ in gateway.seen[0].headers) == ["accept", "accept-encoding", "host"]


@pytest.mark.trio
async def test_a_form_passes_byte_for_byte(start_proxy, gateway, payer, script, app_client):
    gateway.scripts = [script.answer(200, {**JSON, "Content-Length": 2}, b"{}")]
    sent = app_client.build_request(
        "POST",
        f"http://127.0.0.1:{await start_proxy()}{TRANSCRIBE}",
        data={"model": "m"},
        files={"file": ("hi.mp3", b"\x00\r\n" * 500_000, "audio/mpeg")},
    )
    raw = sent.read()
    assert (await app_client.send(sent)).status_code == 200
    [seen] = gateway.seen
    assert seen.body == raw
    assert dict(seen.headers)["content-type"] == sent.headers["content-type"]
    assert payer.calls[0].body.request().seconds == 2000


@pytest.mark.trio
async def test_a_private_part_is_cut_out_of_a_form(start_proxy, gateway, script, app_client):
    gateway.scripts = [script.answer(200, {**JSON, "Content-Length": 2}, b"{}")]
    url = f"http://127.0.0.1:{await start_proxy()}{TRANSCRIBE}"
    fields = {"user": "alice", "model": "m"}
    await app_client.post(url, data=fields, files={"file": ("hi.mp3", b"sound", "audio/mpeg")})
    [seen] = gateway.seen
    assert b"alice" not in seen.body
    assert b"sound" in seen.body
    assert int(dict(seen.headers)["content-length"]) == len(seen.body)


@pytest.mark.trio
async def test_a_model_in_the_path_goes_on_as_it_was_written(start_proxy, gateway, payer, script, app_client):
    gateway.scripts = [script.answer(200, {**JSON, "Content-Length": 2}, b"{}")]
    path = "/openai/deployments/my%20model%2F1/chat/completions"
    await app_client.post(f"http://127.0.0.1:{await start_proxy()}{path}", content=BODY, headers=JSON)
    assert gateway.seen[0].target == path
    assert payer.calls[0].model == payer.calls[0].body.request().model == "my model/1"


@pytest.mark.trio
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_one_model_can_be_asked_for(start_proxy, gateway, payer, script, app_client, method):
    content = b'{"id":"a/b"}' if method == "GET" else b""
    gateway.scripts = [script.answer(200, {**JSON, "Content-Length": 12}, content)]
    port = await start_proxy()
    response = await app_client.request(method, f"http://127.0.0.1:{port}/v1/models/a/b")
    assert (response.status_code, response.content) == (200, content)
    assert response.headers["content-length"] == "12"
    assert gateway.seen[0].line == f"{method} /v1/models/a/b HTTP/1.1"
    assert not payer.calls[0].payable


@pytest.mark.trio
async def test_neither_change_nor_cookies_nor_cors_of_the_gateway_reach_the_app(
    start_proxy, gateway, payer, script, app_client
):
    headers = {"X-Cashu": CHANGE, "Set-Cookie": "a=b", "Access-Control-Allow-Origin": "*"}
    gateway.scripts = [script.answer(200, {**JSON, **headers, "Content-Length": 2}, b"{}")]
    response = await app_client.post(chat(await start_proxy()), content=BODY, headers=JSON)
    assert not {"x-cashu", "set-cookie", "access-control-allow-origin"} & set(response.headers)
    assert payer.heads[0].get("X-Cashu") == CHANGE


@pytest.mark.trio
async def test_an_error_of_the_gateway_passes_with_status_and_body(
    start_proxy, gateway, payer, script, app_client
):
    gateway.scripts = [
        script.answer(429, {**JSON, "Content-Length": 8, "Retry-After": "3", "X-Cashu": CHANGE}, b'{"e": 1}')
    ]
    response = await app_client.post(chat(await start_proxy()), content=BODY, headers=JSON)
    assert (response.status_code, response.content) == (429, b'{"e": 1}')
    assert response.headers["retry-after"] == "3"
    assert payer.events == ["open", "head p1", "end p1", "retry p1"]


@pytest.mark.trio
async def test_a_large_error_passes_though_it_is_too_large_to_hold(
    start_proxy, gateway, payer, script, app_client
):
    gateway.scripts = [script.answer(500, {**JSON, "Content-Length": 300_000}, b"e" * 300_000)]
    port = await start_proxy(max_refusal_bytes=100, answer_bytes=100)
    response = await app_client.post(chat(port), content=BODY, headers=JSON)
    assert (response.status_code, response.content) == (500, b"e" * 300_000)
    assert payer.events == ["open", "head p1", "end p1"]
    assert (payer.outcomes[0].answer, payer.outcomes[0].answer_whole) == (b"", False)


@pytest.mark.trio
async def test_headers_of_64_kib_are_taken(start_proxy, gateway, script, app_client):
    gateway.scripts = [script.answer(200, {**JSON, "Content-Length": 2}, b"{}")]
    port = await start_proxy()
    response = await app_client.post(chat(port), content=BODY, headers={**JSON, "X-Large": "a" * 65536})
    assert response.status_code == 200


@pytest.mark.trio
async def test_a_large_body_passes_whole(start_proxy, gateway, script, app_client):
    gateway.scripts = [script.answer(200, {**JSON, "Content-Length": 2}, b"{}")]
    body = json.dumps({"model": "m", "input": "é" * 1_000_000}).encode()
    await app_client.post(chat(await start_proxy()), content=body, headers=JSON)
    assert gateway.seen[0].body == body


# --- streams ---


@pytest.mark.trio
async def test_the_first_piece_arrives_before_the_stream_ends(start_proxy, gateway, script, app_client):
    rest = trio.Event()
    gateway.scripts = [script.pieces(SSE, b"data: a\n\n", rest, b"data: b\n\n", DONE)]
    async with app_client.stream("POST", chat(await start_proxy()), content=BODY, headers=JSON) as response:
        pieces = response.aiter_bytes()
        assert await anext(pieces) == b"data: a\n\n"
        rest.set()
        assert b"".join([piece async for piece in pieces]) == b"data: b\n\n" + DONE


@pytest.mark.trio
async def test_the_change_in_a_stream_goes_to_the_payer_and_not_to_the_app(
    start_proxy, gateway, payer, script, app_client
):
    gateway.scripts = [script.pieces(SSE, b"data: a\n\n" + COMMENTS[:30], COMMENTS[30:] + DONE)]
    response = await app_client.post(chat(await start_proxy()), content=BODY, headers=JSON)
    assert response.content == b"data: a\n\n" + DONE
    assert [(comment.name, comment.value) for comment in payer.comments] == [
        ("otrta", "paid=10 cost=1 fee=0 change=9"),
        ("x-cashu", CHANGE),
    ]
    assert payer.outcomes[0].answer == b"data: a\n\n" + DONE


@pytest.mark.trio
async def test_text_that_looks_like_change_stays_in_the_text(start_proxy, gateway, payer, script, app_client):
    stream = b'data: {"content": ": x-cashu cashuBx"}\n\ndata: : otrta x\n\n: keep-alive\n\n'
    gateway.scripts = [script.pieces(SSE, stream)]
    response = await app_client.post(chat(await start_proxy()), content=BODY, headers=JSON)
    assert response.content == stream
    assert payer.comments == []


@pytest.mark.trio
async def test_no_later_byte_goes_on_before_stream_change_is_stored(
    start_proxy, gateway, payer, script, app_client
):
    stored = trio.Event()
    payer.on["comment"] = stored.wait
    gateway.scripts = [script.pieces(SSE, b"data: a\n\n", COMMENTS + DONE)]
    async with app_client.stream("POST", chat(await start_proxy()), content=BODY, headers=JSON) as response:
        pieces = response.aiter_bytes()
        assert await anext(pieces) == b"data: a\n\n"
        with trio.move_on_after(0.2) as waiting:
            await anext(pieces)
        stored.set()
        assert waiting.cancelled_caught


@pytest.mark.trio
async def test_no_byte_goes_on_before_header_change_is_stored(start_proxy, gateway, payer, script):
    stored = trio.Event()
    payer.on["head"] = stored.wait
    gateway.scripts = [script.answer(200, {**JSON, "X-Cashu": CHANGE, "Content-Length": 2}, b"{}")]
    port = await start_proxy()
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(request(port))
        with trio.move_on_after(0.2) as waiting:
            await stream.receive_some()
        assert waiting.cancelled_caught
        stored.set()
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.trio
async def test_the_app_cannot_see_the_end_of_an_answer_before_the_books_are_closed(
    start_proxy, gateway, payer, script, app_client
):
    closed = trio.Event()
    payer.on["end"] = closed.wait
    gateway.scripts = [script.answer(200, {**JSON, "Content-Length": 2}, b"{}")]
    port = await start_proxy()
    with trio.move_on_after(0.3) as waiting:
        await app_client.post(chat(port), content=BODY, headers=JSON)
    assert waiting.cancelled_caught
    closed.set()


@pytest.mark.trio
async def test_of_a_long_stream_the_last_lines_are_kept(start_proxy, gateway, payer, script, app_client):
    lines = b"".join(b"data: %d\n\n" % number for number in range(1000))
    gateway.scripts = [script.pieces(SSE, lines)]
    await app_client.post(chat(await start_proxy(stream_tail_bytes=25)), content=BODY, headers=JSON)
    assert payer.outcomes[0].answer == b"\ndata: 998\n\ndata: 999\n\n"
    assert not payer.outcomes[0].answer_whole


# --- compressed answers ---


@pytest.mark.trio
@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_compressed_answer_is_decoded(start_proxy, gateway, script, app_client, coding, pack):
    packed = pack(b"x" * 300_000)
    headers = {**JSON, "Content-Encoding": coding, "Content-Length": len(packed)}
    gateway.scripts = [script.answer(200, headers, packed)]
    response = await app_client.post(chat(await start_proxy()), content=BODY, headers=JSON)
    assert response.content == b"x" * 300_000
    assert "content-encoding" not in response.headers


@pytest.mark.trio
async def test_change_in_a_compressed_stream_is_found(start_proxy, gateway, payer, script, app_client):
    packed = gzip.compress(b"data: a\n\n" + COMMENTS + DONE)
    gateway.scripts = [script.pieces({**SSE, "Content-Encoding": "gzip"}, packed[:20], packed[20:])]
    response = await app_client.post(chat(await start_proxy()), content=BODY, headers=JSON)
    assert response.content == b"data: a\n\n" + DONE
    assert payer.comments[1].value == CHANGE


@pytest.mark.trio
@pytest.mark.parametrize("coding", ["br", "gzip"])
async def test_an_encoding_that_cannot_be_read_is_a_broken_answer(
    start_proxy, gateway, payer, script, app_client, coding
):
    headers = {**JSON, "Content-Encoding": coding, "Content-Length": 4, "X-Cashu": CHANGE}
    gateway.scripts = [script.answer(200, headers, b"junk")]
    response = await app_client.post(chat(await start_proxy()), content=BODY, headers=JSON)
    assert (response.status_code, code(response)) == (502, "gateway_broke_off")
    assert payer.events == ["open", "head p1", "end p1", "retry p1"]


# --- faults of the gateway ---


@pytest.mark.trio
async def test_no_gateway_is_gateway_unreachable_and_nothing_has_left(
    start_proxy, payer, app_client, free_port
):
    payer.gateway_url = f"http://127.0.0.1:{free_port}"
    response = await app_client.post(chat(await start_proxy()), content=BODY, headers=JSON)
    assert (response.status_code, code(response)) == (502, "gateway_unreachable")
    assert (payer.outcomes[0].ending, payer.outcomes[0].may_have_left) == (Ending.UNREACHABLE, False)


@pytest.mark.trio
@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1", "http://user:pass@127.0.0.1:1", "nonsense", "http://[", "http:///x"]
)
async def test_an_address_that_cannot_be_used_is_gateway_unreachable(start_proxy, payer, app_client, url):
    payer.gateway_url = url
    response = await app_client.post(chat(await start_proxy()), content=BODY, headers=JSON)
    assert (response.status_code, code(response)) == (502, "gateway_unreachable")
    assert not payer.outcomes[0].may_have_left


@pytest.mark.trio
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_never_followed(start_proxy, gateway, payer, script, app_client, status):
    headers = {"Location": gateway.url + "/elsewhere", "Content-Length": 0, "X-Cashu": CHANGE}
    gateway.scripts = [script.answer(status, headers, b"")]
    response = await app_client.post(chat(await start_proxy()), content=BODY, headers=JSON)
    assert (response.status_code, code(response)) == (502, "gateway_redirected")
    assert len(gateway.seen) == 1
    assert payer.heads[0].get("x-cashu") == CHANGE
    assert payer.outcomes[0].ending is Ending.REDIRECTED


@pytest.mark.trio
async def test_silence_is_gateway_timeout_and_sdks_are_told_not_to_pay_again(
    start_proxy, gateway, payer, app_client
):
    async def hang(_stream, _seen):
        await trio.sleep_forever()

    gateway.scripts = [hang]
    response = await app_client.post(chat(await start_proxy(idle_s=0.2)), content=BODY, headers=JSON)
    assert (response.status_code, code(response)) == (504, "gateway_timeout")
    assert response.headers["x-should-retry"] == "false"
    assert (payer.outcomes[0].ending, payer.outcomes[0].may_have_left) == (Ending.TIMEOUT, True)


@pytest.mark.trio
async def test_a_long_stream_outlives_the_idle_timeout(start_proxy, gateway, app_client):
    async def slow(stream, _seen):
        await stream.send_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 6\r\n\r\n"
        )
        for _ in range(6):
            await trio.sleep(0.1)
            await stream.send_all(b"\n")

    gateway.scripts = [slow]
    response = await app_client.post(chat(await start_proxy(idle_s=0.4)), content=BODY, headers=JSON)
    assert response.content == b"\n" * 6


@pytest.mark.trio
@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 429 Slow\r\nContent-Length: 10\r\n\r\nfive!",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Cashu: " + b"a" * 200_000 + b"\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["nothing", "half a head", "head alone", "half an error", "not http", "200 kB header"],
)
async def test_an_answer_that_ends_before_its_first_byte_is_gateway_broke_off(
    start_proxy, gateway, payer, app_client, head
):
    async def cut(stream, _seen):
        await stream.send_all(head)

    gateway.scripts = [cut]
    response = await app_client.post(chat(await start_proxy()), content=BODY, headers=JSON)
    assert (response.status_code, code(response)) == (502, "gateway_broke_off")
    assert payer.outcomes[0].ending is Ending.BROKE_OFF


@pytest.mark.trio
@pytest.mark.parametrize("kind", [b"application/json", b"text/event-stream"])
async def test_an_answer_that_breaks_off_later_is_cut_for_the_app_too(
    start_proxy, gateway, payer, app_client, kind
):
    async def cut(stream, _seen):
        await stream.send_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\nContent-Length: 100\r\n\r\n"
        )
        await stream.send_all(b"data: half")

    gateway.scripts = [cut]
    port = await start_proxy()
    received = bytearray()
    with pytest.raises(httpx.RemoteProtocolError):
        await read_into(received, app_client, port)
    assert received == b"data: half"
    assert (payer.outcomes[0].ending, payer.outcomes[0].body_bytes) == (Ending.BROKE_OFF, 10)


# --- apps that go away ---


@pytest.mark.trio
async def test_change_of_a_stream_that_the_app_left_is_still_stored(
    start_proxy, gateway, payer, script, caplog
):
    left = trio.Event()
    tokens = [b"data: %d\n\n" % number for number in range(50)]
    gateway.scripts = [script.pieces(SSE, b"data: a\n\n", left, *tokens, COMMENTS + DONE)]
    await leave_mid_stream(await start_proxy())
    left.set()
    await payer.ended.wait()
    assert [comment.name for comment in payer.comments] == ["otrta", "x-cashu"]
    [outcome] = payer.outcomes
    assert (outcome.ending, outcome.app_gone) == (Ending.COMPLETE, True)
    assert payer.events == ["open", "head p1", "comment p1", "comment p1", "end p1"]
    assert caplog.text == ""


@pytest.mark.trio
async def test_an_app_that_left_before_the_answer_began_changes_nothing(start_proxy, gateway, payer, script):
    arrived, left = trio.Event(), trio.Event()

    async def late(stream, seen):
        arrived.set()
        await left.wait()
        await script.answer(200, {**JSON, "X-Cashu": CHANGE, "Content-Length": 2}, b"{}")(stream, seen)

    gateway.scripts = [late]
    port = await start_proxy()
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(request(port))
        await arrived.wait()
    await trio.sleep(0.05)
    left.set()
    await payer.ended.wait()
    assert payer.heads[0].get("x-cashu") == CHANGE
    assert (payer.outcomes[0].ending, payer.outcomes[0].app_gone) == (Ending.COMPLETE, True)


@pytest.mark.trio
async def test_an_app_that_left_while_the_payment_was_made_is_not_paid_for(start_proxy, gateway, payer):
    opening, left = trio.Event(), trio.Event()

    async def slow_open():
        opening.set()
        await left.wait()

    payer.on["open"] = slow_open
    port = await start_proxy()
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(request(port))
        await opening.wait()
    await trio.sleep(0.05)
    left.set()
    await payer.ended.wait()
    assert gateway.seen == []
    assert (payer.outcomes[0].ending, payer.outcomes[0].may_have_left) == (Ending.NOT_SENT, False)


@pytest.mark.trio
@pytest.mark.parametrize("bound", [{"drain_s": 0.2}, {"drain_bytes": 1000}])
async def test_an_endless_stream_that_the_app_left_is_given_up(start_proxy, gateway, payer, bound):
    closed = trio.Event()

    async def endless(stream, _seen):
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        try:
            while True:
                await stream.send_all(b"data: a\n\n")
                await trio.sleep(0.002)
        except trio.BrokenResourceError:
            closed.set()

    gateway.scripts = [endless]
    await leave_mid_stream(await start_proxy(**bound))
    with trio.fail_after(3):
        await payer.ended.wait()
        await closed.wait()
    assert (payer.outcomes[0].ending, payer.outcomes[0].app_gone) == (Ending.ABANDONED, True)


@pytest.mark.trio
async def test_an_app_that_stops_reading_counts_as_gone(start_proxy, gateway, payer, script):
    filler = b"data: " + b"x" * 60_000 + b"\n\n"
    gateway.scripts = [script.pieces(SSE, *[filler] * 400, COMMENTS + DONE)]
    port = await start_proxy(stall_s=0.3, drain_bytes=100_000_000)
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(request(port))
        with trio.fail_after(8):
            await payer.ended.wait()
    assert [comment.value for comment in payer.comments][1:] == [CHANGE]
    assert payer.outcomes[0].app_gone


# --- payments ---


@pytest.mark.trio
async def test_a_refusal_can_be_answered_with_one_more_payment(
    start_proxy, gateway, payer, script, app_client
):
    refusal = b'{"error": {"code": "insufficient_payment"}}'
    gateway.scripts = [
        script.answer(400, {**JSON, "X-Cashu": "creqA", "Content-Length": len(refusal)}, refusal),
        script.answer(200, {**JSON, "Content-Length": 2}, b"{}"),
    ]
    payer.retries = [Attempt(payment_id="p2", gateway_url=gateway.url, token="cashuBsecond")]
    response = await app_client.post(chat(await start_proxy()), content=BODY, headers=JSON)
    assert (response.status_code, response.content) == (200, b"{}")
    assert payer.events == ["open", "head p1", "end p1", "retry p1", "head p2", "end p2"]
    assert [dict(seen.headers)["x-cashu"] for seen in gateway.seen] == [TOKEN, "cashuBsecond"]
    assert gateway.seen[1].body == BODY
    assert payer.outcomes[0].answer == refusal


@pytest.mark.trio
async def test_attempts_are_bounded(start_proxy, gateway, payer, script, app_client):
    gateway.scripts = [script.answer(402, {**JSON, "Content-Length": 2}, b"{}")] * 5
    again = Attempt(payment_id="p2", gateway_url=gateway.url, token="cashuBsecond")
    payer.retries = [again] * 5
    response = await app_client.post(chat(await start_proxy(max_attempts=3)), content=BODY, headers=JSON)
    assert response.status_code == 402
    assert len(gateway.seen) == 3


@pytest.mark.trio
async def test_a_gateway_that_is_down_can_be_followed_by_another(
    start_proxy, gateway, payer, script, app_client, free_port
):
    payer.gateway_url = f"http://127.0.0.1:{free_port}"
    payer.retries = [Attempt(payment_id="p2", gateway_url=gateway.url + "/prefix/", token="cashuBsecond")]
    gateway.scripts = [script.answer(200, {**JSON, "Content-Length": 2}, b"{}")]
    response = await app_client.post(chat(await start_proxy()), content=BODY, headers=JSON)
    assert response.status_code == 200
    assert gateway.seen[0].target == "/prefix" + CHAT


@pytest.mark.trio
async def test_an_error_of_the_payer_is_answered_and_nothing_is_sent(start_proxy, gateway, payer, app_client):
    async def refuse():
        raise BudgetExceeded("The day's budget is used up.", required_msat=100, left_msat=10)

    payer.on["open"] = refuse
    response = await app_client.post(chat(await start_proxy()), content=BODY, headers=JSON)
    assert (response.status_code, code(response)) == (402, "budget_exceeded")
    assert response.json()["error"]["left_msat"] == 10
    assert (gateway.seen, payer.outcomes) == ([], [])


@pytest.mark.trio
@pytest.mark.parametrize("where", ["open", "head", "comment", "retry"])
async def test_a_failing_payer_gives_an_internal_error_and_the_proxy_lives_on(
    start_proxy, gateway, payer, script, app_client, caplog, where
):
    async def fail():
        raise RuntimeError(f"disk full at {CHANGE}")

    payer.on[where] = fail
    reply = script.answer(402, JSON, b"{}") if where == "retry" else script.pieces(SSE, COMMENTS, DONE)
    gateway.scripts = [reply]
    port = await start_proxy()
    response = await app_client.post(chat(port), content=BODY, headers=JSON)
    assert (response.status_code, code(response)) == (500, "internal_error")
    assert [outcome.ending for outcome in payer.outcomes] == {
        "open": [],
        "retry": [Ending.COMPLETE],
    }.get(where, [Ending.FAILED])
    assert "RuntimeError" in caplog.text
    assert CHANGE not in caplog.text
    assert (await app_client.get(f"http://127.0.0.1:{port}/health")).status_code == 200


@pytest.mark.trio
async def test_books_that_cannot_be_closed_do_not_cost_the_app_its_answer(
    start_proxy, gateway, payer, script, app_client
):
    async def fail():
        raise RuntimeError

    payer.on["end"] = fail
    gateway.scripts = [script.answer(200, {**JSON, "Content-Length": 2}, b"{}")]
    response = await app_client.post(chat(await start_proxy()), content=BODY, headers=JSON)
    assert (response.status_code, response.content) == (200, b"{}")


@pytest.mark.trio
async def test_no_log_holds_a_token_even_when_all_is_logged(start_proxy, gateway, script, app_client, caplog):
    caplog.set_level(logging.DEBUG)
    gateway.scripts = [script.answer(200, {**JSON, "X-Cashu": CHANGE, "Content-Length": 2}, b"{}")]
    await app_client.post(chat(await start_proxy()), content=BODY, headers=JSON)
    assert "connect_tcp.started" in caplog.text
    assert TOKEN not in caplog.text
    assert CHANGE not in caplog.text


# --- refused before anything is paid ---


@pytest.mark.trio
@pytest.mark.parametrize(
    ("path", "content", "headers", "status", "expected"),
    [
        (CHAT, b"{not json", JSON, 400, "invalid_request"),
        (CHAT, b"", JSON, 400, "invalid_request"),
        (CHAT, b"[" * 300_000, JSON, 400, "invalid_request"),
        (CHAT, BODY, {"Content-Type": "text/plain"}, 400, "invalid_request"),
        (CHAT, BODY, {}, 400, "invalid_request"),
        (CHAT, BODY, {"Content-Type": "multipart/form-data; boundary=B"}, 400, "invalid_request"),
        (TRANSCRIBE, BODY, JSON, 400, "invalid_request"),
        (TRANSCRIBE, BODY, {"Content-Type": "multipart/form-data; boundary=B"}, 400, "invalid_request"),
        (CHAT, b"x" * 1_000_001, JSON, 413, "body_too_large"),
        (CHAT + "?" + "q" * 20_000, BODY, JSON, 400, "invalid_request"),
        ("/v1/messages/count_tokens", BODY, JSON, 404, "path_not_served"),
        ("/v1/models", BODY, JSON, 405, "method_not_allowed"),
        ("/chat/completions/1", BODY, JSON, 404, "path_not_served"),
        ("/../etc/passwd", BODY, JSON, 404, "path_not_served"),
    ],
)
async def test_what_cannot_be_forwarded_is_refused_before_it_is_paid_for(
    start_proxy, gateway, payer, app_client, path, content, headers, status, expected
):
    port = await start_proxy(max_body_bytes=1_000_000)
    response = await app_client.post(f"http://127.0.0.1:{port}{path}", content=content, headers=headers)
    assert (response.status_code, code(response)) == (status, expected)
    assert (gateway.seen, payer.calls) == ([], [])


@pytest.mark.trio
async def test_an_endless_body_is_answered_before_its_end(start_proxy, payer):
    port = await start_proxy(max_body_bytes=1000)
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(request(port, length=1_000_000)[: -len(BODY)] + b"x" * 3000)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 413 ")
    assert payer.calls == []


@pytest.mark.trio
async def test_an_unknown_path_is_told_what_is_served(start_proxy, app_client):
    port = await start_proxy()
    response = await app_client.get(f"http://127.0.0.1:{port}/v2")
    assert "POST /v1/chat/completions" in response.json()["error"]["message"]
    landing = await app_client.get(f"http://127.0.0.1:{port}/")
    assert "POST /v1/chat/completions" in landing.json()["serves"]


@pytest.mark.trio
async def test_an_app_that_leaves_while_it_sends_costs_nothing(start_proxy, payer, app_client):
    port = await start_proxy()
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(request(port)[:-5])
    await trio.sleep(0.05)
    assert payer.calls == []
    assert (await app_client.get(f"http://127.0.0.1:{port}/health")).status_code == 200


def request(port, length=None):
    length = len(BODY) if length is None else length
    head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {length}\r\n\r\n".encode() + BODY
