"""What each kind of call costs however it ends; that every msat is accounted for, here and at the mint."""

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from otrta_cli.processes import Running
from otrta_core import Token
from tests.integration.purse import Purse
from tests.integration.shop import CHAT, COST_MSAT, Reply, Shop
from tests.integration.various import Various, various_gateway

pytestmark = pytest.mark.integration

PAID = 10_000
SSE = {"X-Cashu-Change": "sse"}
MODES: list[dict[str, str]] = [{}, SSE]
LONG = os.environ.get("OTRTA_LONG") == "1"
WAYS: list[dict[str, str] | None] = [None, *MODES] if LONG else [None, SSE]
"""How an answer comes: plain, as a stream that is held, and as one that is live."""
COMPLETIONS, RESPONSES, MESSAGES = "/v1/completions", "/v1/responses", "/v1/messages"
TEXTS = [CHAT, COMPLETIONS, RESPONSES, MESSAGES]
ANSWER = "Each word of this answer is one token , café and 日本 too , so twenty words cost twenty tokens"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def various(parts_home: Path, mint: Running, upstream: Running) -> Iterator[Various]:
    """The gateway of these tests."""
    log = parts_home / "logs/various.log"
    with various_gateway(parts_home / "various", mint, upstream, log) as various:
        yield various


@pytest.fixture
def shop(various: Various) -> Iterator[Shop]:
    """The same, that must add up after each test."""
    yield various.shop
    various.adds_up()


def asked(path: str, model: str = "demo-chat", **fields: Any) -> dict[str, Any]:
    """A call that nobody has made before: no cache knows it."""
    text = f"hi {next(_numbers)}"
    match path:
        case "/v1/completions":
            return {"model": model, "prompt": text, **fields}
        case "/v1/responses":
            return {"model": model, "input": text, **fields}
        case "/v1/messages":
            return {
                "model": model,
                "messages": [{"role": "user", "content": text}],
                "max_tokens": 100,
            } | fields
        case _:
            return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


def cost_of(reply: Reply) -> int:
    """What a call cost, by header or comment; paid is cost, fee and change."""
    if "x-otrta-cost-msat" in reply.headers:
        paid, cost, fee, change = reply.sums
        token = reply.change
    else:
        sums = dict(part.split("=") for part in reply.comments["otrta"].split())
        paid, cost, fee, change = (int(sums[name]) for name in ("paid", "cost", "fee", "change"))
        token = Token.parse(reply.comments["x-cashu"]) if "x-cashu" in reply.comments else None
    assert paid == cost + fee + change
    assert (0 if token is None else token.amount) == change
    return cost


def text_of(path: str, reply: Reply) -> str:
    """The words of an answer, plain or streamed."""
    if not reply.headers["content-type"].startswith("text/event-stream"):
        body = reply.json
        match path:
            case "/v1/responses":
                return "".join(p["text"] for i in body["output"] for p in i.get("content") or ())
            case "/v1/messages":
                return "".join(block.get("text", "") for block in body["content"])
            case "/v1/completions":
                return str(body["choices"][0]["text"])
            case _:
                return str(body["choices"][0]["message"]["content"])
    events = [json.loads(line[6:]) for line in reply.body.decode().splitlines() if line.startswith("data: {")]
    match path:
        case "/v1/responses":
            return "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
        case "/v1/messages":
            deltas = [e["delta"] for e in events if e["type"] == "content_block_delta"]
            return "".join(delta.get("text", "") for delta in deltas)
        case "/v1/completions":
            return "".join(choice.get("text") or "" for e in events for choice in e.get("choices", ()))
        case _:
            return reply.text


@pytest.mark.parametrize("path", TEXTS)
@pytest.mark.parametrize("headers", WAYS)
def test_a_text_costs_what_it_took(
    shop: Shop, purse: Purse, path: str, headers: dict[str, str] | None
) -> None:
    body = asked(path, stream=headers is not None)
    served = shop.buy(purse.token(PAID), body, path=path, headers=headers)
    assert served.status == 200, served.body
    assert text_of(path, served) == ANSWER
    assert cost_of(served) == COST_MSAT


@pytest.mark.parametrize("headers", WAYS)
def test_an_anthropic_upstream_costs_what_it_says(
    shop: Shop, purse: Purse, headers: dict[str, str] | None
) -> None:
    body = asked(MESSAGES, "demo-claude", stream=headers is not None)
    served = shop.buy(purse.token(PAID), body, path=MESSAGES, headers=headers)
    assert text_of(MESSAGES, served) == ANSWER
    assert cost_of(served) == COST_MSAT


