"""An operator's own LiteLLM: their custom_auth behind the gate, and what only they may ask."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from otrta_cli.main import main
from otrta_cli.processes import MASTER_KEY, Running, config_dir, free_port, start_gateway
from tests.integration.purse import Purse
from tests.integration.shop import COST_MSAT, Shop, chat
from tests.parts import kept_running

pytestmark = pytest.mark.integration

PAID = 10_000
ADMIN = "/v1/cashu/admin/"

# Beside the config, as LiteLLM's documentation shows it. It would let everybody in who says the word.
OPERATORS_AUTH = """
from litellm.proxy._types import UserAPIKeyAuth

async def auth(request, api_key):
    with open("asked", "a") as asked:
        asked.write(f"{api_key}\\n")
    if api_key != "the-word":
        raise Exception("the operator's auth says no")
    return UserAPIKeyAuth(api_key=api_key)
"""

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def home(parts_home: Path) -> Path:
    """Where this gateway works."""
    return parts_home / "operated"


@pytest.fixture(scope="module")
def operated(home: Path, parts_home: Path, mint: Running, upstream: Running) -> Iterator[Running]:
    """A LiteLLM with an auth of its operator's."""
    home.mkdir()
    config = yaml.safe_load((config_dir() / "litellm.yaml").read_text())
    config["general_settings"]["custom_auth"] = "operators_auth.auth"
    (home / "config.yaml").write_text(yaml.safe_dump(config))
    (home / "operators_auth.py").write_text(OPERATORS_AUTH)
    log = parts_home / "logs/operated.log"

    def start() -> Running:
        return start_gateway(
            home,
            free_port(),
            config=home / "config.yaml",
            upstream_url=upstream.url,
            mints=mint.url,
            log=log,
        )

    with kept_running(log, start) as part:
        yield part


@pytest.fixture
def own_shop(operated: Running, upstream: Running, home: Path) -> Iterator[Shop]:
    """That gateway; nobody has been asked yet."""
    (home / "asked").write_text("")
    with Shop(operated.url, upstream.url) as shop:
        yield shop


def test_the_operators_auth_decides_for_those_with_a_key(own_shop: Shop, home: Path) -> None:
    for header in ({"Authorization": "Bearer the-word"}, {"x-api-key": "the-word"}):
        assert own_shop.ask(chat(), headers=header).status == 200
    refused = own_shop.ask(chat(), headers={"Authorization": "Bearer another"})
    assert refused.status in (400, 401, 403, 500)
    assert "x-cashu" not in refused.headers
    assert "another" in (home / "asked").read_text()


def test_it_is_never_asked_about_those_with_a_token(own_shop: Shop, purse: Purse, home: Path) -> None:
    assert own_shop.buy(purse.token(PAID)).sums == (PAID, COST_MSAT, 0, PAID - COST_MSAT)
    both = own_shop.buy(purse.token(PAID), headers={"Authorization": "Bearer the-word"})
    assert both.sums == (PAID, COST_MSAT, 0, PAID - COST_MSAT)
    token = purse.token(PAID)
    word = {"Authorization": "Bearer the-word"}
    elsewhere = own_shop.buy(token, path="/v1/files", method="GET", headers=word)
    assert (elsewhere.status, elsewhere.code) == (404, "path_not_payable")
    assert purse.states(token) == {"UNSPENT"}
    assert own_shop.ask(chat()).status == 402
    assert (home / "asked").read_text() == ""


def admin(gateway: Running, path: str, *, method: str = "GET", **options: Any) -> httpx.Response:
    """Ask as a program of the operator's."""
    headers = {"Authorization": f"Bearer {MASTER_KEY}", **options.pop("headers", {})}
    with httpx.Client(trust_env=False, timeout=60) as http:
        return http.request(method, f"{gateway.url}{ADMIN}{path}", headers=headers, **options)


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer the-word"},
        {"Authorization": f"Bearer {MASTER_KEY}x"},
        {"Authorization": f"Bearer {MASTER_KEY[:-1]}"},
        {"Authorization": f"Basic {MASTER_KEY}"},
        {"Authorization": MASTER_KEY},
        {"x-api-key": MASTER_KEY},
    ],
    ids=["none", "empty", "callers", "longer", "shorter", "basic", "bare", "x-api-key"],
)
def test_nobody_else_is_the_operator(own_shop: Shop, home: Path, header: dict[str, str]) -> None:
    for path, method in (("balance", "GET"), ("payout/pay", "POST"), ("nothing", "GET")):
        refused = own_shop.ask({}, path=ADMIN + path, method=method, headers=header)
        assert (refused.status, refused.code) == (401, "invalid_api_key")
    assert (home / "asked").read_text() == ""


