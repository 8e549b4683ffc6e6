"""The gate before a made-up LiteLLM, with a real store and mint: whatever that does, the money is right."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from otrta_cli.processes import Running
from otrta_core import PaymentRequest, Token
from otrta_litellm import checkout, relay, till
from otrta_litellm import gateway as module
from otrta_litellm.admission import ADMISSION, Admission, UsageSeen
from otrta_litellm.gate import Gate, Message, Receive, Scope, Send
from otrta_litellm.gateway import Gateway
from otrta_litellm.schema import PaymentState
from tests.fault_proxy import Fault, fault_proxy
from tests.integration.purse import Purse
from tests.otrta_litellm.conftest import settings
from tests.otrta_litellm.test_meter import DONE, said
from tests.otrta_litellm.test_price_book import View, deployment

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

CHAT = "/v1/chat/completions"
PAID = 10_000
USAGE = {"prompt_tokens": 10, "completion_tokens": 20}
ANSWER = json.dumps({"choices": [{"message": {"content": "hello"}}], "usage": USAGE}).encode()
PRICES = {"demo-chat": {"input_msat_per_mtok": 1_000_000, "output_msat_per_mtok": 5_000_000}}

App = Callable[[Scope, Receive, Send], Awaitable[None]]


@pytest.fixture
def purse(mint: Running):
    with Purse(mint.url) as purse:
        yield purse


@pytest.fixture(autouse=True)
def no_log_of_litellms_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(till, "LOG_WAIT_S", 0.05)


@asynccontextmanager
async def opened(directory: Path, *mints: str, **values: Any) -> AsyncIterator[Gateway]:
    """A gateway at work."""
    view: Any = View(**{"demo-chat": [deployment("demo-chat")]})
    gateway = Gateway(settings(store=str(directory), mints=list(mints), prices=PRICES, **values), view)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gateway.run)
        try:
            await gateway.wallet()
            yield gateway
        finally:
            tasks.cancel_scope.cancel()


@pytest.fixture
async def gateway(tmp_path: Path, mint: Running) -> AsyncIterator[Gateway]:
    async with opened(tmp_path, mint.url) as gateway:
        yield gateway


@dataclass
class Caller:
    """One request, and what came back."""

    token: Token | None
    path: str = CHAT
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = json.dumps({"model": "demo-chat", "messages": [{"role": "user", "content": "hi"}]}).encode()
    query: bytes = b""
    got: list[Message] = field(default_factory=list)
    sends_until_gone: int = 1000
    gone: anyio.Event = field(default_factory=anyio.Event)

    async def call(self, app: App, gateway: Gateway) -> "Caller":
        headers = {"host": "x", **self.headers}
        if self.token is not None:
            headers["x-cashu"] = self.token.encode()
        scope = {
            "type": "http",
            "method": self.method,
            "path": self.path,
            "query_string": self.query,
            "client": ("127.0.0.1", 5),
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
        }
        parts = iter([{"type": "http.request", "body": self.body, "more_body": False}])

        async def receive() -> Message:
            for part in parts:
                return part
            await self.gone.wait()
            return {"type": "http.disconnect"}

        await Gate(app, gateway)(scope, receive, self.send)
        return self

    async def send(self, message: Message) -> None:
        if self.sends_until_gone == 0:
            self.gone.set()
            raise OSError("the caller is gone")
        self.sends_until_gone -= 1
        self.got.append(message)

    @property
    def status(self) -> int:
        return int(self.got[0]["status"])

    @property
    def told(self) -> dict[bytes, bytes]:
        return dict(self.got[0]["headers"])

    @property
    def content(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.got)

    @property
    def code(self) -> str:
        return str(json.loads(self.content)["error"]["code"])

    @property
    def sums(self) -> tuple[int, ...]:
        names = (b"paid", b"cost", b"fee", b"change")
        return tuple(int(self.told[b"x-otrta-%b-msat" % name]) for name in names)


def admission() -> Admission:
    found = ADMISSION.get()
    assert found is not None
    return found


def answers(body: bytes = ANSWER, status: int = 200, *, then: BaseException | None = None) -> App:
    """A LiteLLM that answers this, and then perhaps fails."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        if then is not None:
            raise then

    return app


def streams(*parts: bytes, then: BaseException | None = None) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        if then is not None:
            raise then
        await send({"type": "http.response.body", "body": b""})

    return app


async def left(gateway: Gateway, token: Token) -> Caller:
    """Ask the change route."""
    return await Caller(token, "/v1/cashu/change").call(answers(), gateway)


async def state_of(gateway: Gateway, token: Token) -> PaymentState | None:
    checkout = await gateway.checkout()
    payment = await checkout.taken_before(token)
    return None if payment is None else payment.state


def live() -> dict[str, str]:
    return {"X-Cashu-Change": "sse"}


