"""Local errors look like those of the API that the app speaks."""

import inspect
import json

import pytest

from otrta_core.errors import InvalidRequest
from proxy_trio import errors
from proxy_trio.errors import BudgetExceeded, GatewayTimeout, GatewayUnreachable, WalletEmpty, render

CONTRACT = {
    "BudgetExceeded": (402, "budget_exceeded"),
    "WalletEmpty": (402, "wallet_empty"),
    "GatewayUnreachable": (502, "gateway_unreachable"),
    "GatewayRedirected": (502, "gateway_redirected"),
    "GatewayBrokeOff": (502, "gateway_broke_off"),
    "GatewayTimeout": (504, "gateway_timeout"),
    "ForeignHost": (403, "foreign_host"),
    "ForeignOrigin": (403, "foreign_origin"),
    "BodyTooLarge": (413, "body_too_large"),
}


@pytest.mark.parametrize("name", CONTRACT)
def test_status_and_code_are_those_of_the_contract(name):
    kind = getattr(errors, name)
    assert (kind.http_status, kind.code) == CONTRACT[name]


def test_the_tree_in_the_docstring_names_every_error():
    defined = {
        name
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.ProxyError)
    }
    assert {name for name in defined if f"── {name} " not in errors.__doc__} == set()


@pytest.mark.parametrize("base", [errors.ProxyError, errors.ForeignCaller, errors.GatewayFailure])
def test_a_base_cannot_be_raised_itself(base):
    with pytest.raises(TypeError):
        base("no")


def test_an_openai_path_gets_openais_shape():
    reply = render(InvalidRequest("Wrong.", param="model"), "/v1/chat/completions")
    assert reply.status == 400
    assert json.loads(reply.body) == {
        "error": {
            "message": "Wrong.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "invalid_request",
        }
    }
    assert dict(reply.headers)[b"content-length"] == str(len(reply.body)).encode()


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_an_anthropic_path_gets_anthropics_shape(path):
    error = WalletEmpty("Empty.", required_msat=5, available_msat=1)
    shaped = json.loads(render(error, path).body)
    assert shaped["type"] == "error"
    assert shaped["error"] == json.loads(render(error, "/v1/embeddings").body)["error"]


def test_a_budget_error_says_what_is_left_and_when_it_renews():
    error = BudgetExceeded("Too dear.", required_msat=9000, left_msat=100, renews_at=1_700_000_000)
    fields = json.loads(render(error, "/v1/embeddings").body)["error"]
    assert (fields["required_msat"], fields["left_msat"], fields["renews_at"]) == (9000, 100, 1_700_000_000)


def test_a_budget_that_never_renews_names_no_time():
    error = BudgetExceeded("Too dear.", required_msat=9000, left_msat=100)
    assert "renews_at" not in json.loads(render(error, "/v1/embeddings").body)["error"]


def test_sdks_are_told_not_to_pay_again_by_themselves():
    assert (b"x-should-retry", b"false") in render(GatewayTimeout("Late."), "/v1/embeddings").headers


def test_sdks_may_retry_where_nothing_was_paid():
    assert b"x-should-retry" not in dict(render(GatewayUnreachable("Down."), "/v1/embeddings").headers)
