"""Who may reach what: everything that is not for sale, free or LiteLLM's own is shut."""

import http.client
import re
import socket
from collections.abc import Iterator

import pytest

from otrta_cli.processes import MASTER_KEY
from otrta_core import Token
from otrta_core.requests import find_payable
from tests.integration.purse import Purse
from tests.integration.shop import CHAT, Shop, chat

pytestmark = pytest.mark.integration

KEY = {"Authorization": f"Bearer {MASTER_KEY}"}
FREE = ("/v1/models", "/models", "/health/liveliness", "/health/liveness", "/health/readiness")
OURS = ("/v1/cashu/info", "/v1/cashu/change", "/v1/wallet/refund")


@pytest.fixture(scope="module")
def token(purse: Purse) -> Iterator[Token]:
    """A good token that nothing here may take."""
    token = purse.token(10_000)
    yield token
    assert purse.states(token) == {"UNSPENT"}


def routes(shop: Shop) -> list[tuple[str, str]]:
    """Every method and path that this LiteLLM serves, with something for each parameter."""
    described = shop.ask(method="GET", path="/openapi.json", headers=KEY).json["paths"]
    hidden = shop.ask(method="GET", path="/routes", headers=KEY).json["routes"]
    pairs = {(method.upper(), path) for path, methods in described.items() for method in methods}
    pairs |= {(m, route["path"]) for route in hidden for m in route.get("methods") or ("GET", "POST")}
    return sorted({(method, re.sub(r"\{[^}]*\}", "x", path)) for method, path in pairs})


def test_every_path_by_which_litellm_serves_a_kind_sells_it(shop: Shop) -> None:
    described = shop.ask(method="GET", path="/openapi.json", headers=KEY).json["paths"]
    names: dict[str, set[str]] = {}
    for path, methods in described.items():
        if "post" in methods:
            names.setdefault(methods["post"]["summary"], set()).add(re.sub(r"\{[^}]*\}", "x", path))
    sold = {name: paths for name, paths in names.items() if any(map(find_payable, paths))}
    missing = {name: paths for name, paths in sold.items() if not all(map(find_payable, paths))}
    assert len(sold) >= 10
    assert missing == {}


def test_by_default_nothing_is_open(shop: Shop, token: Token) -> None:
    shop.forget_calls()
    served = [
        (method, path)
        for method, path in routes(shop)
        if path not in OURS
        and not (method == "POST" and find_payable(path) is not None)
        and not (method in ("GET", "HEAD") and path in FREE)
    ]
    assert len(served) > 700
    connection = http.client.HTTPConnection("127.0.0.1", int(shop.url.rsplit(":", 1)[1]), timeout=30)
    wrong = []
    for method, path in served:
        for headers, expected in (({"X-Cashu": token.encode()}, 404), ({}, 401)):
            connection.request(method, path, headers=headers)
            reply = connection.getresponse()
            body = reply.read()
            code = b"path_not_payable" if expected == 404 else b"invalid_api_key"
            if reply.status != expected or (method != "HEAD" and code not in body):
                wrong.append((method, path, reply.status))
    connection.close()
    assert wrong == []
    assert shop.calls() == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/V1/chat/completions",
        "/v1/chat/completions;x",
        "/v1/chat/completions%00",
        "/v1/chat/../chat/completions",
        "/v1/./chat/completions",
        "/engines//embeddings",
        "/engines/demo-chat/audio/speech",
        "/openai/deployments/demo-chat/responses",
        "/openai/v1/chat/completions",
        "/v1/completions/../chat/completions",
        "/health",
        "/health/liveliness/x",
        "/v1/models/demo-chat",
        "/v1/cashu/infox",
        "/v1/cashu",
        "/metrics",
        "/",
        "/no/such/path",
    ],
)
def test_no_other_way_of_writing_a_path_opens_it(shop: Shop, token: Token, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(shop.url.rsplit(":", 1)[1]), timeout=30)
    shop.forget_calls()
    for method in ("POST", "GET"):
        for headers, expected in (({"X-Cashu": token.encode()}, 404), ({}, 401)):
            connection.request(method, path, body=b"{}", headers=headers)
            reply = connection.getresponse()
            reply.read()
            assert reply.status == expected
    connection.close()
    assert shop.calls() == []


def test_an_encoded_path_is_the_path_that_it_encodes(shop: Shop) -> None:
    assert shop.ask(path="/v1/chat%2Fcompletions").status == 402