def test_a_token_opens_nothing_of_the_operators(own_shop: Shop, purse: Purse) -> None:
    token = purse.token(PAID)
    key = {"Authorization": f"Bearer {MASTER_KEY}"}
    for header in ({}, key):
        refused = own_shop.buy(token, path=f"{ADMIN}balance", method="GET", headers=header)
        assert (refused.status, refused.code) == (404, "path_not_payable")
    assert purse.states(token) == {"UNSPENT"}


@pytest.mark.parametrize(
    ("path", "method", "options", "status"),
    [
        ("nothing", "GET", {}, 404),
        ("balance", "POST", {"json": {}}, 405),
        ("recover", "GET", {}, 405),
        ("balance?x=1", "GET", {}, 400),
        ("payments?limit=0", "GET", {}, 400),
        ("payments?limit=1001", "GET", {}, 400),
        ("recover", "POST", {"content": b"{}"}, 415),
        ("recover", "POST", {"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415),
        ("recover", "POST", {"content": b"[]", "headers": {"Content-Type": "application/json"}}, 400),
        ("recover", "POST", {"content": b"[" * 60_000, "headers": {"Content-Type": "application/json"}}, 400),
        ("recover", "POST", {"json": {"x": "y" * 70_000}}, 413),
        ("payout/offer", "POST", {"json": {}}, 400),
        ("payout/offer", "POST", {"json": {"to": "token", "amount_msat": -1}}, 400),
        ("payout/pay", "POST", {"json": {"id": "0" * 32}}, 409),
    ],
)
def test_what_is_asked_wrongly_is_refused(
    operated: Running, path: str, method: str, options: dict[str, Any], status: int
) -> None:
    refused = admin(operated, path, method=method, **options)
    assert refused.status_code == status
    assert set(refused.json()["error"]) == {"message", "type", "param", "code"}
    assert refused.headers["cache-control"] == "no-store"


@pytest.fixture
def ask(operated: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs `otrta gateway` against that gateway."""
    monkeypatch.setenv("OTRTA_GATEWAY_KEY", MASTER_KEY)
    monkeypatch.setenv("OTRTA_GATEWAY_URL", operated.url)

    def run(*arguments: str) -> Any:
        assert main(["gateway", *arguments, "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return run


def test_the_running_gateway_tells_what_it_has(ask: Ask, own_shop: Shop, purse: Purse) -> None:
    before = ask("balance")
    paid = purse.token(600_000)
    served = own_shop.buy(paid)
    _, cost, _, change = served.sums
    after = ask("balance")
    assert after["earned_msat"] == before["earned_msat"] + cost
    assert after["change_out_msat"] == before["change_out_msat"] + change
    assert served.change is not None
    newest = ask("payments", "--limit", "1", "--model", "demo-chat")
    assert [(p["state"], p["paid_msat"], p["cost_msat"]) for p in newest] == [("settled", 600_000, cost)]
    assert ask("recover")["swaps"]["open"] == 0
    free = ask("balance")["free_msat"]
    assert free == after["free_msat"]
    text = json.dumps([before, after, newest])
    assert not any(secret in text for secret in purse.handled + own_shop.handled)


def test_no_more_is_paid_out_than_is_free(
    ask: Ask, own_shop: Shop, purse: Purse, capsys: pytest.CaptureFixture[str]
) -> None:
    assert own_shop.buy(purse.token(PAID)).status == 200
    assert main(["gateway", "payout", "token", "--amount", "1000sat", "--yes"]) == 1
    assert "msat are free at one mint" in capsys.readouterr().err
    assert main(["gateway", "doctor", "--port", "1"]) == 1
    assert "is not set" in capsys.readouterr().err
