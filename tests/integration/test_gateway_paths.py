"""Every kind of call that can be bought, on each of its paths: what is asked, what it costs, what goes up."""

import io
import json
import wave
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from otrta_cli.processes import MASTER_KEY
from otrta_cli.upstream.audio import SOUND
from otrta_core import Token, face_value
from tests.integration.purse import Purse
from tests.integration.shop import HI, Reply, Shop

pytestmark = pytest.mark.integration

PAID = 60_000
DEAREST_PPK = 100
PNG = b"\x89PNG\r\n\x1a\n" + b"not really a picture"
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def wav(seconds: float) -> bytes:
    """A silent sound."""
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(8000)
        sound.writeframes(b"\x80" * int(8000 * seconds))
    return out.getvalue()


Files = list[tuple[str, tuple[str, bytes, str]]]


@dataclass(frozen=True)
class Call:
    """A call of one kind, with what it is to cost.

    Attributes:
        paths: all that sell it; the first is used where one is enough.
        fields: of its body or form.
        quote: the bound, by hand, in msat.
        cost: the exact cost, by hand, in msat.
        answer: a part of the answer's body.
        files: of a form.
        goes_up: the path and some of the body that the upstream gets.
    """

    paths: tuple[str, ...]
    fields: dict[str, Any]
    quote: int
    cost: int
    answer: bytes
    files: Files = field(default_factory=list)
    goes_up: tuple[str, dict[str, Any]] = ("", {})

    def of(self, model: str | None = None, **fields: Any) -> dict[str, Any]:
        """What Shop sends."""
        return request(self.fields | ({"model": model} if model else {}) | fields, self.files)


def request(fields: dict[str, Any], files: Files) -> dict[str, Any]:
    """What Shop sends: JSON, or a form where there are files."""
    if not files:
        return {"content": json.dumps(fields).encode(), "headers": {"Content-Type": "application/json"}}
    made = httpx.Request("POST", "http://gateway", data=fields, files=files)
    return {"content": made.read(), "headers": {"Content-Type": made.headers["content-type"]}}


def aliases(end: str, *more: str) -> tuple[str, ...]:
    return (f"/v1/{end}", f"/{end}", *more)


