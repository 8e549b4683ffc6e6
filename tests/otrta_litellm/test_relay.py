"""Passing an answer on: held, live, spilled and failed, on fake ASGI messages."""

import json
from dataclasses import replace
from typing import Any

import pytest

from otrta_core import Settlement
from otrta_core.requests import Kind
from otrta_litellm import relay as module
from otrta_litellm.payments import Payment
from otrta_litellm.relay import HeldBytes, Relay
from tests.otrta_litellm.samples import CALL, payment
from tests.otrta_litellm.test_meter import DONE, ONLY_USAGE, SEEN, block, event, over, said

pytestmark = pytest.mark.anyio

PAYMENT = payment()
SETTLED = Settlement(paid=10_000, fee=0, charged=110, change=9890)
AFTER = payment(change_token="cashuBchange", change_msat=9890, cost_msat=110)
COMMENTS = b": otrta paid=10000 cost=110 fee=0 change=9890\n: x-cashu cashuBchange\n\n"
JSON = [(b"content-type", b"application/json"), (b"content-length", b"999"), (b"x-litellm-model-id", b"x")]
EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]


class Line:
    """A relay, and what its caller has received."""

    def __init__(
        self,
        *,
        live: bool = False,
        show_usage: bool = False,
        buffer_bytes: int = 1000,
        of: Payment = PAYMENT,
    ) -> None:
        self.gone = False
        self.sent: list[dict[str, Any]] = []
        self.noted: list[int] = []
        self.held = HeldBytes(10_000)
        self.relay = Relay(
            of,
            self.send,
            live=live,
            show_usage=show_usage,
            origin=None,
            buffer_bytes=buffer_bytes,
            held=self.held,
            note_live=self.note,
        )

    async def send(self, message: Any) -> None:
        if self.gone:
            raise BrokenPipeError
        self.sent.append(message)

    async def note(self, tokens: int) -> None:
        self.noted.append(tokens)

    async def get(self, *parts: bytes, status: int = 200, headers: Any = JSON, end: bool = True) -> None:
        await self.relay.receive({"type": "http.response.start", "status": status, "headers": headers})
        for n, part in enumerate(parts):
            more = not (end and n == len(parts) - 1)
            await self.relay.receive({"type": "http.response.body", "body": part, "more_body": more})

    async def finish(self) -> None:
        await self.relay.finish(AFTER, SETTLED)
        self.relay.drop()
        assert self.held.total == 0
        assert [m["type"] for m in self.sent].count("http.response.start") == 1
        assert [m.get("more_body") for m in self.sent if m["type"] == "http.response.body"][-1] is False

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.sent)


async def test_a_plain_answer_waits_for_its_change() -> None:
    line = Line()
    await line.get(b'{"usage": ', b'{"prompt_tokens": 10, "completion_tokens": 20}}')
    assert line.sent == []
    ending = line.relay.ending()
    assert (ending.status, ending.stream, ending.reading.usage) == (200, False, SEEN)
    await line.finish()
    assert line.status == 200
    assert line.headers[b"x-cashu"] == b"cashuBchange"
    assert line.headers[b"x-otrta-cost-msat"] == b"110"
    assert line.headers[b"cache-control"] == b"no-store"
    assert int(line.headers[b"content-length"]) == len(line.body)
    assert b"x-litellm-model-id" not in line.headers


async def test_change_that_is_owed_has_its_sum_but_no_token() -> None:
    line = Line()
    await line.get(b"{}")
    line.relay.ending()
    await line.relay.finish(payment(change_due=True), SETTLED)
    assert b"x-cashu" not in line.headers
    assert line.headers[b"x-otrta-change-msat"] == b"9890"


async def test_a_stream_of_a_plain_client_is_held_with_its_change_in_the_header() -> None:
    line = Line()
    await line.get(said("a"), said("b"), ONLY_USAGE, DONE, b"", headers=EVENTS)
    assert line.sent == []
    ending = line.relay.ending()
    assert (ending.stream, ending.reading.usage, ending.reading.text) == (True, SEEN, "ab")
    await line.finish()
    assert line.body == said("a") + said("b") + DONE
    assert line.headers[b"x-cashu"] == b"cashuBchange"