def test_change_stands_before_done_or_behind_the_last_event(shop: Shop, purse: Purse) -> None:
    for path in TEXTS:
        served = shop.buy(purse.token(PAID), asked(path, stream=True), path=path, headers=SSE)
        before, _, after = served.body.partition(b": otrta ")
        assert before.endswith(b"\n\n")
        assert after.endswith(b"data: [DONE]\n\n") is (path != MESSAGES)
        assert (b"message_stop" in before) is (path == MESSAGES)


REASONED = {
    # 10 of the prompt, 4 of it cached and, where the API says so, 2 written; 28 of output, 8 of it thought
    CHAT: (4 * 1000 + 4 * 100 + 2 * 1250, 20 * 5000 + 8 * 10_000),
    COMPLETIONS: (4 * 1000 + 4 * 100 + 2 * 1250, 20 * 5000 + 8 * 10_000),
    RESPONSES: (6 * 1000 + 4 * 100, 20 * 5000 + 8 * 10_000),
    MESSAGES: (6 * 1000 + 4 * 100, 28 * 5000),
}


@pytest.mark.parametrize("path", TEXTS)
@pytest.mark.parametrize("stream", [False, True])
def test_cached_and_reasoning_tokens_have_their_own_prices(
    shop: Shop, purse: Purse, path: str, stream: bool
) -> None:
    served = shop.buy(purse.token(PAID), asked(path, "demo-reason", stream=stream), path=path)
    assert cost_of(served) == -(-sum(REASONED[path]) // 1000)


@pytest.mark.parametrize("stream", [False, True])
def test_an_anthropic_cache_is_counted_beside_the_input(shop: Shop, purse: Purse, stream: bool) -> None:
    served = shop.buy(purse.token(PAID), asked(MESSAGES, "claude-reason", stream=stream), path=MESSAGES)
    assert cost_of(served) == -(-(4 * 1000 + 4 * 100 + 2 * 1250 + 28 * 5000) // 1000)


@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])
@pytest.mark.parametrize("stream", [False, True])
def test_calls_of_tools_are_output(shop: Shop, purse: Purse, path: str, stream: bool) -> None:
    body = asked(path, "demo-tool", stream=stream)
    served = shop.buy(purse.token(PAID), body, path=path, headers=SSE)
    assert b"Paris" in served.body
    assert cost_of(served) == 10 + 9 * 5


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("stream", [False, True])
def test_each_of_several_choices_costs(shop: Shop, purse: Purse, path: str, stream: bool) -> None:
    served = shop.buy(purse.token(PAID), asked(path, n=3, stream=stream), path=path)
    assert cost_of(served) == 10 + 3 * 20 * 5