STREAMED = json.dumps(
    {"model": "demo-chat", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
).encode()


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


@pytest.mark.parametrize("logged", [True, False])
@pytest.mark.parametrize("app", [fails, says_nothing, breaks_off])
async def test_a_litellm_that_fails_is_a_failed_call(
    gateway: Gateway, purse: Purse, app: App, logged: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    async def logging_app(scope: Scope, receive: Receive, send: Send) -> None:
        if logged:
            admission().record_failure("APIError")
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


async def test_recovery_leaves_running_calls_alone(gateway: Gateway, purse: Purse) -> None:
    token = purse.token(PAID)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await gateway._recover_swaps()
        await gateway._end_calls()
        assert await state_of(gateway, token) is PaymentState.REDEEMED
        await answers()(scope, receive, send)

    assert (await Caller(token).call(app, gateway)).sums[1] == 110


async def test_what_was_received_and_never_redeemed_is_given_up(
    gateway: Gateway, purse: Purse, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("disk full")

    token = purse.token(PAID)
    wallet = await gateway.wallet()
    monkeypatch.setattr(wallet, "prepare_receive", broken)
    caller = await Caller(token).call(answers(), gateway)
    assert (caller.status, caller.code) == (500, "internal_error")
    assert b"disk full" not in caller.content
    logged = str(capsys.readouterr())
    assert "gate_failed" in logged
    assert "disk full" not in logged
    assert await state_of(gateway, token) is PaymentState.RECEIVED
    monkeypatch.undo()
    await gateway._end_calls()
    assert await state_of(gateway, token) is PaymentState.RECEIVED
    monkeypatch.setattr(module, "GIVEN_UP_S", -1.0)
    await gateway._end_calls()
    assert await state_of(gateway, token) is None
    assert purse.states(token) == {"UNSPENT"}
    assert (await Caller(token).call(answers(), gateway)).status == 200


async def test_too_much_in_memory_turns_calls_away_untouched(gateway: Gateway, purse: Purse) -> None:
    token = purse.token(PAID)
    gateway.held.total = gateway.held.limit
    caller = await Caller(token).call(answers(), gateway)
    assert (caller.status, caller.code) == (503, "overloaded")
    assert b"retry-after" in caller.told
    assert gateway.held.total == gateway.held.limit
    gateway.held.total = 0
    assert purse.states(token) == {"UNSPENT"}
    assert await state_of(gateway, token) is None


async def test_bodies_that_are_being_read_count_as_held(tmp_path: Path, mint: Running) -> None:
    async with opened(tmp_path, mint.url, buffer_total_bytes=5000) as gateway:
        big = b'{"model": "' + b"x" * 6000 + b'"}'
        assert (await Caller(None, body=big).call(answers(), gateway)).code == "overloaded"
        assert gateway.held.total == 0
        assert (await Caller(None).call(answers(), gateway)).status == 402


async def test_a_gateway_that_is_not_ready_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STARTUP_S", 0.05)
    view: Any = View()
    gateway = Gateway(settings(store=str(tmp_path)), view)
    caller = await Caller(None).call(answers(), gateway)
    assert (caller.status, caller.code) == (503, "starting")


async def test_a_silent_mint_keeps_nobody_from_paying_with_anothers_tokens(
    tmp_path: Path, mint: Running, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_LOOK_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with opened(tmp_path, url, mint.url) as gateway:
            assert (await Caller(purse.token(PAID)).call(answers(), gateway)).sums[1] == 110
            asked = await Caller(None).call(answers(), gateway)
            assert asked.status == 402
            assert PaymentRequest.parse(asked.told[b"x-cashu"].decode()).mints == (mint.url,)
            info = await Caller(None, "/v1/cashu/info", "GET").call(answers(), gateway)
            assert [m["url"] for m in json.loads(info.content)["mints"]] == [mint.url]
            other = replace(purse.token(PAID), mint=url)
            refused = await Caller(other).call(answers(), gateway)
            assert (refused.status, refused.code) == (503, "mint_unreachable")


async def test_a_swap_that_takes_too_long_is_journalled_and_ended_by_recovery(
    tmp_path: Path, mint: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkout, "REDEEM_WITHIN_S", 0.2)
    with fault_proxy(mint.port) as proxy, Purse(mint.url, proxy.url) as purse:
        async with opened(tmp_path, proxy.url) as gateway:
            token = purse.token(PAID)
            proxy.spoil("swap", Fault("slow", silent_s=1.0))
            caller = await Caller(token).call(answers(), gateway)
            assert (caller.status, caller.code) == (503, "mint_unreachable")
            assert b"journalled" in caller.content
            assert await state_of(gateway, token) is PaymentState.REDEEMING
            await gateway._recover_swaps()
            await gateway._end_calls()
            found = await left(gateway, token)
            assert json.loads(found.content)["change_msat"] == PAID


async def test_a_token_of_which_another_gateway_was_first_is_spent(gateway: Gateway, purse: Purse) -> None:
    token = purse.token(PAID)
    wallet = await gateway.wallet()
    inspect = wallet.inspect

    async def overtaken(token: Token) -> Any:
        incoming = await inspect(token)
        purse.spend(token)
        return incoming

    wallet.inspect = overtaken  # type: ignore[method-assign]
    caller = await Caller(token).call(fails, gateway)
    assert (caller.status, caller.code) == (400, "token_already_spent")
    assert await state_of(gateway, token) is None


async def test_without_any_mint_nothing_can_be_asked_for(tmp_path: Path) -> None:
    async with opened(tmp_path, "http://127.0.0.1:1") as gateway:
        caller = await Caller(None).call(answers(), gateway)
    assert (caller.status, caller.code) == (503, "mint_unreachable")


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
