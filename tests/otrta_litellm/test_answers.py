"""The gate's own answers."""

import json

from otrta_core import InvalidRequest, PaymentRequest, TokenError, Unit
from otrta_litellm.answers import (
    Answer,
    GateError,
    exposed,
    is_anthropics,
    json_answer,
    payment_headers,
    refusal,
)


def headers_of(answer: Answer) -> dict[bytes, bytes]:
    return dict(answer.headers)


def test_an_error_has_openais_shape_and_nothing_more() -> None:
    said = refusal(InvalidRequest("it is wrong", param="model"))
    assert said.status == 400
    assert json.loads(said.body) == {
        "error": {
            "message": "it is wrong",
            "type": "invalid_request_error",
            "param": "model",
            "code": "invalid_request",
        }
    }
    assert headers_of(said)[b"cache-control"] == b"no-store"
    assert int(headers_of(said)[b"content-length"]) == len(said.body)


def test_a_402_says_what_is_to_be_paid_twice() -> None:
    request = PaymentRequest(amount=150, unit=Unit.MSAT, mints=("https://a.example",))
    error = GateError("pay", code="payment_required", status=402, required_msat=149, request=request)
    said = refusal(error)
    assert json.loads(said.body)["error"]["required_msat"] == 149
    assert PaymentRequest.parse(headers_of(said)[b"x-cashu"].decode()) == request


def test_change_goes_before_a_request() -> None:
    error = GateError("spent", code="token_already_spent", status=400, change="cashuBxyz")
    assert headers_of(refusal(error))[b"x-cashu"] == b"cashuBxyz"


def test_what_may_pass_later_says_when_to_ask_again() -> None:
    for status in (202, 409, 429, 503):
        assert b"retry-after" in headers_of(json_answer(status, {}))
    for status in (200, 400, 402, 404):
        assert b"retry-after" not in headers_of(json_answer(status, {}))


def test_an_answers_repr_shows_nothing_that_can_be_spent() -> None:
    said = json_answer(200, {"x": "cashuBsecret"}, cashu="cashuBsecret")
    assert "cashuBsecret" not in repr(said)


def test_a_payments_headers_leave_out_what_is_not_known() -> None:
    assert payment_headers(10, 1) == [
        (b"x-otrta-paid-msat", b"10"),
        (b"x-otrta-fee-msat", b"1"),
        (b"cache-control", b"no-store"),
    ]
    all_of_them = dict(payment_headers(10, 1, 0, 9, "cashuB"))
    assert all_of_them[b"x-otrta-cost-msat"] == b"0"
    assert all_of_them[b"x-otrta-change-msat"] == b"9"
    assert all_of_them[b"x-cashu"] == b"cashuB"
    assert dict(payment_headers(10, 1, claim=True))[b"x-otrta-change"] == b"claim"


def test_what_litellm_exposes_stays_exposed_beside_ours() -> None:
    found = dict(exposed([(b"access-control-expose-headers", b"x-other"), (b"a", b"b")], origin=None))
    assert found[b"access-control-expose-headers"].startswith(b"x-other, X-Cashu")
    assert found[b"a"] == b"b"
    assert b"access-control-allow-origin" not in found


def test_a_browser_may_read_the_answer_and_litellms_word_on_it_stands() -> None:
    assert dict(exposed([], origin=b"https://a.example"))[b"access-control-allow-origin"] == b"*"
    own = (b"access-control-allow-origin", b"https://a.example")
    assert [h for h in exposed([own], origin=b"x") if h[0] == own[0]] == [own]


def test_errors_of_every_kind_keep_their_code_and_status() -> None:
    assert json.loads(refusal(TokenError("no")).body)["error"]["code"] == "token_malformed"
    assert refusal(GateError("no", code="starting", status=503)).status == 503
    assert (
        json.loads(refusal(GateError("no", code="x", status=401)).body)["error"]["type"]
        == "authentication_error"
    )


def test_anthropics_paths_have_errors_of_anthropics_shape() -> None:
    error = GateError("pay", code="payment_required", status=402, required_msat=7)
    openai, anthropic = (json.loads(refusal(error, anthropic=a).body) for a in (False, True))
    assert anthropic == {"type": "error", "error": openai["error"]}
    assert is_anthropics("/v1/messages")
    assert is_anthropics("/v1/messages/count_tokens")
    assert is_anthropics("/anthropic/v1/messages")
    assert not is_anthropics("/v1/chat/completions")
