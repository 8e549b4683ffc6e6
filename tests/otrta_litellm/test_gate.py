"""The gate before a made-up LiteLLM: whatever that does, the money is right."""

import asyncio
import json

import anyio
import pytest

from otrta_core import Token
from otrta_litellm import relay
from otrta_litellm.admission import ADMISSION, Admission, UsageSeen
from otrta_litellm.asgi import Message, Receive, Scope, Send
from otrta_litellm.gate import Gate
from otrta_litellm.gateway import Gateway
from tests.integration.purse import Purse
from tests.otrta_litellm.made_up import (
    ANSWER,
    CHAT,
    PAID,
    STREAMED,
    App,
    Caller,
    admission,
    answers,
    left,
    live,
    state_of,
    streams,
)
from tests.otrta_litellm.test_meter import DONE, said

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def test_a_call_is_paid_exactly(gateway: Gateway, purse: Purse) -> None:
    caller = await Caller(purse.token(PAID)).call(answers(), gateway)
    assert (caller.status, caller.content) == (200, ANSWER)
    assert caller.sums == (PAID, 110, 0, PAID - 110)
    assert gateway.running == set()
    assert gateway.held.total == 0


async def test_litellm_gets_the_call_and_nothing_of_its_caller(gateway: Gateway, purse: Purse) -> None:
    seen: list[tuple[Scope, Message, Admission]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, await receive(), admission()))
        await answers()(scope, receive_nothing, send)

    async def receive_nothing() -> Message:
        return {}

    headers = {"Authorization": "Bearer sk", "User-Agent": "spy", "X-Litellm-Tags": "a", "Accept": "*/*"}
    await Caller(purse.token(PAID), headers=headers, query=b"model=other").call(app, gateway)
    scope, message, found = seen[0]
    assert (scope["query_string"], scope["client"]) == (b"", None)
    names = [name for name, _ in scope["headers"]]
    assert sorted(names) == [
        b"accept",
        b"accept-encoding",
        b"content-length",
        b"content-type",
        b"host",
        b"x-litellm-call-id",
    ]
    body = json.loads(message["body"])
    assert int(dict(scope["headers"])[b"content-length"]) == len(message["body"])
    assert body["max_tokens"] == (PAID - 50) // 5
    assert (found.kind, found.path, found.model) == ("paid", CHAT, "demo-chat")
    assert ADMISSION.get() is None


async def test_a_key_goes_through_with_no_admission_left_from_before(gateway: Gateway) -> None:
    seen: list[tuple[object, list[bytes]]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((ADMISSION.get(), [name for name, _ in scope["headers"]]))
        await answers()(scope, receive, send)

    ADMISSION.set(Admission("free", "/v1/models"))
    headers = {"Authorization": "Bearer sk", "X-Cashu": "", "X-Cashu-Change": "sse", "Cookie": "c"}
    await Caller(None, headers=headers).call(app, gateway)
    assert seen == [(None, [b"host", b"authorization", b"cookie"])]


async def test_a_free_path_is_asked_without_orders(gateway: Gateway) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        assert admission().kind == "free"
        await answers()(scope, receive, send)

    caller = Caller(None, "/v1/models", "GET", {"Cookie": "c", "X-Litellm-Tags": "x"}, query=b"team_id=1")
    await caller.call(app, gateway)
    assert (seen[0]["query_string"], seen[0]["headers"]) == (b"", [(b"host", b"x")])


async def fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("the answer is cashuBsecret")


async def says_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()


async def breaks_off(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b'{"choices": "half of the', "more_body": True})
    raise RuntimeError("the answer is cashuBsecret")


