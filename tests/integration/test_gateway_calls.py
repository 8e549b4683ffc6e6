"""Calls that are paid for: what they cost, what comes back, and in which form."""

import itertools
import socket
import time

import httpx
import pytest

from otrta_core import Token, face_value, split_amount
from tests.integration.purse import Purse
from tests.integration.shop import CHAT, COST_MSAT, EMBEDDINGS, Reply, Shop, chat

pytestmark = pytest.mark.integration

PAID = 10_000
SSE = {"X-Cashu-Change": "sse"}
ANSWER = "Each word of this answer is one token , café and 日本 too , so twenty words cost twenty tokens"


def add_up(reply: Reply) -> int:
    """Check that a stream's comment adds up to what was paid, and return the cost."""
    sums = dict(part.split("=") for part in reply.comments["otrta"].split())
    paid, cost, fee, change = (int(sums[name]) for name in ("paid", "cost", "fee", "change"))
    assert paid == cost + fee + change
    assert Token.parse(reply.comments["x-cashu"]).amount == change
    return cost


def test_a_call_without_a_token_is_told_what_to_pay(shop: Shop, purse: Purse) -> None:
    shop.forget_calls()
    asked = shop.ask()
    assert (asked.status, asked.code) == (402, "payment_required")
    assert (asked.request.unit, asked.request.nut10) == ("msat", None)
    assert purse.mint in asked.request.mints
    assert asked.headers["cache-control"] == "no-store"
    assert "X-Cashu" in asked.headers["access-control-expose-headers"]
    assert shop.calls() == []


def test_the_402_names_the_quote_with_the_fee_of_the_dearest_mint(shop: Shop) -> None:
    # 2 bytes of text + 16 + 32 at 1 msat, and 1024 tokens at 5 msat where no limit is given
    assert shop.ask().error["required_msat"] == 50 + 1024 * 5
    limited = shop.ask(chat(max_tokens=20))
    assert limited.error["required_msat"] == 50 + 20 * 5
    assert limited.request.amount == face_value(150, 100)
    assert shop.ask(chat(max_tokens=7, max_completion_tokens=20)).error["required_msat"] == 150
    assert shop.ask(chat(max_tokens=20, n=3)).error["required_msat"] == 50 + 60 * 5
    assert shop.ask({"model": "demo-embed", "input": "hi"}, path=EMBEDDINGS).error["required_msat"] == 50


def test_what_the_402_asks_for_is_accepted_and_the_rest_comes_back(shop: Shop, purse: Purse) -> None:
    amount = shop.ask().request.amount or 0
    token = purse.token(amount)
    served = shop.buy(token)
    assert served.status == 200
    assert served.sums == (amount, COST_MSAT, 0, amount - COST_MSAT)
    assert served.json["choices"][0]["message"]["content"] == ANSWER
    assert served.change is not None
    assert (served.change.amount, served.change.unit) == (amount - COST_MSAT, "msat")
    assert served.change.mint == purse.mint
    assert len(served.change.proofs) <= served.change.amount.bit_length()
    assert purse.states(token) == {"SPENT"}
    assert purse.states(served.change) == {"UNSPENT"}
    assert purse.spend(served.change).amount == amount - COST_MSAT


def test_the_answer_shows_its_sums_to_browsers_and_nothing_of_litellm(shop: Shop, purse: Purse) -> None:
    served = shop.buy(purse.token(PAID), headers={"Origin": "https://app.example"})
    exposed = served.headers["access-control-expose-headers"]
    assert all(name in exposed for name in ("X-Cashu", "X-Otrta-Cost-Msat", "X-Otrta-Change-Msat"))
    assert served.headers["access-control-allow-origin"] == "*"
    assert served.headers["cache-control"] == "no-store"
    assert int(served.headers["content-length"]) == len(served.body)
    told = [name for name in served.headers if name.startswith(("x-litellm", "llm_provider", "x-ratelimit"))]
    assert told == []
    assert "set-cookie" not in served.headers


