"""Bad input: each gets its own answer, nothing reaches the upstream, and good tokens stay unspent."""

import base64
import json
import socket
from dataclasses import replace

import cbor2
import pytest

from otrta_core import Dleq, Proof, Token, split_amount
from tests.integration.purse import Purse
from tests.integration.shop import CHAT, EMBEDDINGS, HI, Shop, chat, send_in_segments

pytestmark = pytest.mark.integration

PAID = 10_000
POINT = "02" + "11" * 32


@pytest.fixture(autouse=True)
def nothing_reaches_the_upstream(shop: Shop):
    """No test here makes a call."""
    shop.forget_calls()
    yield
    assert shop.calls() == []


def v4(data: object) -> str:
    """Something in the clothes of a V4 token."""
    raw = data if isinstance(data, bytes) else cbor2.dumps(data)
    return "cashuB" + base64.urlsafe_b64encode(raw).decode().rstrip("=")


def v3(data: object) -> str:
    """Something in the clothes of a V3 token."""
    return "cashuA" + base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")


def fake_proofs(count: int, keyset_id: str = "00" * 8) -> tuple[Proof, ...]:
    """Proofs that no mint has signed."""
    return tuple(Proof(1, keyset_id, f"secret-{n}", POINT) for n in range(count))


NOT_TOKENS = {
    "a word": "garbage",
    "a payment request": "creqAo2F0gA==",
    "the prefix alone": "cashuB",
    "another version": "cashuC" + "A" * 40,
    "not base64": "cashuB!!!!",
    "two tokens": "cashuBAAAA, cashuBAAAA",
    "JSON that is none": "cashuA" + base64.urlsafe_b64encode(b"{").decode(),
    "JSON of another shape": v3([1, 2, 3]),
    "no proofs": v3({"token": [{"mint": "https://m.example", "proofs": []}]}),
    "two mints": v3(
        {"token": [{"mint": m, "proofs": [1]} for m in ("https://a.example", "https://b.example")]}
    ),
    "JSON nested deep": "cashuA" + base64.urlsafe_b64encode(b"[" * 20_000).decode(),
    "CBOR that is none": v4(b"\xff\xff"),
    "CBOR with a huge length": v4(b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff"),
    "CBOR with a huge map": v4(b"\xbb\x00\x00\x00\xff\xff\xff\xff\xff"),
    "CBOR nested deep": v4(b"\x81" * 5_000 + b"\x00"),
    "CBOR of shared values": v4(b"\xd8\x1c\x81\xd8\x1d\x00"),
    "CBOR of a huge number": v4(b"\xc2\x59\x40\x00" + b"\xff" * 16_384),
    "a negative amount": v3(
        {
            "token": [
                {
                    "mint": "https://m.example",
                    "proofs": [{"amount": -1, "id": "00", "secret": "s", "C": POINT}],
                }
            ]
        }
    ),
}


@pytest.mark.parametrize("text", NOT_TOKENS.values(), ids=NOT_TOKENS.keys())
def test_what_is_no_token_is_malformed(shop: Shop, text: str) -> None:
    refused = shop.buy(None, headers={"X-Cashu": text})
    assert (refused.status, refused.code) == (400, "token_malformed")
    assert refused.error["type"] == "invalid_request_error"
    assert "X-Cashu" not in refused.headers


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("version", [3, 4])
def test_a_truncated_token_is_malformed_and_untouched(
    shop: Shop, purse: Purse, kept: float, version: int
) -> None:
    token = purse.token(PAID)
    text = token.encode(version)
    refused = shop.buy(text[: int(len(text) * kept)])
    assert (refused.status, refused.code) == (400, "token_malformed")
    assert purse.states(token) == {"UNSPENT"}


def test_what_is_not_ascii_is_malformed(shop: Shop) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n"
    status, body = send_in_segments(port_of(shop), head + b"X-Cashu: cashuB\xe9\xff\xa0\r\n\r\n")
    assert (status, json.loads(body)["error"]["code"]) == (400, "token_malformed")


def test_two_x_cashu_headers_are_malformed(shop: Shop, purse: Purse) -> None:
    one, two = purse.token(PAID), purse.token(PAID)
    raw = json.dumps(chat()).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\nConnection: close\r\n"
        f"X-Cashu: {one.encode()}\r\nX-Cashu: {two.encode()}\r\n\r\n"
    )
    status, body = send_in_segments(port_of(shop), head.encode() + raw)
    assert (status, json.loads(body)["error"]["code"]) == (400, "token_malformed")
    assert purse.states(one) | purse.states(two) == {"UNSPENT"}


def port_of(shop: Shop) -> int:
    """Where the gateway listens."""
    return int(shop.url.rsplit(":", 1)[1])


