"""Any app through `otrta serve` and the real gateway: exact to the msat, whatever happens to either side."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from otrta_cli.demo_calls import openai_client
from otrta_cli.main import main
from otrta_cli.processes import Running, free_port, run_otrta, start_client
from otrta_cli.wallet_link import WalletLink
from otrta_litellm import ledger

pytestmark = pytest.mark.integration

HI: list[Any] = [{"role": "user", "content": "hi"}]
COST_MSAT = 110


class Books:
    """The wallet's and the gateway's, and what changed since they were opened."""

    def __init__(self, home: Path, gateway_store: Path) -> None:
        self.link = WalletLink(home)
        self._store = str(gateway_store)
        self._total = self.total()
        self._earned = ledger.earnings_msat(self._store)

    def total(self) -> int:
        return int(self.link.act("balance")["total_msat"])

    def settle(self) -> None:
        """Wait until no payment is open."""
        deadline = time.monotonic() + 30
        while self.link.act("pending") or self.link.act("balance")["pending_msat"]:
            assert time.monotonic() < deadline, self.link.act("pending")
            time.sleep(0.05)

    @property
    def gone(self) -> int:
        """What the wallet has less."""
        return self._total - self.total()

    @property
    def earned(self) -> int:
        """What the gateway has charged."""
        return ledger.earnings_msat(self._store) - self._earned

    @property
    def last_call(self) -> dict[str, Any]:
        """The newest call in the wallet's history."""
        return next(entry for entry in self.link.act("history") if entry["kind"] == "call")


@pytest.fixture(scope="module")
def funds(client: Running, client_home: Path) -> None:
    """Money in the client's wallet."""
    run_otrta(client_home, "invoice", "200sat")


@pytest.fixture
def books(funds: None, client_home: Path, gateway_home: Path) -> Books:
    return Books(client_home, gateway_home)


@pytest.fixture
def sdk(client: Running) -> Iterator[openai.OpenAI]:
    with openai_client(client.url) as sdk:
        yield sdk


def test_a_plain_call_costs_what_it_used(sdk: openai.OpenAI, books: Books) -> None:
    raw = sdk.chat.completions.with_raw_response.create(model="demo-chat", messages=HI)
    assert raw.parse().usage.total_tokens == 30
    paid, cost, fee, change = (
        int(raw.headers[f"X-Otrta-{name}-Msat"]) for name in ("Paid", "Cost", "Fee", "Change")
    )
    assert (cost, fee, paid) == (COST_MSAT, 0, cost + fee + change)
    assert "x-cashu" not in raw.headers
    books.settle()
    assert books.gone == books.earned == COST_MSAT


def test_a_streamed_call_costs_the_same_and_its_change_does_not_reach_the_app(
    client: Running, books: Books
) -> None:
    body = {"model": "demo-chat", "messages": HI, "stream": True}
    with (
        httpx.Client(trust_env=False) as http,
        http.stream("POST", f"{client.url}/v1/chat/completions", json=body) as reply,
    ):
        text = reply.read().decode()
    assert text.rstrip().endswith("data: [DONE]")
    assert "cashu" not in text
    assert ": otrta" not in text
    books.settle()
    assert books.gone == books.earned == books.last_call["cost_msat"] == COST_MSAT