async def test_a_live_stream_goes_on_as_it_comes_and_ends_with_its_change() -> None:
    line = Line(live=True)
    await line.get(said("a"), end=False, headers=EVENTS)
    assert line.body == said("a")
    assert set(line.headers) & {b"x-cashu", b"x-otrta-cost-msat", b"content-length"} == set()
    assert line.headers[b"x-otrta-paid-msat"] == b"10000"
    for part in (said("b"), ONLY_USAGE, DONE, b""):
        await line.relay.receive({"type": "http.response.body", "body": part, "more_body": True})
    line.relay.ending()
    await line.finish()
    assert line.body == said("a") + said("b") + COMMENTS + DONE


async def test_a_live_stream_without_an_end_still_carries_its_change() -> None:
    line = Line(live=True)
    await line.get(said("a"), event(error={"message": "cut"}), b"", headers=EVENTS)
    assert line.relay.ending().reading.error == {"message": "cut"}
    await line.finish()
    assert line.body == said("a") + event(error={"message": "cut"}) + COMMENTS


async def test_an_event_that_was_cut_off_does_not_swallow_the_change() -> None:
    line = Line(live=True)
    await line.get(said("a"), b'data: {"choi', headers=EVENTS)
    line.relay.ending()
    await line.finish()
    assert line.body == said("a") + COMMENTS + b'data: {"choi'


async def test_a_line_without_end_does_not_swallow_the_change() -> None:
    line = Line(live=True)
    await line.get(said("a"), b"x" * 3_000_000, headers=EVENTS)
    line.relay.ending()
    await line.finish()
    assert {b": otrta paid=10000 cost=110 fee=0 change=9890", b": x-cashu cashuBchange"} <= set(
        line.body.split(b"\n")
    )


async def test_a_stream_that_is_cut_in_its_end_is_whole_again() -> None:
    line = Line(live=True)
    await line.get(said("a") + b"data: [DO", b"NE]\n\n", headers=EVENTS)
    line.relay.ending()
    await line.finish()
    assert line.body == said("a") + COMMENTS + DONE


@pytest.mark.parametrize("live", [False, True])
async def test_a_stream_that_fails_before_anything_came_is_an_ordinary_error(live: bool) -> None:
    line = Line(live=live)
    error = {"message": "upstream away", "code": "503"}
    await line.get(event(error=error), b"", headers=EVENTS)
    assert line.sent == []
    assert not line.relay.ending().reading.delivered
    await line.finish()
    assert (line.status, json.loads(line.body)) == (503, {"error": error})
    assert line.headers[b"content-type"] == b"application/json"
    assert line.headers[b"x-cashu"] == b"cashuBchange"


@pytest.mark.parametrize(
    ("code", "status"), [("429", 429), (None, 502), ("x", 502), ("200", 502), (500, 500)]
)
async def test_an_errors_own_code_is_its_status_where_it_is_one(code: object, status: int) -> None:
    line = Line()
    await line.get(event(error={"message": "x", "code": code}), headers=EVENTS)
    line.relay.ending()
    await line.finish()
    assert line.status == status


async def test_a_stream_over_the_bound_goes_live() -> None:
    line = Line(buffer_bytes=200)
    await line.get(said("x" * 150), said("y" * 150), ONLY_USAGE, DONE, headers=EVENTS)
    assert line.sent
    line.relay.ending()
    await line.finish()
    assert line.body == said("x" * 150) + said("y" * 150) + COMMENTS + DONE
    assert b"x-cashu" not in line.headers


async def test_another_answer_over_the_bound_goes_out_without_its_change() -> None:
    line = Line(buffer_bytes=100)
    await line.get(b"x" * 80, b"y" * 80, b"z", headers=JSON)
    ending = line.relay.ending()
    assert (ending.reading.usage, ending.reading.text_bytes) == (None, 161)
    await line.finish()
    assert line.body == b"x" * 80 + b"y" * 80 + b"z"
    assert line.headers[b"x-otrta-change"] == b"claim"
    assert set(line.headers) & {b"x-cashu", b"content-length", b"x-otrta-cost-msat"} == set()


