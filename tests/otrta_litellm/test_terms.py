"""What a call is, what it may cost, and what LiteLLM gets of it, for each kind of call."""

import json
from typing import Any, get_args

import pytest

from otrta_core import InvalidRequest, ModelPrice, RequestNotPriceable, UnsupportedParameter
from otrta_core.multipart import read_form
from otrta_core.requests import Kind
from otrta_litellm.answers import GateError
from otrta_litellm.prices import Prices
from otrta_litellm.terms import Quotes, Sent, Terms, read_request
from tests.otrta_litellm.samples import payment, settings

JSON = "application/json"
FORM = "multipart/form-data; boundary=B"
PRICE = ModelPrice(
    input_msat_per_mtok=1_000_000,
    output_msat_per_mtok=5_000_000,
    image_msat=5000,
    image_input_tokens=100,
    character_msat_per_million=15_000_000,
    second_msat=100,
    request_msat=7,
    max_input_tokens=1000,
    max_output_tokens=2000,
)
HI = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HI},
    "/v1/completions": {"prompt": "hi"},
    "/v1/embeddings": {"input": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": HI},
    "/v1/images/generations": {"prompt": "hi"},
    "/v1/audio/speech": {"input": "hi", "voice": "v"},
    "/v1/rerank": {"query": "hi", "documents": ["a"]},
    "/v1/moderations": {"input": "hi"},
}
FIELDS: dict[str, dict[str, str]] = {"/v1/images/edits": {"prompt": "hi"}, "/v1/audio/transcriptions": {}}
FILES = {"/v1/images/edits": "image", "/v1/audio/transcriptions": "file"}
PATHS = [*BODIES, *FIELDS]


class Shelf:
    """Prices of one model."""

    def __init__(
        self, price: ModelPrice | None = PRICE, *, takes_numbers: bool = True, raises: bool = True
    ) -> None:
        self._price = price
        self._raises = raises
        self._takes_numbers = takes_numbers
        self.asked: list[tuple[str, Kind, bool]] = []

    def price(
        self, model: str, kind: Kind, *, in_path: bool = False, for_s: float = 0.0
    ) -> ModelPrice | None:
        self.asked.append((model, kind, in_path))
        return self._price

    def takes_token_numbers(self, model: str, kind: Kind) -> bool:
        return self._takes_numbers

    def raises_small_limits(self, model: str, kind: Kind) -> bool:
        return self._raises


def quotes(shelf: Shelf | None = None) -> Quotes:
    prices: Prices = shelf or Shelf()  # type: ignore[assignment]
    return Quotes(settings(), prices)


def sent(path: str, of: str | None = None, **fields: Any) -> Sent:
    """A call of a path, in the shape of another where the path is an alias of that."""
    shape = of or path
    if shape in BODIES:
        return Sent(path, JSON, json.dumps({"model": "m", **BODIES[shape], **fields}).encode())
    texts = {"model": "m", **FIELDS[shape], **fields}
    parts = [f'--B\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{t}\r\n' for n, t in texts.items()]
    file = f'--B\r\nContent-Disposition: form-data; name="{FILES[shape]}"; filename="a"\r\n\r\nxyz\r\n'
    return Sent(path, FORM, "".join([*parts, file, "--B--\r\n"]).encode())


def got(terms: Terms, paid_msat: int = 10_000, shelf: Shelf | None = None) -> dict[str, Any]:
    """What LiteLLM gets of a call that was paid so much for."""
    out = quotes(shelf).outbound(terms, payment(paid_msat=paid_msat))
    if terms.form is None:
        assert out.content_type == JSON
        body: dict[str, Any] = json.loads(out.body)
        return body
    found = read_form(out.content_type, out.body)
    return {**dict(found.fields), **{file.name: file.content for file in found.files}}


def test_every_kind_of_call_has_terms() -> None:
    kinds = {quotes().terms(read_request(sent(path))).call.kind for path in PATHS}
    assert kinds == set(get_args(Kind))