def test_the_official_sdk_reads_a_stream_to_its_end(sdk: openai.OpenAI, books: Books) -> None:
    chunks = list(
        sdk.chat.completions.create(
            model="demo-chat", messages=HI, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 20
    books.settle()
    assert books.gone == COST_MSAT


def test_embeddings_are_bought_too(sdk: openai.OpenAI, books: Books) -> None:
    vectors = sdk.embeddings.create(model="demo-embed", input=["one", "two"])
    assert len(vectors.data) == 2
    books.settle()
    assert books.gone == books.earned == 10


def test_the_list_of_models_is_free(sdk: openai.OpenAI, books: Books) -> None:
    assert "demo-chat" in {model.id for model in sdk.models.list()}
    assert books.gone == 0


@pytest.mark.parametrize(
    ("model", "error"), [("demo-500", openai.InternalServerError), ("demo-429", openai.RateLimitError)]
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_of_the_upstream_reaches_the_app_and_costs_nothing(
    model: str, error: type[openai.APIStatusError], stream: bool, sdk: openai.OpenAI, books: Books
) -> None:
    with pytest.raises(error):
        sdk.chat.completions.create(model=model, messages=HI, stream=stream)
    books.settle()
    assert (books.gone, books.earned) == (0, 0)
    assert books.last_call["amount_msat"] == 0


def test_a_model_that_nobody_sells_is_the_gateways_own_refusal(sdk: openai.OpenAI, books: Books) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        sdk.chat.completions.create(model="no-such-model", messages=HI)
    assert refused.value.code == "model_not_found"
    assert books.gone == 0


def test_a_stream_that_the_upstream_cuts_costs_what_came(sdk: openai.OpenAI, books: Books) -> None:
    with pytest.raises(openai.OpenAIError):
        list(sdk.chat.completions.create(model="demo-cut", messages=HI, stream=True))
    books.settle()
    assert 0 < books.gone == books.earned <= COST_MSAT


def test_an_app_that_goes_away_in_mid_stream_leaves_its_change_in_the_wallet(
    client: Running, books: Books
) -> None:
    body = {"model": "demo-slow", "messages": HI, "stream": True}
    with (
        httpx.Client(trust_env=False) as http,
        http.stream("POST", f"{client.url}/v1/chat/completions", json=body) as reply,
    ):
        pieces = reply.iter_raw()
        for _ in range(3):
            next(pieces)
    books.settle()
    assert books.last_call["state"] == "done"
    assert 0 < books.gone == books.earned <= COST_MSAT


@pytest.fixture
def own_client(tmp_path: Path, mint: Running, gateway: Running) -> Iterator[Callable[[], Running]]:
    """Starts clients on one home of their own, whose wallet has 100 sat."""
    home = tmp_path / "home"
    started: list[Running] = []

    def start() -> Running:
        started.append(start_client(home, free_port(), log=tmp_path / "client.log"))
        return started[-1]

    link = WalletLink(home)
    link.act("mints_add", url=mint.url)
    link.act("gateways_add", url=gateway.url)
    invoice = link.act("invoice", amount_msat=100_000)
    assert link.act("claim_invoice", quote_id=invoice["quote_id"])["paid"]
    yield start
    for client in started:
        client.stop()


def call_in_background(client: Running, model: str) -> threading.Event:
    """Make a streamed call; the event says that its first bytes have come."""
    begun = threading.Event()

    def call() -> None:
        body = {"model": model, "messages": HI, "stream": True}
        try:
            with (
                httpx.Client(trust_env=False) as http,
                http.stream("POST", f"{client.url}/v1/chat/completions", json=body) as reply,
            ):
                for _ in reply.iter_raw():
                    begun.set()
        except httpx.HTTPError:
            begun.set()

    threading.Thread(target=call, daemon=True).start()
    return begun


def test_a_client_that_is_killed_in_mid_call_gets_its_change_with_recover(
    own_client: Callable[[], Running], tmp_path: Path, gateway_home: Path
) -> None:
    client, home = own_client(), tmp_path / "home"
    books = Books(home, gateway_home)
    assert call_in_background(client, "demo-slow").wait(20)
    client.kill()
    assert [payment["state"] for payment in WalletLink(home).act("pending")] == ["in_flight"]
    recovered = json.loads(run_otrta(home, "recover", "--json"))
    assert (recovered["open"], recovered["disputed"]) == (0, 0)
    assert 0 < books.gone == books.earned <= COST_MSAT

    again = own_client()  # a stale serve.json is no obstacle
    with openai_client(again.url) as sdk:
        assert sdk.chat.completions.create(model="demo-chat", messages=HI).choices
    books.settle()
    assert books.gone == books.earned


def test_a_client_that_is_stopped_in_mid_call_ends_within_seconds_and_loses_nothing(
    own_client: Callable[[], Running], tmp_path: Path, gateway_home: Path
) -> None:
    client, home = own_client(), tmp_path / "home"
    books = Books(home, gateway_home)
    assert call_in_background(client, "demo-slow").wait(20)
    began = time.monotonic()
    client.popen.terminate()
    assert client.popen.wait(10) == 0
    assert time.monotonic() - began < 5
    assert not (home / "serve.json").exists()
    assert not (home / "local.token").exists()
    assert json.loads(run_otrta(home, "recover", "--json"))["open"] == 0
    assert 0 < books.gone == books.earned <= COST_MSAT
    assert "cashu" not in client.log.read_text()


def test_the_commands_say_the_same_while_the_proxy_runs_and_while_it_does_not(
    own_client: Callable[[], Running],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    commands = ("balance", "history", "pending", "mints", "gateways", "config")
    monkeypatch.setenv("OTRTA_HOME", str(tmp_path / "home"))

    def told() -> list[str]:
        assert [main([command, "--json"]) for command in commands] == [0] * len(commands)
        return capsys.readouterr().out.splitlines()

    alone = told()
    own_client()
    served = told()
    assert served == alone
    balance, history, *_ = map(json.loads, served)
    assert balance == {
        "available_msat": 100_000,
        "pending_msat": 0,
        "total_msat": 100_000,
        "mints": [{"url": balance["mints"][0]["url"], "unit": "msat", "available": 100_000, "pending": 0}],
    }
    (invoice,) = history
    assert isinstance(invoice.pop("time"), float)
    assert invoice == {
        "kind": "invoice",
        "amount_msat": 100_000,
        "cost_msat": None,
        "fee_msat": 0,
        "gateway": None,
        "model": None,
        "state": "done",
        "lost_msat": None,
        "key": None,
    }
