"""Wallet actions over loopback: for the holder of the local token alone, and found through two files."""

import json
import os
import stat
from contextlib import asynccontextmanager
from functools import partial

import httpx
import pytest
import trio

from proxy_trio.app import build_app
from proxy_trio.client import open_client
from proxy_trio.client_settings import ClientSettings
from proxy_trio.gateway import gateway_transport
from proxy_trio.local_api import MAX_PARAMS_BYTES, announced, new_local_token, wallet_routes
from proxy_trio.private_files import write_private
from proxy_trio.serve import serve
from proxy_trio.settings import GuardSettings

pytestmark = pytest.mark.trio

TOKEN = "the-local-token"


@asynccontextmanager
async def api(home, **headers):
    async with (
        gateway_transport(verify=False) as transport,
        open_client(home, ClientSettings(), transport=transport) as client,
        trio.open_nursery() as nursery,
    ):
        app = build_app(client.payer, guard=GuardSettings(local_token=TOKEN), routes=wallet_routes(client))
        stop = trio.Event()
        port = await nursery.start(partial(serve, app, 0, stop=stop))
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}/_otrta",
            trust_env=False,
            verify=False,
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", **headers},
        ) as http:
            yield http
        stop.set()


async def test_an_action_is_answered_with_its_result(tmp_path):
    async with api(tmp_path) as http:
        reply = await http.post("/balance", content="{}")
        assert reply.status_code == 200
        assert reply.json()["total_msat"] == 0
        assert reply.headers["cache-control"] == "no-store"
        assert (await http.post("/pending")).json() == []


@pytest.mark.parametrize(
    ("path", "content", "status", "code"),
    [
        ("/drain", b"{}", 404, "action_unknown"),
        ("/send", b'{"amount_msat": 0}', 400, "action_invalid"),
        ("/send", b"[]", 400, "action_invalid"),
        ("/send", b'{"amount_msat": 1000}', 402, "wallet_empty"),
        ("/send", b"not json", 400, "invalid_request"),
        ("/send", b'{"amount_msat": NaN}', 400, "invalid_request"),
        ("/receive", b'{"token": "cashuBx"}', 400, "token_malformed"),
        ("/receive", b'{"token": "' + b"x" * MAX_PARAMS_BYTES + b'"}', 413, "body_too_large"),
        ("/mints_remove", b'{"url": "http://127.0.0.1:9"}', 400, "mint_not_accepted"),
    ],
)
async def test_what_cannot_be_done_is_an_error_with_a_code(path, content, status, code, tmp_path):
    async with api(tmp_path) as http:
        reply = await http.post(path, content=content)
        assert reply.status_code == status
        assert reply.json()["error"].keys() == {"message", "code"}
        assert reply.json()["error"]["code"] == code


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Content-Type": "text/plain"}, 400),
        ({"Host": "evil.example"}, 403),
        ({"Origin": "https://evil.example"}, 403),
    ],
)
async def test_nobody_else_gets_at_the_wallet(headers, status, tmp_path):
    async with api(tmp_path, **headers) as http:
        for action in ("balance", "seed", "send"):
            reply = await http.post(f"/{action}", content="{}")
            assert reply.status_code == status
            assert "words" not in reply.text


async def test_a_link_in_a_page_moves_no_money(tmp_path):
    async with api(tmp_path) as http:
        assert (await http.get("/seed")).status_code == 405


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


async def test_the_files_are_private_and_gone_at_the_end(tmp_path):
    with announced(tmp_path, 8402, TOKEN):
        assert json.loads((tmp_path / "serve.json").read_text()) == {"pid": os.getpid(), "port": 8402}
        assert (tmp_path / "local.token").read_text() == TOKEN
        assert {mode_of(path) for path in tmp_path.iterdir()} == {0o600}
    assert list(tmp_path.iterdir()) == []


async def test_files_that_a_killed_proxy_left_are_replaced_with_their_rights(tmp_path):
    left = tmp_path / "local.token"
    left.write_text("old")
    left.chmod(0o644)
    with announced(tmp_path, 1, TOKEN):
        assert (left.read_text(), mode_of(left)) == (TOKEN, 0o600)


async def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fdopen", fail)
    with pytest.raises(OSError, match="disk full"):
        write_private(tmp_path / "x", "text")
    assert list(tmp_path.iterdir()) == []


async def test_every_run_has_a_token_of_its_own():
    first, second = new_local_token(), new_local_token()
    assert first != second
    assert len(first) >= 43