@pytest.mark.parametrize("size", [33_000, 100_000])
def test_a_huge_header_gets_a_plain_answer_however_it_is_cut(shop: Shop, size: int) -> None:
    raw = json.dumps(chat()).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\nConnection: close\r\n"
        f"X-Cashu: cashuB{'A' * size}\r\n\r\n"
    )
    status, body = send_in_segments(port_of(shop), head.encode() + raw)
    assert (status, json.loads(body)["error"]["code"]) == (400, "token_too_large")


def test_a_token_of_a_thousand_proofs_is_too_large(shop: Shop, purse: Purse) -> None:
    token = Token(purse.mint, "msat", fake_proofs(1000, purse.keyset("msat")[0]))
    refused = shop.buy(token)
    assert (refused.status, refused.code) == (400, "token_too_large")


def test_one_proof_too_many_is_too_large_and_untouched(shop: Shop, purse: Purse) -> None:
    token = purse.token(100, parts=[1] * 64 + [32, 4])
    refused = shop.buy(token, chat(max_tokens=5))
    assert (refused.status, refused.code) == (400, "token_too_large")
    assert purse.states(token) == {"UNSPENT"}


def test_a_repeated_proof_is_malformed(shop: Shop, purse: Purse) -> None:
    token = purse.token(PAID)
    refused = shop.buy(replace(token, proofs=(*token.proofs, token.proofs[0])))
    assert (refused.status, refused.code) == (400, "token_malformed")
    assert purse.states(token) == {"UNSPENT"}


def test_the_mint_of_a_strangers_token_is_never_contacted(shop: Shop, purse: Purse) -> None:
    token = purse.token(PAID)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for mint in (
            url,
            url.replace("127.0.0.1", "localhost"),
            f"{url}/{purse.mint}",
            f"{purse.mint}@{url[7:]}",
        ):
            refused = shop.buy(replace(token, mint=mint))
            assert (refused.status, refused.code) == (400, "mint_not_accepted"), mint
            assert purse.mint in refused.request.mints
            assert refused.request.amount
            assert refused.error["required_msat"]
        with pytest.raises(TimeoutError):
            listener.accept()
    assert purse.states(token) == {"UNSPENT"}


@pytest.mark.parametrize("unit", ["sat", "usd", "auth", "MSAT", "x" * 30])
def test_a_token_that_lies_about_its_unit_is_refused(shop: Shop, purse: Purse, unit: str) -> None:
    token = purse.token(PAID)
    refused = shop.buy(replace(token, unit=unit))
    assert (refused.status, refused.code) == (400, "unit_not_accepted")
    assert refused.request.unit == "msat"
    assert purse.states(token) == {"UNSPENT"}


def test_a_keyset_that_the_mint_does_not_have_is_malformed(shop: Shop, purse: Purse) -> None:
    refused = shop.buy(Token(purse.mint, "msat", fake_proofs(3, "00deadbeefdeadbe")))
    assert (refused.status, refused.code) == (400, "token_malformed")


@pytest.mark.parametrize("unit", ["msat", "sat"])
def test_too_little_is_told_what_would_do(shop: Shop, purse: Purse, unit: str) -> None:
    token = purse.token(1000, "msat") if unit == "msat" else purse.token(1, "sat")
    refused = shop.buy(token, chat(max_tokens=200))
    assert (refused.status, refused.code) == (400, "insufficient_payment")
    assert refused.error["required_msat"] == 50 + 200 * 5
    assert (refused.request.amount or 0) >= 1050
    assert purse.states(token) == {"UNSPENT"}


def test_less_than_the_prompt_and_a_little_output_is_too_little_even_without_a_limit(
    shop: Shop, purse: Purse
) -> None:
    token = purse.token(50 + 16 * 5 - 1)
    assert shop.buy(token).code == "insufficient_payment"
    assert purse.states(token) == {"UNSPENT"}


def test_a_token_that_only_pays_its_own_fee_is_uneconomic(shop: Shop, fee_purse: Purse) -> None:
    token = fee_purse.token(1)
    refused = shop.buy(token)
    assert (refused.status, refused.code) == (400, "token_uneconomic")
    assert fee_purse.states(token) == {"UNSPENT"}


def test_a_token_that_was_spent_elsewhere_is_refused(shop: Shop, purse: Purse) -> None:
    token = purse.token(PAID)
    purse.spend(token)
    refused = shop.buy(token)
    assert (refused.status, refused.code) == (400, "token_already_spent")
    assert "X-Cashu" not in refused.headers
    assert shop.change(token).status == 404


