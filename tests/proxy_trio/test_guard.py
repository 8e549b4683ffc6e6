"""Only apps of this machine are served, and wallet actions only to its user."""

import httpx
import pytest
import trio
from pytest_trio import trio_fixture
from starlette.responses import JSONResponse
from starlette.routing import Route

from proxy_trio.guard import Guard
from proxy_trio.settings import GuardSettings

JSON = {"Content-Type": "application/json"}


async def _balance(_request):
    return JSONResponse({"available_msat": 1})


@trio_fixture
async def app_client(start_proxy):
    settings = GuardSettings(
        extra_origins=frozenset({"http://localhost:3000"}), local_token="the-local-token"
    )
    port = await start_proxy(guard=settings, routes=[Route("/_otrta/balance", _balance, methods=["POST"])])
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        client.port = port
        yield client


def code(response):
    return response.json()["error"]["code"]


@pytest.mark.trio
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]", "LOCALHOST"])
async def test_our_names_with_our_port_are_served(app_client, name):
    response = await app_client.get("/health", headers={"Host": f"{name}:{app_client.port}"})
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.mark.trio
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil:{port}", ""]
)
async def test_another_host_is_foreign(app_client, host):
    response = await app_client.get("/health", headers={"Host": host.format(port=app_client.port)})
    assert (response.status_code, code(response)) == (403, "foreign_host")


@pytest.mark.trio
@pytest.mark.parametrize(
    "origin",
    ["http://127.0.0.1:{port}", "http://localhost:{port}", "http://[::1]:{port}", "http://localhost:3000"],
)
async def test_our_own_pages_and_trusted_ones_may_call_and_read(app_client, origin):
    origin = origin.format(port=app_client.port)
    response = await app_client.get("/health", headers={"Origin": origin})
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == origin
    assert "X-Otrta-Cost-Msat" in response.headers["access-control-expose-headers"]
    assert response.headers["vary"] == "Origin"


@pytest.mark.trio
@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "https://localhost:{port}", "http://localhost", "http://127.0.0.1:1"],
)
async def test_a_page_of_another_site_may_neither_call_nor_read(app_client, payer, origin):
    response = await app_client.post(
        "/v1/chat/completions",
        content=b'{"model":"m"}',
        headers={**JSON, "Origin": origin.format(port=app_client.port)},
    )
    assert (response.status_code, code(response)) == (403, "foreign_origin")
    assert "access-control-allow-origin" not in response.headers
    assert payer.calls == []


@pytest.mark.trio
async def test_a_foreign_caller_of_an_anthropic_path_gets_anthropics_shape(app_client):
    response = await app_client.post("/v1/messages", headers={"Origin": "null"})
    assert response.json()["type"] == "error"


@pytest.mark.trio
async def test_a_preflight_of_a_trusted_page_is_answered(app_client, payer):
    response = await app_client.options(
        "/v1/chat/completions",
        headers={
            "Origin": "http://localhost:3000",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
            "Access-Control-Request-Private-Network": "true",
        },
    )
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert response.headers["access-control-allow-headers"] == "authorization,content-type,x-stainless-os"
    assert response.headers["access-control-allow-methods"] == "GET, POST"
    assert response.headers["access-control-allow-private-network"] == "true"
    assert payer.calls == []


@pytest.mark.trio
async def test_a_preflight_of_a_foreign_page_is_refused(app_client):
    response = await app_client.options(
        "/v1/chat/completions",
        headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"},
    )
    assert (response.status_code, code(response)) == (403, "foreign_origin")


@pytest.mark.trio
async def test_a_wallet_action_with_the_local_token_is_served(app_client):
    response = await app_client.post(
        "/_otrta/balance", content=b"{}", headers={**JSON, "Authorization": "Bearer the-local-token"}
    )
    assert response.json() == {"available_msat": 1}


@pytest.mark.trio
@pytest.mark.parametrize(
    "given", [None, "Bearer wrong", "Bearer", "the-local-token", "Basic the-local-token", "Bearer é"]
)
async def test_a_wallet_action_without_the_local_token_is_refused(app_client, given):
    authorization = {} if given is None else {"Authorization": given.encode("latin-1")}
    response = await app_client.post("/_otrta/balance", content=b"{}", headers={**JSON, **authorization})
    assert (response.status_code, code(response)) == (401, "local_token_required")


@pytest.mark.trio
async def test_a_wallet_action_is_a_post_of_json(app_client):
    bearer = {"Authorization": "Bearer the-local-token"}
    by_get = await app_client.get("/_otrta/balance", headers=bearer)
    as_form = await app_client.post("/_otrta/balance", data={"a": "1"}, headers=bearer)
    assert (by_get.status_code, code(by_get)) == (405, "method_not_allowed")
    assert (as_form.status_code, code(as_form)) == (400, "invalid_request")


@pytest.mark.trio
async def test_without_a_local_token_no_wallet_action_is_served(start_proxy):
    port = await start_proxy(routes=[Route("/_otrta/balance", _balance, methods=["POST"])])
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.post(
            f"http://127.0.0.1:{port}/_otrta/balance",
            content=b"{}",
            headers={**JSON, "Authorization": "Bearer"},
        )
    assert response.status_code == 401


@pytest.mark.trio
async def test_websockets_are_refused(app_client):
    stream = await trio.open_tcp_stream("127.0.0.1", app_client.port)
    async with stream:
        await stream.send_all(
            f"GET /v1/realtime HTTP/1.1\r\nHost: 127.0.0.1:{app_client.port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 403 ")


async def _called(path, client, *, host="10.1.2.3", header=None, extra=frozenset()):
    """Ask the guard itself, as a server would on a connection from `client` to `host`."""
    sent = []

    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def note(message):
        sent.append(message)

    guard = Guard(app, GuardSettings(extra_hosts=extra, local_token="t"))
    headers = [
        (b"host", (header or f"{host}:8402").encode()),
        (b"content-type", b"application/json"),
        (b"authorization", b"Bearer t"),
    ]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    await guard({**scope, "server": (host, 8402), "client": client}, None, note)
    return sent[0]["status"]


@pytest.mark.trio
@pytest.mark.parametrize("path", ["/", "/_otrta/send", "/wallet/login", "/wallet/x/send"])
@pytest.mark.parametrize("client", [("10.1.2.9", 5), ("::ffff:10.1.2.9", 5), ("2001::1", 5), None, ("", 0)])
async def test_from_another_machine_the_wallet_is_out_of_reach_even_with_its_token(path, client):
    assert await _called(path, client) == 403


@pytest.mark.trio
@pytest.mark.parametrize("client", [("127.0.0.1", 5), ("::1", 5), ("::ffff:127.0.0.1", 5)])
async def test_from_this_machine_it_is_in_reach(client):
    assert await _called("/_otrta/send", client, host="127.0.0.1") == 200


@pytest.mark.trio
@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("10.1.2.3:8402", 200),
        ("127.0.0.1:8402", 200),
        ("box.lan", 200),
        ("box.lan:8402", 200),
        ("10.1.2.4:8402", 403),
        ("evil.example:8402", 403),
    ],
)
async def test_the_address_that_was_called_and_names_that_were_allowed_are_ours(header, status):
    found = await _called("/v1/models", ("10.1.2.9", 5), header=header, extra=frozenset({"box.lan"}))
    assert found == status


def test_the_local_token_does_not_show_in_the_settings_repr():
    assert "secret" not in repr(GuardSettings(local_token="secret"))