# Prompts are bounded by 32 + 16 + their two bytes, and have 10 tokens of 1 msat; output tokens cost 5 msat.
CALLS: dict[str, Call] = {
    "chat": Call(
        aliases(
            "chat/completions",
            "/engines/demo-chat/chat/completions",
            "/openai/deployments/demo-chat/chat/completions",
        ),
        {"model": "demo-chat", "messages": HI, "max_tokens": 20},
        quote=50 + 20 * 5,
        cost=10 + 20 * 5,
        answer=b"twenty words cost twenty tokens",
        goes_up=("/v1/chat/completions", {"max_tokens": 20}),
    ),
    "completions": Call(
        aliases("completions", "/engines/demo-chat/completions", "/openai/deployments/demo-chat/completions"),
        {"model": "demo-chat", "prompt": "hi", "max_tokens": 20},
        quote=50 + 20 * 5,
        cost=10 + 20 * 5,
        answer=b"twenty words cost twenty tokens",
        goes_up=("/v1/completions", {"prompt": "hi", "max_tokens": 20}),
    ),
    "embeddings": Call(
        aliases("embeddings", "/engines/demo-embed/embeddings", "/openai/deployments/demo-embed/embeddings"),
        {"model": "demo-embed", "input": "hi"},
        quote=50,
        cost=10,
        answer=b'"embedding"',
        goes_up=("/v1/embeddings", {"input": "hi"}),
    ),
    "responses": Call(
        aliases("responses", "/openai/v1/responses"),
        {"model": "demo-chat", "input": "hi", "max_output_tokens": 20, "store": True},
        quote=50 + 20 * 5,
        cost=10 + 20 * 5,
        answer=b"twenty words cost twenty tokens",
        goes_up=("/v1/responses", {"max_output_tokens": 20, "store": False}),
    ),
    "messages": Call(
        ("/v1/messages",),
        {"model": "demo-claude", "messages": HI, "max_tokens": 20},
        # the dearest input is a write to the cache
        quote=-(-50 * 5 // 4) + 20 * 5,
        cost=10 + 20 * 5,
        answer=b"twenty words cost twenty tokens",
        goes_up=("/v1/v1/messages", {"max_tokens": 20}),
    ),
    "images": Call(
        aliases("images/generations", "/openai/deployments/demo-image/images/generations"),
        {"model": "demo-image", "prompt": "hi", "n": 2, "size": "1024x1024"},
        quote=50 + 2 * 5000,
        cost=10 + 2 * 5000,
        answer=b'"b64_json"',
        goes_up=("/v1/images/generations", {"prompt": "hi", "n": 2, "size": "1024x1024"}),
    ),
    "image_edits": Call(
        aliases("images/edits", "/openai/deployments/demo-image/images/edits"),
        {"model": "demo-image", "prompt": "hi", "n": "2"},
        quote=50 + 2 * 100 + 2 * 5000,
        cost=10 + 2 * 90 + 2 * 5000,
        answer=b'"b64_json"',
        files=[("image", ("cat.PNG", PNG, "image/png")), ("mask", ("mask.png", PNG, "image/png"))],
        goes_up=("/v1/images/edits", {"prompt": "hi", "n": "2"}),
    ),
    "speech": Call(
        aliases("audio/speech"),
        {"model": "demo-speech", "input": "café", "voice": "alloy", "response_format": "mp3"},
        quote=4 * 15,
        cost=4 * 15,
        answer=SOUND,
        goes_up=("/v1/audio/speech", {"input": "café", "voice": "alloy"}),
    ),
    "transcriptions": Call(
        aliases("audio/transcriptions"),
        {"model": "demo-transcribe", "response_format": "json", "language": "en"},
        # the header of the file is counted as sound, too
        quote=3 * 100,
        cost=2 * 100,
        answer=b"twenty words cost twenty tokens",
        files=[("file", ("secret name.wav", wav(2), "audio/wav"))],
        goes_up=("/v1/audio/transcriptions", {"language": "en"}),
    ),
    "rerank": Call(
        aliases("rerank", "/v2/rerank"),
        {"model": "demo-rerank", "query": "hi", "documents": ["a"] * 101, "top_n": 3},
        quote=2 * 2000,
        cost=2 * 2000,
        answer=b'"relevance_score"',
        goes_up=("/v1/v2/rerank", {"query": "hi", "top_n": 3}),
    ),
    "moderations": Call(
        aliases("moderations"),
        {"model": "demo-moderate", "input": ["hi", "ho"]},
        quote=50,
        cost=50,
        answer=b'"flagged":false',
        goes_up=("/v1/moderations", {"input": ["hi", "ho"]}),
    ),
}
EACH = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
ALIASES = [(name, path) for name, call in CALLS.items() for path in call.paths]


def conserved(reply: Reply, purse: Purse, paid: int, cost: int) -> Token:
    """Check that nothing of a payment is missing, by its sums and at the mint, and return its change."""
    assert reply.sums == (paid, cost, 0, paid - cost)
    assert reply.change is not None
    assert reply.change.amount == paid - cost
    assert purse.states(reply.change) == {"UNSPENT"}
    return reply.change


@pytest.mark.parametrize(("name", "path"), ALIASES, ids=[path for _, path in ALIASES])
def test_each_path_says_what_it_asks_for(shop: Shop, name: str, path: str) -> None:
    call = CALLS[name]
    shop.forget_calls()
    asked = shop.ask(path=path, **call.of())
    assert (asked.status, asked.code) == (402, "payment_required")
    assert asked.error["required_msat"] == call.quote
    assert asked.request.amount == face_value(call.quote, DEAREST_PPK)
    assert shop.calls() == []


@EACH
def test_each_kind_costs_exactly_what_it_used(shop: Shop, purse: Purse, call: Call) -> None:
    shop.forget_calls()
    token = purse.token(face_value(call.quote, DEAREST_PPK))
    served = shop.buy(token, path=call.paths[0], **call.of())
    assert served.status == 200, served.body
    assert call.answer in served.body
    paid = token.amount
    if paid > call.cost:
        conserved(served, purse, paid, call.cost)
    kept = shop.change(token).json
    assert kept["state"] == "settled"
    assert (kept["paid_msat"], kept["cost_msat"], kept["fee_msat"]) == (paid, call.cost, 0)
    assert kept["change_msat"] == paid - call.cost
    assert purse.states(token) == {"SPENT"}
    (seen,) = shop.calls()
    path, body = call.goes_up
    assert (seen["path"], seen["model"]) == (path, call.fields["model"])
    assert body.items() <= seen["body"].items()
    headers = str(seen["headers"]).lower()
    assert "cashu" not in headers + json.dumps(seen["body"]).lower()


@pytest.mark.parametrize(
    ("name", "path"),
    [(name, path) for name, path in ALIASES if path != CALLS[name].paths[0]],
    ids=[path for _, path in ALIASES if path not in {call.paths[0] for call in CALLS.values()}],
)
def test_each_alias_sells_the_same(shop: Shop, purse: Purse, name: str, path: str) -> None:
    call = CALLS[name]
    served = shop.buy(purse.token(PAID), path=path, **call.of())
    assert served.status == 200, served.body
    assert call.answer in served.body
    conserved(served, purse, PAID, call.cost)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("model", ["demo-500", "demo-429", "demo-cut"])
def test_each_kind_gives_all_back_when_the_upstream_fails(
    shop: Shop, purse: Purse, name: str, model: str
) -> None:
    call = CALLS[name]
    served = shop.buy(purse.token(PAID), path=call.paths[0], **call.of(model))
    assert served.status >= 400, served.body
    conserved(served, purse, PAID, 0)


@pytest.mark.parametrize("name", [name for name in CALLS if name != "speech"])
def test_an_answer_that_is_no_json_is_a_failed_call_where_it_should_be(
    shop: Shop, purse: Purse, name: str
) -> None:
    call = CALLS[name]
    served = shop.buy(purse.token(PAID), path=call.paths[0], **call.of("demo-badjson"))
    assert served.status >= 400, served.body
    conserved(served, purse, PAID, 0)


@EACH
def test_a_model_that_is_made_for_something_else_is_not_sold(shop: Shop, purse: Purse, call: Call) -> None:
    token = purse.token(PAID)
    made_for_one = {"demo-image", "demo-speech", "demo-transcribe", "demo-rerank", "demo-moderate"}
    for model in sorted(made_for_one - {call.fields["model"]}):
        refused = shop.buy(token, path=call.paths[0], **call.of(model))
        expected = {(404, "model_not_found"), (400, "request_not_priceable")}
        assert (refused.status, refused.code) in expected, model
    assert purse.states(token) == {"UNSPENT"}


@EACH
def test_a_key_of_litellms_buys_nothing_from_the_gate(shop: Shop, call: Call) -> None:
    sent = call.of()
    sent["headers"] = sent["headers"] | {"Authorization": f"Bearer {MASTER_KEY}"}
    served = shop.ask(path=call.paths[0], **sent)
    assert served.status == 200, served.body
    assert "x-otrta-paid-msat" not in served.headers