def test_a_token_of_which_a_part_was_spent_elsewhere_is_refused_and_the_rest_untouched(
    shop: Shop, purse: Purse
) -> None:
    token = purse.token(PAID)
    purse.spend(replace(token, proofs=token.proofs[:2]))
    assert shop.buy(token).code == "token_already_spent"
    assert purse.states(replace(token, proofs=token.proofs[2:])) == {"UNSPENT"}
    assert shop.change(token).status == 404


def test_proofs_that_the_mint_never_signed_are_refused(shop: Shop, purse: Purse) -> None:
    proofs = tuple(
        Proof(amount, purse.keyset("msat")[0], f"{amount:064x}", POINT) for amount in split_amount(PAID)
    )
    refused = shop.buy(Token(purse.mint, "msat", proofs))
    assert (refused.status, refused.code) == (400, "token_invalid")


def test_a_dleq_that_does_not_hold_is_refused_before_the_mint_is_asked(shop: Shop, purse: Purse) -> None:
    token = purse.token(PAID, dleq=True)
    first = token.proofs[0]
    assert first.dleq is not None
    lying = replace(first, dleq=Dleq(first.dleq.e, "11" * 32, first.dleq.r))
    refused = shop.buy(replace(token, proofs=(lying, *token.proofs[1:])))
    assert (refused.status, refused.code) == (400, "dleq_invalid")
    assert purse.states(token) == {"UNSPENT"}


@pytest.mark.parametrize("kind", ["P2PK", "HTLC", "made-up"])
def test_a_locked_token_is_refused(shop: Shop, purse: Purse, kind: str) -> None:
    secret = json.dumps([kind, {"nonce": "1", "data": POINT, "tags": []}])
    refused = shop.buy(Token(purse.mint, "msat", (Proof(8192, purse.keyset("msat")[0], secret, POINT),)))
    assert (refused.status, refused.code) == (400, "lock_not_accepted")


def image(url: str, **fields: str) -> dict[str, object]:
    """The body of a call with an image."""
    part = {"type": "image_url", "image_url": {"url": url, **fields}}
    return chat() | {"messages": [{"role": "user", "content": [part]}]}


BAD_BODIES: dict[str, tuple[object, str]] = {
    "negative max_tokens": (chat(max_tokens=-1), "invalid_request"),
    "max_tokens 0": (chat(max_tokens=0), "invalid_request"),
    "max_tokens as text": (chat(max_tokens="5"), "invalid_request"),
    "max_tokens true": (chat(max_tokens=True), "invalid_request"),
    "max_tokens a fraction": (chat(max_tokens=1.5), "invalid_request"),
    "max_tokens beyond all": (chat(max_tokens=10**30), "invalid_request"),
    "negative max_completion_tokens": (chat(max_completion_tokens=-5000), "invalid_request"),
    "n 0": (chat(n=0), "invalid_request"),
    "n -1": (chat(n=-1), "invalid_request"),
    "no model": ({"messages": HI}, "invalid_request"),
    "model a number": (chat(5), "invalid_request"),  # type: ignore[arg-type]
    "model a list": ({"model": ["demo-chat"], "messages": HI}, "invalid_request"),
    "model of control characters": (chat("demo-chat\u0000"), "invalid_request"),
    "two models": (chat("demo-chat,demo-slow"), "invalid_request"),
    "no messages": ({"model": "demo-chat"}, "invalid_request"),
    "messages a number": ({"model": "demo-chat", "messages": 5}, "invalid_request"),
    "messages empty": ({"model": "demo-chat", "messages": []}, "invalid_request"),
    "messages of texts": ({"model": "demo-chat", "messages": ["hi"]}, "invalid_request"),
    "stream a word": (chat(stream="yes"), "invalid_request"),
    "a list": ([], "invalid_request"),
    "a text": ("hi", "invalid_request"),
    "null": (None, "invalid_request"),
    "a hosted tool": (chat(tools=[{"type": "web_search"}]), "unsupported_parameter"),
    "a hosted tool that says it is a function": (
        chat(tools=[{"type": "function", "googleSearch": {}}]),
        "unsupported_parameter",
    ),
    "enforce_validation": (
        chat(response_format={"type": "json_object", "enforce_validation": True}),
        "unsupported_parameter",
    ),
    "prediction": (chat(prediction={}), "unsupported_parameter"),
    "best_of": (chat(best_of=3), "unsupported_parameter"),
    "service_tier": (chat(service_tier="priority"), "unsupported_parameter"),
    "api_base": (chat(api_base="http://127.0.0.1:1"), "unsupported_parameter"),
    "extra_body": (chat(extra_body={"n": 3}), "unsupported_parameter"),
    "extra_headers": (chat(extra_headers={"x": "y"}), "unsupported_parameter"),
    "mock_response": (chat(mock_response="free"), "unsupported_parameter"),
    "audio": (chat(modalities=["text", "audio"]), "unsupported_parameter"),
    "a previous response": (chat(previous_response_id="x"), "unsupported_parameter"),
    "an image by address": (image("http://127.0.0.1:1/x.png"), "unsupported_parameter"),
    "an image that has no price": (image("data:image/png;base64,AAAA"), "request_not_priceable"),
    "a document in the clothes of an image": (
        image("data:image/png;base64,AAAA", format="application/pdf"),
        "request_not_priceable",
    ),
    "a file": (
        chat() | {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "x"}}]}]},
        "request_not_priceable",
    ),
}