async def test_what_is_held_is_counted_while_it_is_held() -> None:
    line = Line()
    await line.get(b"x" * 300, end=False)
    assert line.held.total == 300
    line.relay.drop()
    assert line.held.total == 0
    assert not HeldBytes(1).full
    line.held.total = 10_000
    assert line.held.full


async def test_an_answer_that_never_began_is_none() -> None:
    line = Line()
    assert not line.relay.whole
    assert line.relay.ending().status == 500
    line.relay.replace(500, b"{}")
    await line.finish()
    assert (line.status, line.body) == (500, b"{}")
    assert line.headers[b"x-cashu"] == b"cashuBchange"


async def test_an_answer_that_broke_off_is_not_passed_off_as_whole() -> None:
    line = Line()
    await line.get(b'{"half": ', end=False)
    assert not line.relay.whole
    assert line.relay.ending().status == 500
    line.relay.replace(500, b'{"error": {}}')
    await line.finish()
    assert (line.status, line.body) == (500, b'{"error": {}}')


async def test_an_error_may_be_replaced_and_keeps_nothing_of_what_it_was() -> None:
    line = Line()
    await line.get(b"the answer", status=500, headers=[*JSON, (b"retry-after", b"7")])
    assert line.relay.whole
    line.relay.ending()
    line.relay.replace(500, b"{}")
    await line.finish()
    assert line.body == b"{}"
    assert b"retry-after" not in line.headers


async def test_what_is_on_its_way_cannot_be_replaced() -> None:
    line = Line(live=True)
    await line.get(said("a"), headers=EVENTS)
    line.relay.ending()
    line.relay.replace(500, b"{}")
    await line.finish()
    assert line.body == said("a") + COMMENTS


@pytest.mark.parametrize("live", [False, True])
async def test_a_payment_that_cannot_be_settled_points_to_the_change_route(live: bool) -> None:
    line = Line(live=live)
    await line.get(said("a"), headers=EVENTS)
    line.relay.ending()
    await line.relay.give_up(500, b"{}")
    if live:
        assert line.body == said("a")
    else:
        assert (line.status, line.body) == (500, b"{}")
        assert line.headers[b"x-otrta-change"] == b"claim"
        assert b"x-cashu" not in line.headers
    assert line.sent[-1]["more_body"] is False


async def test_headers_that_browsers_need_pass_and_those_of_litellm_do_not() -> None:
    line = Line()
    passed = [
        (b"Vary", b"Origin"),
        (b"access-control-allow-origin", b"*"),
        (b"retry-after", b"3"),
        (b"x-frame-options", b"DENY"),
    ]
    dropped = [
        (b"set-cookie", b"a=b"),
        (b"llm_provider-x", b"y"),
        (b"x-ratelimit-remaining", b"5"),
        (b"server", b"uvicorn"),
        (b"x-cashu", b"cashuBforged"),
        (b"x-otrta-cost-msat", b"0"),
        (b"content-encoding", b"gzip"),
    ]
    await line.get(b"{}", headers=[*JSON, *passed, *dropped])
    line.relay.ending()
    await line.finish()
    assert all(line.headers[name.lower()] == value for name, value in passed)
    assert {name for name, _ in dropped} & set(line.headers) == {b"x-cashu", b"x-otrta-cost-msat"}
    assert line.headers[b"x-cashu"] == b"cashuBchange"


async def test_how_far_a_live_stream_has_come_is_noted_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NOTE_EVERY_S", -1)
    line = Line(live=True)
    await line.get(said("a"), said("b"), said("c"), headers=EVENTS)
    assert line.noted == [1, 2, 3]


async def test_usage_is_shown_to_who_asked_for_it() -> None:
    line = Line(live=True, show_usage=True)
    await line.get(said("a"), ONLY_USAGE, DONE, headers=EVENTS)
    line.relay.ending()
    await line.finish()
    assert line.body == said("a") + ONLY_USAGE + COMMENTS + DONE