def test_nothing_that_names_the_caller_reaches_the_upstream(shop: Shop, purse: Purse) -> None:
    shop.forget_calls()
    spying = {
        "Authorization": "Bearer sk-of-the-caller",
        "Cookie": "who=spied",
        "X-Forwarded-For": "spied.example",
        "X-Litellm-Tags": "spied",
        "X-Litellm-Num-Retries": "3",
        "Openai-Organization": "spied",
        "X-Spy": "spied",
    }
    body = chat(user="spied", metadata={"who": "spied"}, safety_identifier="spied", store=True)
    assert shop.buy(purse.token(PAID), body, headers=spying).status == 200
    (call,) = shop.calls()
    names = {name for name, _ in call["headers"]}
    assert not {name for name in names if name.startswith(("x-cashu", "x-spy", "x-litellm", "cookie"))}
    assert "spied" not in str(call["headers"])
    assert "spy-agent" not in str(call["headers"])
    assert "spied" not in str(call["body"])
    assert set(call["body"]) <= {"model", "messages", "max_tokens"}


@pytest.mark.parametrize("version", [3, 4])
def test_tokens_of_both_versions_pay(shop: Shop, purse: Purse, version: int) -> None:
    served = shop.buy(purse.token(PAID, dleq=True).encode(version))
    assert (served.status, served.sums[1]) == (200, COST_MSAT)


def test_change_pays_for_the_next_call_as_it_is(shop: Shop, purse: Purse) -> None:
    first = shop.buy(purse.token(PAID))
    assert first.change is not None
    second = shop.buy(first.change)
    assert second.sums == (PAID - COST_MSAT, COST_MSAT, 0, PAID - 2 * COST_MSAT)
    assert purse.states(first.change) == {"SPENT"}


def test_a_limit_is_passed_on_and_bounds_the_price(shop: Shop, purse: Purse) -> None:
    shop.forget_calls()
    served = shop.buy(purse.token(200), chat(max_tokens=5))
    assert served.sums == (200, 10 + 5 * 5, 0, 200 - 35)
    assert shop.calls()[0]["body"]["max_tokens"] == 5


def test_without_a_limit_what_is_paid_caps_the_output(shop: Shop, purse: Purse) -> None:
    shop.forget_calls()
    served = shop.buy(purse.token(50 + 18 * 5 + 4))
    assert served.status == 200
    assert shop.calls()[0]["body"]["max_tokens"] == 18
    assert served.json["usage"]["completion_tokens"] == 18
    assert served.sums[1] == 10 + 18 * 5


def test_embeddings_are_sold(shop: Shop, purse: Purse) -> None:
    served = shop.buy(purse.token(1000), {"model": "demo-embed", "input": ["hi", "ho"]}, path=EMBEDDINGS)
    assert len(served.json["data"]) == 2
    assert served.sums == (1000, 10, 0, 990)


@pytest.mark.parametrize("path", ["/chat/completions", "/embeddings"])
def test_litellms_short_names_of_paths_are_sold_too(shop: Shop, purse: Purse, path: str) -> None:
    body = chat() if "chat" in path else {"model": "demo-embed", "input": "hi"}
    assert shop.buy(purse.token(PAID), body, path=path).status == 200


def test_a_sat_token_pays_whole_sats_rounded_up(shop: Shop, purse: Purse) -> None:
    served = shop.buy(purse.token(6, "sat"))
    assert served.sums == (6000, 1000, 0, 5000)
    assert served.change is not None
    assert (served.change.amount, served.change.unit) == (5, "sat")