@pytest.mark.parametrize("path", [*TEXTS, "claude"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["nousage", "nullusage"] if LONG else ["nousage"])
def test_unknown_usage_costs_what_can_be_counted(
    shop: Shop, purse: Purse, path: str, stream: bool, fault: str
) -> None:
    model = f"{'claude' if path == 'claude' else 'demo'}-{fault}"
    path = MESSAGES if path == "claude" else path
    served = shop.buy(purse.token(PAID), asked(path, model, stream=stream), path=path)
    assert text_of(path, served) == ANSWER
    assert 80 <= cost_of(served) <= 140


@pytest.mark.parametrize("path", [*TEXTS, "claude"])
@pytest.mark.parametrize("headers", WAYS)
@pytest.mark.parametrize(("fault", "status"), [("500", 500), ("429", 429)] if LONG else [("429", 429)])
def test_what_the_upstream_refuses_costs_nothing(
    shop: Shop, purse: Purse, path: str, headers: dict[str, str] | None, fault: str, status: int
) -> None:
    model = f"{'claude' if path == 'claude' else 'demo'}-{fault}"
    path = MESSAGES if path == "claude" else path
    body = asked(path, model, stream=headers is not None)
    served = shop.buy(purse.token(PAID), body, path=path, headers=headers)
    assert served.status == status
    assert served.sums == (PAID, 0, 0, PAID)
    assert served.change is not None
    assert purse.states(served.change) == {"UNSPENT"}
    assert served.error["message"]
    assert (served.json.get("type") == "error") is (path == MESSAGES)


@pytest.mark.parametrize("path", TEXTS)
@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_that_says_nothing_readable_costs_nothing(
    shop: Shop, purse: Purse, path: str, stream: bool
) -> None:
    served = shop.buy(purse.token(PAID), asked(path, "demo-badjson", stream=stream), path=path)
    assert served.status in (500, 502)
    assert served.sums == (PAID, 0, 0, PAID)
    assert served.error["message"]


def test_a_claude_that_says_nothing_readable_costs_nothing(shop: Shop, purse: Purse) -> None:
    served = shop.buy(purse.token(PAID), asked(MESSAGES, "claude-badjson"), path=MESSAGES)
    assert served.status >= 500
    assert served.sums == (PAID, 0, 0, PAID)


@pytest.mark.parametrize(
    ("path", "model"), [(CHAT, "late"), (RESPONSES, "late"), (MESSAGES, "claude-late"), (CHAT, "unreachable")]
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_that_does_not_answer_costs_nothing(
    shop: Shop, purse: Purse, path: str, model: str, stream: bool
) -> None:
    served = shop.buy(purse.token(PAID), asked(path, model, stream=stream), path=path, headers=SSE)
    assert served.status in (408, 500, 502, 503, 504)
    assert served.sums == (PAID, 0, 0, PAID)


@pytest.mark.parametrize("path", [*TEXTS, "claude"])
@pytest.mark.parametrize("headers", MODES if LONG else [SSE])
def test_a_stream_that_the_upstream_cuts_costs_what_came(
    shop: Shop, purse: Purse, path: str, headers: dict[str, str]
) -> None:
    model = f"{'claude' if path == 'claude' else 'demo'}-cut"
    path = MESSAGES if path == "claude" else path
    served = shop.buy(purse.token(PAID), asked(path, model, stream=True), path=path, headers=headers)
    assert served.status == 200
    assert len(text_of(path, served).split(" ")) >= 9
    assert 30 < cost_of(served) < COST_MSAT


@pytest.mark.parametrize("path", TEXTS)
def test_a_plain_answer_that_the_upstream_cuts_costs_nothing(shop: Shop, purse: Purse, path: str) -> None:
    served = shop.buy(purse.token(PAID), asked(path, "demo-cut"), path=path)
    assert served.status >= 500
    assert served.sums == (PAID, 0, 0, PAID)


def leave(shop: Shop, token: Token, path: str, body: dict[str, Any], after: str) -> None:
    """Read a live stream until some words have come, and hang up."""
    headers = {"X-Cashu": token.encode(), **SSE}
    url = shop.url + path
    with httpx.stream("POST", url, json=body, headers=headers, trust_env=False, timeout=30) as reply:
        for line in reply.iter_lines():
            if after in line:
                return
    raise AssertionError("the stream ended before those words")


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, RESPONSES])
def test_a_caller_who_leaves_a_stream_pays_for_what_was_made(shop: Shop, purse: Purse, path: str) -> None:
    token = purse.token(PAID)
    leave(shop, token, path, asked(path, "demo-slow", stream=True), " this")
    over = shop.wait_until_over(token)
    assert 10 < over.json["cost_msat"] < COST_MSAT
    assert over.json["cost_msat"] + over.json["change_msat"] == PAID


@pytest.mark.parametrize("model", ["demo-slow", "claude-slow"])
def test_of_a_message_litellm_lets_the_upstream_make_all_and_all_is_paid(
    shop: Shop, purse: Purse, model: str
) -> None:
    token = purse.token(PAID)
    leave(shop, token, MESSAGES, asked(MESSAGES, model, stream=True), " this")
    over = shop.wait_until_over(token)
    assert over.json["cost_msat"] == COST_MSAT
    assert over.change is not None
    assert purse.spend(over.change).amount == PAID - COST_MSAT


@pytest.mark.parametrize("stream", [False, True])
def test_a_fallback_costs_the_dearest_that_could_have_answered(
    shop: Shop, purse: Purse, stream: bool
) -> None:
    for model in ("to-dear", "to-cheap"):
        served = shop.buy(purse.token(PAID), asked(CHAT, model, stream=stream))
        assert served.status == 200
        assert cost_of(served) == 3 * COST_MSAT


def test_where_the_fallback_fails_too_nothing_is_charged(shop: Shop, purse: Purse) -> None:
    served = shop.buy(purse.token(PAID), asked(CHAT, "to-none"))
    assert served.status >= 400
    assert served.sums == (PAID, 0, 0, PAID)


@pytest.mark.parametrize("stream", [False, True])
def test_retries_are_charged_once(shop: Shop, purse: Purse, stream: bool) -> None:
    shop.forget_calls()
    served = shop.buy(purse.token(PAID), asked(CHAT, "retried", stream=stream))
    assert served.status == 200
    assert len(shop.calls()) == 3
    assert cost_of(served) == COST_MSAT