def kinded(kind: Kind) -> Payment:
    return payment(call=replace(CALL, kind=kind))


async def test_an_anthropic_stream_that_fails_at_once_is_an_error_of_its_shape() -> None:
    line = Line(live=True, of=kinded("messages"))
    error = {"type": "overloaded_error", "message": "busy"}
    failed = b"event: error\n" + event(type="error", error=error)
    await line.get(failed, headers=EVENTS)
    ending = line.relay.ending()
    assert (ending.status, ending.failed) == (529, True)
    await line.finish()
    assert (line.status, json.loads(line.body)) == (529, {"type": "error", "error": error})
    assert line.headers[b"x-cashu"] == b"cashuBchange"


async def test_an_anthropic_stream_ends_with_its_change_behind_its_last_event() -> None:
    line = Line(live=True, of=kinded("messages"))
    stop = b"event: message_stop\n" + event(type="message_stop")
    await line.get(block("a"), stop, b"", headers=EVENTS)
    line.relay.ending()
    await line.finish()
    assert line.body == block("a") + stop + COMMENTS


async def test_an_error_that_came_as_a_200_is_an_error() -> None:
    line = Line(of=kinded("messages"))
    error = {"type": "api_error", "message": "not JSON"}
    await line.get(json.dumps({"type": "error", "error": error}).encode())
    ending = line.relay.ending()
    assert (ending.status, ending.failed) == (502, True)
    await line.finish()
    assert (line.status, json.loads(line.body)["error"]) == (502, error)


async def test_an_answer_that_says_it_failed_is_passed_on_as_it_is() -> None:
    line = Line(of=kinded("responses"))
    body = json.dumps({"status": "failed", "error": {"code": "server_error"}, "output": []}).encode()
    await line.get(body)
    ending = line.relay.ending()
    assert (ending.status, ending.failed) == (200, True)
    await line.finish()
    assert (line.status, line.body) == (200, body)


async def test_an_anthropic_stream_is_read_to_its_end_when_the_caller_is_gone() -> None:
    line = Line(live=True, of=kinded("messages"))
    assert line.relay.outlives_caller
    await line.get(block("a"), end=False, headers=EVENTS)
    line.gone = True
    for part in (block("b"), over(output_tokens=20)):
        await line.relay.receive({"type": "http.response.body", "body": part, "more_body": True})
    reading = line.relay.ending().reading
    assert (reading.text, reading.final) == ("ab", True)
    await line.relay.finish(AFTER, SETTLED)
    assert line.body == block("a")


async def test_a_stream_of_a_model_whose_reasoning_has_a_price_is_read_to_its_end() -> None:
    reasons = replace(PAYMENT, price=replace(PAYMENT.price, reasoning_msat_per_mtok=5_000_000))
    line = Line(live=True, of=reasons)
    await line.get(said("a"), end=False, headers=EVENTS)
    line.gone = True
    last = said("b", usage={"prompt_tokens": 10, "completion_tokens": 2000})
    await line.relay.receive({"type": "http.response.body", "body": last, "more_body": True})
    usage = line.relay.ending().reading.usage
    assert usage is not None
    assert usage.completion_tokens == 2000


async def test_of_other_streams_litellm_hears_that_the_caller_is_gone() -> None:
    line = Line(live=True)
    assert not line.relay.outlives_caller
    line.gone = True
    with pytest.raises(BrokenPipeError):
        await line.get(said("a"), headers=EVENTS)


async def test_an_answer_out_of_litellms_cache_is_known_as_one() -> None:
    line = Line()
    await line.get(b"{}", headers=[*JSON, (b"x-litellm-cache-key", b"abc")])
    assert line.relay.ending().cache_hit
    assert not await cache_hit_without_key()


async def cache_hit_without_key() -> bool:
    line = Line()
    await line.get(b"{}")
    return line.relay.ending().cache_hit


@pytest.mark.parametrize("live", [False, True])
async def test_the_first_event_of_a_live_stream_waits_for_nothing(live: bool) -> None:
    line = Line(live=live)
    await line.get(said("a"), end=False, headers=EVENTS)
    assert (line.body == said("a")) is live