def test_a_query_cannot_change_the_model(shop: Shop, purse: Purse) -> None:
    shop.forget_calls()
    served = shop.buy(purse.token(10_000), path=f"{CHAT}?model=demo-slow&api-version=1")
    assert served.status == 200
    assert [call["model"] for call in shop.calls()] == ["demo-chat"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD"])
def test_a_payable_path_is_bought_by_post_only(shop: Shop, token: Token, method: str) -> None:
    assert shop.buy(token, path=CHAT, method=method).status == 404
    assert shop.ask(path=CHAT, method=method).status == 401


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/health/liveliness", "/health/readiness"])
def test_what_is_free_is_open_with_and_without_a_token(shop: Shop, token: Token, path: str) -> None:
    for reply in (shop.ask(path=path, method="GET"), shop.buy(token, path=path, method="GET")):
        assert reply.status == 200
        assert "x-cashu" not in reply.headers
    assert shop.ask(path=path, method="POST").status == 401


def test_the_free_list_of_models_takes_no_orders(shop: Shop) -> None:
    plain = shop.ask(path="/v1/models", method="GET")
    assert {model["id"] for model in plain.json["data"]} >= {"demo-chat", "demo-embed"}
    asked = "/v1/models?return_wildcard_routes=true&include_metadata=true&team_id=x&fallback_type=general"
    assert shop.ask(path=asked, method="GET").json == plain.json


def websocket_status(shop: Shop, path: str, headers: dict[str, str]) -> int:
    """How the gateway answers the handshake of a websocket."""
    connection = http.client.HTTPConnection("127.0.0.1", int(shop.url.rsplit(":", 1)[1]), timeout=30)
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    connection.request("GET", path, headers=handshake | headers)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("path", ["/v1/realtime?model=demo-chat", "/realtime", "/v1/responses", "/v1/models"])
def test_websockets_are_shut_to_tokens_and_to_strangers(shop: Shop, token: Token, path: str) -> None:
    assert websocket_status(shop, path, {}) == 403
    assert websocket_status(shop, path, {"X-Cashu": token.encode()}) == 403
    assert websocket_status(shop, path, {"X-Cashu": token.encode()} | KEY) == 403
    assert websocket_status(shop, path, {"X-Cashu": ""}) == 403


def test_a_litellm_key_goes_litellms_own_way(shop: Shop) -> None:
    served = shop.ask(headers=KEY)
    assert served.status == 200
    assert not {"x-cashu", "x-otrta-paid-msat"} & set(served.headers)
    assert shop.ask(method="GET", path="/model/info", headers=KEY).status == 200


def test_with_a_key_an_empty_x_cashu_counts_as_none(shop: Shop) -> None:
    served = shop.ask(headers=KEY | {"X-Cashu": "", "X-Cashu-Change": "sse"})
    assert served.status == 200
    assert "x-otrta-paid-msat" not in served.headers


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "api-key", "x-goog-api-key"])
def test_a_wrong_key_gets_litellms_answer_and_no_call(shop: Shop, name: str) -> None:
    shop.forget_calls()
    refused = shop.ask(headers={name: "Bearer sk-wrong"})
    assert refused.status in (400, 401, 500)
    assert b"payment_required" not in refused.body
    assert shop.calls() == []


@pytest.mark.parametrize("headers", [{"Authorization": ""}, {"X-Cashu": ""}, {"x-api-key": ""}])
def test_an_empty_key_and_an_empty_token_count_as_none(shop: Shop, headers: dict[str, str]) -> None:
    assert shop.ask(headers=headers).status == 402


def test_with_a_key_and_a_token_the_token_pays(shop: Shop, purse: Purse) -> None:
    token = purse.token(10_000)
    for key in (KEY, {"Authorization": "Bearer sk-wrong"}):
        served = shop.buy(token, headers=key)
        assert served.status == 200
        assert served.sums[1] == 110
        assert served.change is not None
        token = served.change


def test_a_free_request_lends_nothing_to_the_one_behind_it_on_the_same_connection(shop: Shop) -> None:
    port = int(shop.url.rsplit(":", 1)[1])
    free = "GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
    wrong = "GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-wrong\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(f"{free}{wrong}Connection: close\r\n\r\n".encode())
        seen = b""
        while part := connection.recv(65536):
            seen += part
    first, second = re.findall(rb"HTTP/1.1 (\d+)", seen)
    assert first == b"200"
    assert second != b"200"


def test_a_browsers_preflight_is_answered_and_other_questions_of_options_are_not(
    shop: Shop, token: Token
) -> None:
    asking = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-cashu, x-cashu-change, content-type",
    }
    for path in (CHAT, "/v1/cashu/change"):
        reply = shop.ask(path=path, method="OPTIONS", headers=asking)
        assert reply.status == 200
        assert "x-cashu" in reply.headers["access-control-allow-headers"].lower()
    assert shop.ask(path="/key/list", method="OPTIONS").status == 401
    assert shop.buy(token, path="/mcp", method="OPTIONS").status == 404


def test_a_refused_body_leaves_the_connection_usable_or_closed(shop: Shop, token: Token) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(shop.url.rsplit(":", 1)[1]), timeout=30)
    big = b"x" * 300_000
    for path, headers, expected in (
        (CHAT, {"X-Cashu": "garbage"}, 400),
        ("/key/generate", {}, 401),
        (CHAT, {}, 400),
    ):
        connection.request("POST", path, body=big, headers=headers)
        reply = connection.getresponse()
        assert reply.status == expected
        reply.read()
    connection.close()


def test_info_tells_a_client_all_that_a_quote_needs(shop: Shop, purse: Purse, fee_purse: Purse) -> None:
    told = shop.info()
    assert told["unit"] == "msat"
    by_url = {mint["url"]: mint["units"] for mint in told["mints"]}
    assert by_url[purse.mint] == {"msat": {"input_fee_ppk": 0}, "sat": {"input_fee_ppk": 0}}
    assert by_url[fee_purse.mint]["msat"] == {"input_fee_ppk": 100}
    models = {model["id"]: model for model in told["models"]}
    assert models["demo-chat"]["input_msat_per_mtok"] == 1_000_000
    assert models["demo-chat"]["output_msat_per_mtok"] == 5_000_000
    assert told["limits"] == {"max_token_bytes": 32_768, "max_proofs": 64}
    assert set(told) >= {"name", "version", "lock", "change", "rounding", "claim_days", "prices_until"}
    assert (told["default_output_tokens"], told["min_output_tokens"]) == (1024, 16)


def test_info_is_read_only(shop: Shop) -> None:
    assert shop.ask(path="/v1/cashu/info").status == 405
    assert shop.ask(path="/v1/cashu/change", method="GET").status == 405


def test_chat_bodies_do_not_open_other_paths(shop: Shop, token: Token) -> None:
    assert shop.buy(token, chat(), path="/v1/responses/input_tokens").code == "path_not_payable"