@pytest.mark.parametrize(
    ("path", "quote_msat"),
    [
        # 2 bytes of text, 16 for a message and 32 for the call at 1 msat; 7 msat a call; outputs at 5 msat
        ("/v1/chat/completions", 7 + 50 + 1024 * 5),
        ("/v1/completions", 7 + 50 + 1024 * 5),
        ("/v1/embeddings", 7 + 50),
        ("/v1/responses", 7 + 50 + 1024 * 5),
        ("/v1/messages", 7 + 50 + 1024 * 5),
        ("/v1/images/generations", 7 + 50 + 5000 + 2000 * 5),
        ("/v1/images/edits", 7 + 50 + 100 + 5000 + 2000 * 5),
        # two characters of 15 msat
        ("/v1/audio/speech", 7 + 50 + 30 + 2000 * 5),
        # three bytes are at most one second, and the sound may be as many tokens as the model takes
        ("/v1/audio/transcriptions", 7 + 48 + 1000 + 100 + 2000 * 5),
        # the query of two bytes with a document of one
        ("/v1/rerank", 7 + 51),
        ("/v1/moderations", 7 + 50),
    ],
)
def test_the_quote_of_each_kind(path: str, quote_msat: int) -> None:
    assert quotes().terms(read_request(sent(path))).quote_msat == quote_msat


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/engines/a/b/chat/completions", "/v1/chat/completions"),
        ("/openai/deployments/a/b/chat/completions", "/v1/chat/completions"),
        ("/engines/a/b/completions", "/v1/completions"),
        ("/openai/deployments/a/b/embeddings", "/v1/embeddings"),
        ("/openai/deployments/a/b/images/generations", "/v1/images/generations"),
        ("/openai/deployments/a/b/images/edits", "/v1/images/edits"),
    ],
)
def test_the_model_that_a_path_names_beats_the_bodys(path: str, shape: str) -> None:
    shelf = Shelf()
    terms = quotes(shelf).terms(read_request(sent(path, shape)))
    assert shelf.asked == [("a/b", terms.call.kind, True)]
    assert (terms.call.model, got(terms)["model"]) == ("a/b", "a/b")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/chat/completions", "max_tokens"),
        ("/v1/completions", "max_tokens"),
        ("/v1/responses", "max_output_tokens"),
        ("/v1/messages", "max_tokens"),
    ],
)
def test_what_is_paid_caps_the_output_of_a_text(path: str, field: str) -> None:
    terms = quotes().terms(read_request(sent(path)))
    assert got(terms, paid_msat=7 + 50 + 18 * 5 + 4)[field] == 18
    assert got(terms, paid_msat=7 + 50)[field] == 16
    assert got(terms, paid_msat=10**9)[field] == 2000
    assert got(quotes().terms(read_request(sent(path, **{field: 99}))))[field] == 99


@pytest.mark.parametrize("path", PATHS[5:])
def test_what_is_made_by_the_piece_gets_no_limit(path: str) -> None:
    assert not [name for name in got(quotes().terms(read_request(sent(path)))) if name.startswith("max_")]


@pytest.mark.parametrize(
    ("path", "field"), [("/v1/responses", "max_output_tokens"), ("/v1/messages", "max_tokens")]
)
def test_a_limit_that_litellm_raises_is_quoted_as_raised(path: str, field: str) -> None:
    small, least = (quotes().terms(read_request(sent(path, **{field: limit}))) for limit in (1, 16))
    assert (small.quote_msat, small.minimum_msat) == (least.quote_msat, least.minimum_msat)
    assert got(small)[field] == 1
    kept = quotes(Shelf(raises=False)).terms(read_request(sent(path, **{field: 1})))
    assert kept.quote_msat == least.quote_msat - 15 * 5


def test_a_small_limit_of_another_kind_is_quoted_as_it_is() -> None:
    one, two = (
        quotes().terms(read_request(sent("/v1/chat/completions", max_tokens=limit))) for limit in (1, 2)
    )
    assert two.quote_msat - one.quote_msat == 5


def test_an_anthropic_call_always_has_a_limit() -> None:
    free = Shelf(ModelPrice())
    assert got(quotes(free).terms(read_request(sent("/v1/messages"))), shelf=free)["max_tokens"] == 1024
    assert "max_tokens" not in got(quotes(free).terms(read_request(sent("/v1/chat/completions"))), shelf=free)


def test_nothing_is_stored_of_a_responses_call() -> None:
    for store in (True, False, None):
        assert got(quotes().terms(read_request(sent("/v1/responses", store=store))))["store"] is False
    assert "store" not in got(quotes().terms(read_request(sent("/v1/chat/completions", store=True))))