def test_the_fee_of_redeeming_is_the_payers_and_foreseeable(shop: Shop, fee_purse: Purse) -> None:
    token = fee_purse.token(PAID)
    served = shop.buy(token)
    fee = -(-len(token.proofs) * 100 // 1000)
    assert served.sums == (PAID, COST_MSAT, fee, PAID - COST_MSAT - fee)
    assert served.change is not None
    assert fee_purse.states(served.change) == {"UNSPENT"}


def test_a_face_value_of_a_is_enough_in_however_many_proofs(shop: Shop, fee_purse: Purse) -> None:
    amount = shop.ask(chat(max_tokens=20)).request.amount or 0
    token = fee_purse.token(amount, parts=[1] * 58 + split_amount(amount - 58))
    assert 60 < len(token.proofs) <= 64
    served = shop.buy(token, chat(max_tokens=20))
    fee = -(-len(token.proofs) * 100 // 1000)
    assert served.status == 200
    assert served.sums == (amount, COST_MSAT, fee, amount - COST_MSAT - fee)


@pytest.mark.parametrize(
    ("model", "status"), [("demo-500", 500), ("demo-429", 429), ("demo-badjson", 500), ("demo-cut", 500)]
)
def test_a_failed_call_costs_nothing(shop: Shop, purse: Purse, model: str, status: int) -> None:
    served = shop.buy(purse.token(PAID), chat(model))
    assert served.status == status
    assert served.error["message"]
    assert served.sums == (PAID, 0, 0, PAID)
    assert served.change is not None
    assert purse.states(served.change) == {"UNSPENT"}


@pytest.mark.parametrize(("model", "status"), [("demo-500", 500), ("demo-429", 429), ("demo-badjson", 500)])
@pytest.mark.parametrize("headers", [{}, SSE])
def test_a_stream_that_fails_before_it_begins_is_an_ordinary_error(
    shop: Shop, purse: Purse, model: str, status: int, headers: dict[str, str]
) -> None:
    served = shop.buy(purse.token(PAID), chat(model, stream=True), headers=headers)
    assert served.status == status
    assert served.headers["content-type"] == "application/json"
    assert served.sums == (PAID, 0, 0, PAID)
    assert served.change is not None


def test_the_upstreams_own_words_come_through(shop: Shop, purse: Purse) -> None:
    assert "as demo-500 always does" in shop.buy(purse.token(PAID), chat("demo-500")).error["message"]


def test_an_answer_without_usage_costs_what_can_be_counted(shop: Shop, purse: Purse) -> None:
    plain = shop.buy(purse.token(PAID), chat("demo-nousage"))
    stream = shop.buy(purse.token(PAID), chat("demo-nousage", stream=True))
    null = shop.buy(purse.token(PAID), chat("demo-nullusage"))
    assert plain.sums[1] == null.sums[1]
    for served in (plain, stream):
        assert 80 <= served.sums[1] <= 140


def test_a_usage_that_is_taken_back_counts_all_the_same(shop: Shop, purse: Purse) -> None:
    assert shop.buy(purse.token(PAID), chat("demo-nullusage", stream=True)).sums[1] == COST_MSAT


def test_embeddings_without_usage_cost_something(shop: Shop, purse: Purse) -> None:
    served = shop.buy(purse.token(PAID), {"model": "demo-nousage", "input": "hi" * 50}, path=EMBEDDINGS)
    assert 0 < served.sums[1] < 200


def test_a_plain_client_finds_a_streams_change_in_the_header(shop: Shop, purse: Purse) -> None:
    served = shop.buy(purse.token(PAID), chat(stream=True))
    assert served.headers["content-type"].startswith("text/event-stream")
    assert served.sums == (PAID, COST_MSAT, 0, PAID - COST_MSAT)
    assert served.text == ANSWER
    assert served.body.endswith(b"data: [DONE]\n\n")
    assert served.comments == {}
    assert b'"usage"' not in served.body


def test_a_stream_that_is_passed_on_ends_with_its_change(shop: Shop, purse: Purse) -> None:
    served = shop.buy(purse.token(PAID), chat(stream=True), headers=SSE)
    assert (served.headers["x-otrta-paid-msat"], served.headers["x-otrta-fee-msat"]) == (str(PAID), "0")
    assert not {"x-cashu", "x-otrta-cost-msat", "x-otrta-change-msat"} & set(served.headers)
    assert served.text == ANSWER
    assert b'"usage"' not in served.body
    lines = served.body.split(b"\n")
    assert lines[-6].startswith(b": otrta paid=10000 cost=110 fee=0 change=9890")
    assert lines[-5].startswith(b": x-cashu cashuB")
    assert lines[-4:] == [b"", b"data: [DONE]", b"", b""]
    assert add_up(served) == COST_MSAT
    assert purse.states(Token.parse(served.comments["x-cashu"])) == {"UNSPENT"}


@pytest.mark.parametrize("headers", [{}, SSE])
def test_usage_is_shown_to_who_asks_for_it(shop: Shop, purse: Purse, headers: dict[str, str]) -> None:
    body = chat(stream=True, stream_options={"include_usage": True})
    served = shop.buy(purse.token(PAID), body, headers=headers)
    assert served.body.count(b'"usage":{') == 1


def test_a_caller_cannot_switch_usage_off(shop: Shop, purse: Purse) -> None:
    body = chat(stream=True, stream_options={"include_usage": False})
    assert shop.buy(purse.token(PAID), body).sums[1] == COST_MSAT


def test_the_words_of_a_stream_come_as_they_are_made(shop: Shop, purse: Purse) -> None:
    arrived = []
    headers = {"X-Cashu": purse.token(PAID).encode(), **SSE}
    with httpx.stream(
        "POST", shop.url + CHAT, json=chat("demo-slow", stream=True), headers=headers, trust_env=False
    ) as reply:
        for line in reply.iter_lines():
            if line.startswith("data: {"):
                arrived.append(time.monotonic())
    assert len(arrived) >= 20
    assert arrived[-1] - arrived[0] > 1.5
    assert max(b - a for a, b in itertools.pairwise(arrived)) < 1.2


def test_change_comments_are_for_streams_only(shop: Shop, purse: Purse) -> None:
    served = shop.buy(purse.token(PAID), headers=SSE)
    assert served.headers["content-type"] == "application/json"
    assert served.sums[1] == COST_MSAT
    assert served.change is not None


@pytest.mark.parametrize("headers", [{}, SSE])
def test_a_stream_that_is_cut_costs_what_came(shop: Shop, purse: Purse, headers: dict[str, str]) -> None:
    served = shop.buy(purse.token(PAID), chat("demo-cut", stream=True), headers=headers)
    assert served.status == 200
    assert b"[DONE]" not in served.body
    assert len(served.text.split(" ")) >= 9
    cost = add_up(served) if headers else served.sums[1]
    assert 30 < cost < COST_MSAT


@pytest.mark.parametrize("headers", [{}, SSE])
def test_text_that_looks_like_a_stream_is_text(shop: Shop, purse: Purse, headers: dict[str, str]) -> None:
    plain = shop.buy(purse.token(PAID), chat("demo-datatext"))
    stream = shop.buy(purse.token(PAID), chat("demo-datatext", stream=True), headers=headers)
    text = plain.json["choices"][0]["message"]["content"]
    assert "data: [DONE]" in text
    assert stream.text == text
    assert plain.sums[1] == COST_MSAT
    assert (add_up(stream) if headers else stream.sums[1]) == COST_MSAT
    assert stream.body.count(b"\n: otrta ") == (1 if headers else 0)


def test_an_answer_over_the_bound_leaves_its_change_at_the_change_route(shop: Shop, purse: Purse) -> None:
    token = purse.token(PAID)
    served = shop.buy(token, chat("demo-big"))
    assert served.status == 200
    assert len(served.json["choices"][0]["message"]["content"]) == 50_000_000
    assert served.headers["x-otrta-change"] == "claim"
    assert "x-cashu" not in served.headers
    left = shop.change(token)
    assert (left.status, left.json["cost_msat"]) == (200, COST_MSAT)
    assert left.change is not None
    assert left.change.amount == PAID - COST_MSAT


def leave(port: int, token: Token, body: dict[str, object], after: bytes, headers: str = "") -> None:
    """Send a call and hang up once `after` has come."""
    raw = httpx.Request("POST", "http://x/", json=body).content
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(raw)}\r\nX-Cashu: {token.encode()}\r\n{headers}\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head.encode() + raw)
        seen = b""
        while after not in seen:
            seen += connection.recv(65536)


def test_a_caller_who_leaves_a_plain_call_pays_for_it_and_can_fetch_the_rest(
    shop: Shop, purse: Purse
) -> None:
    token = purse.token(PAID)
    leave(int(shop.url.rsplit(":", 1)[1]), token, chat("demo-slow"), b"")
    assert shop.wait_until_taken(token).status == 202
    over = shop.wait_until_over(token)
    assert over.json["cost_msat"] == COST_MSAT
    assert over.change is not None
    assert purse.spend(over.change).amount == PAID - COST_MSAT


def test_a_caller_who_leaves_a_stream_pays_for_what_was_made(shop: Shop, purse: Purse) -> None:
    token = purse.token(PAID)
    port = int(shop.url.rsplit(":", 1)[1])
    leave(port, token, chat("demo-slow", stream=True), b" this", "X-Cashu-Change: sse\r\n")
    over = shop.wait_until_over(token)
    assert 0 < over.json["cost_msat"] < COST_MSAT
    assert over.json["cost_msat"] + over.json["change_msat"] == PAID