@pytest.mark.parametrize("logged", ["success", "failure", "nothing"])
@pytest.mark.parametrize("app", [fails, says_nothing, breaks_off])
async def test_a_litellm_that_fails_is_a_failed_call(
    gateway: Gateway, purse: Purse, app: App, logged: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def logging_app(scope: Scope, receive: Receive, send: Send) -> None:
        if logged == "failure":
            admission().record_failure("APIError")
        if logged == "success":
            admission().record_success(UsageSeen("demo-chat", 10, 20, 0, 0, 0, False))
        await app(scope, receive, send)

    caller = await Caller(purse.token(PAID)).call(logging_app, gateway)
    assert (caller.status, caller.code) == (500, "call_failed")
    assert caller.sums == (PAID, 0, 0, PAID)
    assert b"half" not in caller.content
    assert purse.states(Token.parse(caller.told[b"x-cashu"].decode())) == {"UNSPENT"}
    assert "secret" not in str(capsys.readouterr())


async def test_a_failure_behind_a_whole_answer_changes_nothing(gateway: Gateway, purse: Purse) -> None:
    caller = await Caller(purse.token(PAID)).call(answers(then=RuntimeError()), gateway)
    assert (caller.status, caller.content, caller.sums[1]) == (200, ANSWER, 110)


async def test_an_error_that_may_hold_the_answer_is_replaced(gateway: Gateway, purse: Purse) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        admission().record_failure("JSONSchemaValidationError")
        await answers(b'{"error": {"message": "the answer"}}', 500)(scope, receive, send)

    caller = await Caller(purse.token(PAID)).call(app, gateway)
    assert (caller.status, caller.code, caller.sums[1]) == (500, "call_failed", 0)
    assert b"the answer" not in caller.content


async def test_an_upstreams_own_error_passes(gateway: Gateway, purse: Purse) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        admission().record_failure("RateLimitError")
        await answers(b'{"error": {"message": "slow down"}}', 429)(scope, receive, send)

    caller = await Caller(purse.token(PAID)).call(app, gateway)
    assert (caller.status, caller.sums[1]) == (429, 0)
    assert b"slow down" in caller.content


async def test_an_error_after_the_upstream_had_answered_is_charged_and_passes(
    gateway: Gateway, purse: Purse
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        admission().record_success(UsageSeen("demo-chat", 10, 20, 0, 0, 0, False))
        await answers(b'{"error": {"message": "a hook failed"}}', 500)(scope, receive, send)

    caller = await Caller(purse.token(PAID)).call(app, gateway)
    assert (caller.status, caller.sums[1]) == (500, 110)
    assert b"a hook failed" in caller.content


async def test_a_worker_that_is_told_to_stop_settles_before_it_does(gateway: Gateway, purse: Purse) -> None:
    begun = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await asyncio.sleep(60)

    token = purse.token(PAID)
    task = asyncio.create_task(Caller(token).call(app, gateway))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gateway.running == set()
    found = json.loads((await left(gateway, token)).content)
    assert (found["state"], found["cost_msat"], found["change_msat"]) == ("settled", 0, PAID)


async def test_a_caller_who_is_gone_finds_the_change_at_the_change_route(
    gateway: Gateway, purse: Purse
) -> None:
    token = purse.token(PAID)
    await Caller(token, sends_until_gone=0).call(answers(), gateway)
    found = await left(gateway, token)
    assert found.status == 200
    assert json.loads(found.content)["cost_msat"] == 110
    assert purse.spend(Token.parse(found.told[b"x-cashu"].decode())).amount == PAID - 110


@pytest.mark.parametrize("sends", [1, 2, 3])
async def test_a_caller_who_leaves_a_live_stream_pays_for_what_was_made(
    gateway: Gateway, purse: Purse, sends: int
) -> None:
    token = purse.token(PAID)
    caller = Caller(token, headers=live(), body=STREAMED, sends_until_gone=sends)
    words = [said(" word") for _ in range(5)]
    await caller.call(streams(*words, DONE, then=None), gateway)
    found = json.loads((await left(gateway, token)).content)
    assert found["state"] == "settled"
    assert 0 < found["cost_msat"] <= 50 // 4 + 5 * 2 * 5
    assert gateway.held.total == 0


async def test_a_caller_who_stops_reading_counts_as_gone(
    gateway: Gateway, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(Caller):
        async def send(self, message: Message) -> None:
            await anyio.sleep_forever()

    monkeypatch.setattr(relay, "SEND_WITHIN_S", 0.05)
    plain, stream = purse.token(PAID), purse.token(PAID)
    with anyio.fail_after(10):
        await Stuck(plain).call(answers(), gateway)
        await Stuck(stream, headers=live(), body=STREAMED).call(streams(said("a"), said("b"), DONE), gateway)
    for token in (plain, stream):
        assert json.loads((await left(gateway, token)).content)["state"] == "settled"


async def test_a_live_stream_hears_that_its_caller_is_gone(gateway: Gateway, purse: Purse) -> None:
    heard = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        heard.append(await receive())

    caller = Caller(purse.token(PAID), headers=live(), body=STREAMED)
    caller.gone.set()
    await caller.call(app, gateway)
    assert heard == [{"type": "http.disconnect"}]


async def test_a_held_call_never_hears_that_its_caller_is_gone(gateway: Gateway, purse: Purse) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        with anyio.move_on_after(0.1) as patience:
            await receive()
        assert patience.cancelled_caught
        await answers()(scope, give_nothing, send)

    async def give_nothing() -> Message:
        return {}

    caller = Caller(purse.token(PAID))
    caller.gone.set()
    assert (await caller.call(app, gateway)).sums[1] == 110


@pytest.mark.parametrize("headers", [{}, live()])
async def test_a_payment_that_cannot_be_settled_now_is_settled_later(
    gateway: Gateway, purse: Purse, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("database is locked: cashuBsecret")

    token = purse.token(PAID)
    monkeypatch.setattr(gateway, "settle", broken)
    caller = Caller(token, headers=headers, body=STREAMED if headers else Caller(None).body)
    await caller.call(streams(said("a"), DONE) if headers else answers(), gateway)
    if headers:
        assert caller.content == said("a")
    else:
        assert (caller.status, caller.code) == (500, "internal_error")
        assert caller.told[b"x-otrta-change"] == b"claim"
        assert b"x-cashu" not in caller.told
    assert caller.got[-1]["more_body"] is False
    assert (await left(gateway, token)).status == 202
    monkeypatch.undo()
    await gateway._end_calls()
    found = await left(gateway, token)
    assert json.loads(found.content)["change_msat"] == PAID
    assert purse.spend(Token.parse(found.told[b"x-cashu"].decode())).amount == PAID


async def test_lifespans_and_websockets_with_a_key_are_litellms(gateway: Gateway) -> None:
    seen: list[str] = []
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    gate = Gate(app, gateway)
    await gate({"type": "lifespan"}, receive, send)
    await gate({"type": "websocket", "headers": [(b"authorization", b"x")]}, receive, send)
    assert (seen, sent) == (["lifespan", "websocket"], [])
    for headers in ([], [(b"x-cashu", b"a")], [(b"x-cashu", b"a"), (b"authorization", b"x")]):
        await gate({"type": "websocket", "headers": headers}, receive, send)
    assert len(seen) == 2
    assert {message["type"] for message in sent} == {"websocket.close"}


async def test_a_caller_who_hangs_up_before_the_end_of_the_body_costs_nothing(
    gateway: Gateway, purse: Purse
) -> None:
    token = purse.token(PAID)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        raise OSError

    scope = {
        "type": "http",
        "method": "POST",
        "path": CHAT,
        "headers": [(b"x-cashu", token.encode().encode())],
    }
    await Gate(answers(), gateway)(scope, receive, send)
    assert await state_of(gateway, token) is None