@pytest.mark.parametrize("path", PATHS)
def test_what_steers_litellm_or_names_the_caller_is_taken_out(path: str) -> None:
    steering = {"user": "bob", "metadata": "{}", "timeout": "1", "fallbacks": "x", "num_retries": "9"}
    found = got(quotes().terms(read_request(sent(path, **steering))))
    assert not steering.keys() & found.keys()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "field",
    ["api_base", "api_key", "custom_llm_provider", "mock_response", "extra_body", "litellm_params", "x"],
)
def test_what_no_table_lists_is_refused(path: str, field: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        quotes().terms(read_request(sent(path, **{field: "x"})))
    assert caught.value.param == field


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/responses", {"previous_response_id": "r"}),
        ("/v1/responses", {"conversation": "c"}),
        ("/v1/responses", {"prompt": {"id": "p"}}),
        ("/v1/responses", {"background": True}),
        ("/v1/responses", {"tools": [{"type": "web_search"}]}),
        ("/v1/responses", {"service_tier": "priority"}),
        ("/v1/completions", {"best_of": 2}),
        ("/v1/messages", {"mcp_servers": []}),
        ("/v1/messages", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        ("/v1/messages", {"service_tier": "auto"}),
        ("/v1/images/generations", {"size": "4096x4096"}),
        ("/v1/images/generations", {"stream": True}),
        ("/v1/images/edits", {"stream": "true"}),
        ("/v1/images/edits", {"input_fidelity": "high"}),
        ("/v1/audio/transcriptions", {"stream": "true"}),
        ("/v1/rerank", {"rank_fields": ["a"]}),
        ("/v1/rerank", {"documents": [{"image": "https://a.example"}]}),
    ],
)
def test_what_has_no_bound_is_refused(path: str, fields: dict[str, Any]) -> None:
    with pytest.raises((UnsupportedParameter, RequestNotPriceable)):
        quotes().terms(read_request(sent(path, **fields)))


@pytest.mark.parametrize(("path", "field"), [("/v1/embeddings", "input"), ("/v1/completions", "prompt")])
def test_token_numbers_are_for_models_that_take_them(path: str, field: str) -> None:
    numbers = sent(path, **{field: [[1, 2], [3]]})
    assert quotes().terms(read_request(numbers)).call.model == "m"
    with pytest.raises(UnsupportedParameter) as caught:
        quotes(Shelf(takes_numbers=False)).terms(read_request(numbers))
    assert caught.value.param == field


@pytest.mark.parametrize("path", PATHS)
def test_a_model_without_a_price_is_not_found(path: str) -> None:
    with pytest.raises(GateError) as caught:
        quotes(Shelf(None)).terms(read_request(sent(path)))
    assert (caught.value.gate_code, caught.value.status) == ("model_not_found", 404)


@pytest.mark.parametrize(
    "path", ["/v1/images/generations", "/v1/images/edits", "/v1/audio/speech", "/v1/audio/transcriptions"]
)
def test_a_price_of_texts_does_not_buy_pieces(path: str) -> None:
    text = ModelPrice(input_msat_per_mtok=1, output_msat_per_mtok=1, max_input_tokens=9, max_output_tokens=9)
    with pytest.raises(RequestNotPriceable):
        quotes(Shelf(text)).terms(read_request(sent(path)))


@pytest.mark.parametrize("path", PATHS)
def test_a_call_that_names_no_model_is_refused_before_litellm_chooses_one(path: str) -> None:
    for nothing in ({"model": None}, {"model": ""}) if path in BODIES else ({"model": ""},):
        with pytest.raises(InvalidRequest) as caught:
            read_request(sent(path, **nothing))
        assert caught.value.param == "model"


@pytest.mark.parametrize("path", BODIES)
def test_a_form_is_no_body(path: str) -> None:
    with pytest.raises(InvalidRequest):
        quotes().terms(read_request(Sent(path, FORM, sent("/v1/images/edits").body)))


@pytest.mark.parametrize("path", FIELDS)
def test_a_body_is_no_form(path: str) -> None:
    for content_type in (JSON, FORM, ""):
        with pytest.raises(InvalidRequest):
            quotes().terms(read_request(Sent(path, content_type, sent("/v1/images/generations").body)))


def test_a_path_that_is_not_sold_has_no_terms() -> None:
    with pytest.raises(GateError) as caught:
        quotes().terms(read_request(Sent("/v1/files", JSON, b"{}")))
    assert caught.value.gate_code == "path_not_payable"