@pytest.mark.parametrize(("path", "stream"), [(CHAT, False), (CHAT, True), (COMPLETIONS, False)])
def test_an_answer_out_of_the_cache_is_free_where_the_operator_says_so(
    shop: Shop, purse: Purse, path: str, stream: bool
) -> None:
    body = asked(path, stream=stream)
    first = shop.buy(purse.token(PAID), body, path=path)
    shop.forget_calls()
    again = shop.buy(purse.token(PAID), body, path=path)
    assert shop.calls() == []
    assert text_of(path, again) == text_of(path, first) == ANSWER
    assert (cost_of(first), cost_of(again)) == (COST_MSAT, 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_without_a_price_per_token_is_bought_with_a_token_and_costs_nothing(
    shop: Shop, purse: Purse, stream: bool
) -> None:
    body = asked(CHAT, "free", stream=stream)
    refused = shop.ask(body)
    assert (refused.status, refused.error["required_msat"]) == (402, 0)
    assert (refused.request.amount or 0) >= 1
    served = shop.buy(purse.token(1), body)
    assert served.status == 200
    assert cost_of(served) == 0
    assert served.change is not None
    assert purse.states(served.change) == {"UNSPENT"}


@pytest.mark.parametrize("path", TEXTS)
def test_without_a_limit_the_payment_caps_the_output(shop: Shop, purse: Purse, path: str) -> None:
    body = asked(path)
    body.pop("max_tokens", None)
    text = body.get("prompt") or body.get("input") or body["messages"][0]["content"]
    served = shop.buy(purse.token(48 + len(text) + 18 * 5 + 4), body, path=path)
    assert served.status == 200
    assert len(text_of(path, served).split(" ")) < len(ANSWER.split(" "))
    assert cost_of(served) == 10 + 18 * 5


def test_an_answer_that_the_operators_check_refuses_is_paid_for_or_unseen(shop: Shop, purse: Purse) -> None:
    for model in ("checked", "checked-broken"):
        served = shop.buy(purse.token(PAID), asked(CHAT, model))
        assert served.status >= 400
        seen = "Each word" in served.body.decode()
        assert cost_of(served) == (COST_MSAT if seen else 0)


@pytest.mark.parametrize(("path", "limit"), [(RESPONSES, "max_output_tokens"), (MESSAGES, "max_tokens")])
def test_a_small_limit_costs_what_litellm_makes_of_it(
    shop: Shop, purse: Purse, path: str, limit: str
) -> None:
    body = asked(path, **{limit: 1})
    required = shop.ask(body, path=path).error["required_msat"]
    assert required == shop.ask(body | {limit: 16}, path=path).error["required_msat"]
    served = shop.buy(purse.token(required), body, path=path)
    assert cost_of(served) == 10 + 16 * 5


def test_a_claude_takes_any_limit(shop: Shop, purse: Purse) -> None:
    served = shop.buy(purse.token(PAID), asked(MESSAGES, "demo-claude", max_tokens=3), path=MESSAGES)
    assert cost_of(served) == 10 + 3 * 5


def test_refusals_on_anthropics_path_have_its_shape(shop: Shop, purse: Purse) -> None:
    token = purse.token(PAID)
    asked_for = shop.ask(asked(MESSAGES, "demo-claude"), path=MESSAGES)
    assert (asked_for.status, asked_for.json["type"], asked_for.code) == (402, "error", "payment_required")
    for path, body, status in (
        (MESSAGES, asked(MESSAGES, "nobody"), 404),
        (MESSAGES, {"model": "demo-claude"}, 400),
        ("/v1/messages/count_tokens", asked(MESSAGES, "demo-claude"), 404),
    ):
        refused = shop.buy(token, body, path=path)
        assert (refused.status, refused.json["type"]) == (status, "error")
    assert shop.ask({}, path="/v1/messages/count_tokens").json["type"] == "error"
    assert purse.states(token) == {"UNSPENT"}


def test_after_all_that_the_mint_agrees_and_nothing_went_wrong_unseen(
    various: Various, shop: Shop, purse: Purse
) -> None:
    shop.buy(purse.token(PAID), asked(CHAT))
    various.is_worth_it(purse)
    log = various.running.log.read_text(errors="replace")
    words = ("gate_failed", "settlement_failed", "upkeep_failed", "payment_not_ended")
    assert [word for word in words if word in log] == []
    assert [text[:12] for text in [*purse.handled, *shop.handled] if text in log] == []