@pytest.mark.parametrize(("body", "code"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_bad_body_is_refused_with_and_without_a_token(
    shop: Shop, purse: Purse, body: object, code: str, bad_body_token: Token
) -> None:
    raw = json.dumps(body).encode()
    with_token, without = shop.buy(bad_body_token, content=raw), shop.ask(content=raw)
    for refused in (with_token, without):
        assert (refused.status, refused.code) == (400, code)
    assert with_token.body == without.body
    assert purse.states(bad_body_token) == {"UNSPENT"}


@pytest.fixture(scope="module")
def bad_body_token(purse: Purse) -> Token:
    """A good token that is never taken."""
    return purse.token(PAID)


NOT_JSON = {
    "nothing": b"",
    "a form": b"model=demo-chat&messages=hi",
    "cut off": json.dumps(chat()).encode()[:-1],
    "not UTF-8": b'{"model": "\xff\xfe"}',
    "NaN": b'{"model": "demo-chat", "messages": [], "temperature": NaN}',
    "an endless number": b'{"model": "demo-chat", "max_tokens": ' + b"9" * 5000 + b"}",
    "an infinite number": b'{"model": "demo-chat", "temperature": 1e999}',
    "nested deep": b'{"a":' * 50_000,
    "very many parts": b"[" + b"[]," * 2_000_000 + b"[]]",
}


@pytest.mark.parametrize("raw", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_what_is_not_json_is_an_invalid_request(
    shop: Shop, purse: Purse, raw: bytes, bad_body_token: Token
) -> None:
    for refused in (shop.buy(bad_body_token, content=raw), shop.ask(content=raw)):
        assert (refused.status, refused.code) == (400, "invalid_request")
    assert purse.states(bad_body_token) == {"UNSPENT"}


def test_a_multipart_body_is_an_invalid_request(shop: Shop, purse: Purse, bad_body_token: Token) -> None:
    raw = b"--b\r\nContent-Disposition: form-data; name=model\r\n\r\ndemo-chat\r\n--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert shop.buy(bad_body_token, content=raw, headers=headers).code == "invalid_request"
    assert purse.states(bad_body_token) == {"UNSPENT"}


def test_a_body_over_the_bound_is_refused(shop: Shop, purse: Purse, bad_body_token: Token) -> None:
    raw = b'{"model": "demo-chat", "messages": [{"role": "user", "content": "' + b"x" * (33 << 20) + b'"}]}'
    refused = shop.buy(bad_body_token, content=raw)
    assert (refused.status, refused.code) == (413, "body_too_large")
    assert purse.states(bad_body_token) == {"UNSPENT"}


@pytest.mark.parametrize("model", ["nobody", "DEMO-CHAT", "openai/demo-chat", "demo-chat ", "*", "demo-*"])
def test_a_model_without_a_price_answers_alike_with_and_without_a_token(
    shop: Shop, purse: Purse, model: str, bad_body_token: Token
) -> None:
    with_token, without = shop.buy(bad_body_token, chat(model)), shop.ask(chat(model))
    assert (with_token.status, with_token.code) == (404, "model_not_found")
    assert with_token.body == without.body
    assert purse.states(bad_body_token) == {"UNSPENT"}


def test_a_model_whose_output_has_no_price_is_not_sold_as_a_chat(
    shop: Shop, purse: Purse, bad_body_token: Token
) -> None:
    assert shop.buy(bad_body_token, chat("demo-embed")).code == "model_not_found"
    assert purse.states(bad_body_token) == {"UNSPENT"}


BAD_INPUTS: list[object] = [None, [], [[]], 5, {"a": 1}, [-1], [True], ["a", 1], [["a"]]]


@pytest.mark.parametrize("given", BAD_INPUTS, ids=str)
def test_an_input_that_cannot_be_embedded_is_an_invalid_request(
    shop: Shop, purse: Purse, given: object, bad_body_token: Token
) -> None:
    body = {"model": "demo-embed", "input": given}
    assert shop.buy(bad_body_token, body, path=EMBEDDINGS).code == "invalid_request"
    assert purse.states(bad_body_token) == {"UNSPENT"}
