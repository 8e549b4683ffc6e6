"""`otrta gateway` without a running gateway: on the store itself, and what the doctor finds."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml

from otrta_cli.litellm_config import read_config
from otrta_cli.main import main
from otrta_cli.processes import Running, config_dir, free_port
from otrta_core import Token
from otrta_litellm.gateway import VERSION_TABLE
from otrta_litellm.settings import store_url
from otrta_wallet import Wallet
from tests.integration.purse import Purse
from tests.payee import Payee, payee

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:Items? .* using the `ReadOnly` qualifier"),
]

EARNED = 700_000

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def store(mint: Running, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gateway's store with money in it."""
    home = tmp_path_factory.mktemp("store")

    async def fill() -> None:
        migrations = [("otrta_litellm", VERSION_TABLE)]
        async with Wallet.open(store_url(str(home)), migrations=migrations) as wallet:
            await wallet.mints.add(mint.url)
            with Purse(mint.url) as purse:
                await wallet.receive(purse.token(EARNED))

    anyio.run(fill)
    return home


@pytest.fixture
def environ(store: Path, mint: Running, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The variables of a gateway that does not run."""
    monkeypatch.setenv("OTRTA_GATEWAY_STORE", str(store))
    monkeypatch.setenv("OTRTA_GATEWAY_MINTS", mint.url)
    monkeypatch.setenv("OTRTA_GATEWAY_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("OTRTA_GATEWAY_KEY", raising=False)
    return monkeypatch


@pytest.fixture
def ask(environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs a command and returns its JSON."""

    def run(*arguments: str) -> Any:
        assert main(["gateway", *arguments, "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture(scope="module")
def me() -> Iterator[Payee]:
    with payee() as found:
        yield found


def test_the_store_is_read_where_no_gateway_runs(
    ask: Ask, environ: pytest.MonkeyPatch, mint: Running
) -> None:
    balance = ask("balance")
    assert balance["float_msat"] == balance["free_msat"] == EARNED
    assert [(m["url"], m["unit"]) for m in balance["mints"]] == [(mint.url, "msat")]
    environ.setenv("OTRTA_GATEWAY_KEY", "sk-nobody-listens-there")
    assert ask("payments") == []
    assert ask("recover")["swaps"]["open"] == 0
    assert ask("payout", "--list") == []


def test_money_leaves_it_once_and_is_accounted_for(ask: Ask, me: Payee, mint: Running) -> None:
    before = ask("balance")["float_msat"]
    made = ask("payout", "token", "--amount", "5sat", "--yes")
    token = Token.parse(made["token"])
    assert (token.amount, made["state"]) == (5_000, "paid")
    assert ask("payout", "--show", made["id"][:8])["token"] == made["token"]
    paid = ask("payout", me.address, "--amount", "100sat", "--yes")
    assert (paid["state"], paid["amount_msat"], me.asked) == ("paid", 100_000, [100_000])
    after = ask("balance")
    assert after["float_msat"] == before - 5_000 - 100_000 - paid["fee_msat"]
    assert after["paid_out_msat"] == 105_000
    assert {each["id"] for each in ask("payout", "--list")} == {made["id"], paid["id"]}
    with Purse(mint.url) as purse:
        assert purse.states(token) == {"UNSPENT"}
    back = ask("payout", "--cancel", made["id"][:8])
    assert (back["state"], back["transfer_state"]) == ("cancelled", "reclaimed")
    assert ask("balance")["float_msat"] == before - 100_000 - paid["fee_msat"]


def test_people_are_asked_first(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _prompt: "n")
    assert main(["gateway", "payout", "token", "--amount", "7sat"]) == 1
    said = capsys.readouterr()
    assert "7 sat to a token, without a fee, from" in said.out
    assert said.err.splitlines()[-1] == "otrta: nothing was paid"


@pytest.mark.parametrize(
    "what", ["balance", "payments", "payout --list", "recover", "payout token --yes --amount 1"]
)
def test_people_can_read_it(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    assert main(["gateway", *what.split()]) == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["payout"], 2, "say where TO"),
        (["payout", "x", "--list"], 2, "say where TO"),
        (["payout", "token", "--json"], 2, "--json needs --yes"),
        (["payout", "nonsense", "--yes"], 1, "this is no Lightning invoice"),
        (["payout", "token", "--amount", "9999999", "--yes"], 1, "msat are free at one mint"),
        (["payout", "--show", "zzz"], 1, "no payouts begin with zzz"),
        (["payout", "--cancel", "zzz"], 1, "no payouts begin with zzz"),
        (["payout", "token", "--cancel", "zzz"], 2, "say where TO"),
        (["payments", "--limit", "0"], 2, "--limit"),
        (["balance", "--config", "nowhere.yaml"], 1, "nowhere.yaml: No such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_done_is_one_line(
    environ: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    assert main(["gateway", *arguments]) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("otrta: ")
    assert said in lines[0]


def test_the_key_is_not_sent_in_clear_to_elsewhere(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("OTRTA_GATEWAY_KEY", "sk-secret")
    assert main(["gateway", "balance", "--url", "http://gateway.example"]) == 2
    assert "https://" in capsys.readouterr().err


def test_a_store_that_a_gateway_has_open_is_left_alone(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], store: Path
) -> None:
    from otrta_wallet.database import sole_owner

    with sole_owner(store_url(str(store))):
        assert main(["gateway", "balance"]) == 1
        assert "set OTRTA_GATEWAY_KEY to LiteLLM's master key" in capsys.readouterr().err
        environ.setenv("OTRTA_GATEWAY_KEY", "sk-x")
        assert main(["gateway", "balance"]) == 1
        assert "name it by --url" in capsys.readouterr().err


@pytest.fixture
def config(tmp_path: Path, environ: pytest.MonkeyPatch, mint: Running) -> tuple[Path, dict[str, Any]]:
    """A copy of the demo's config, and what is in it."""
    environ.setenv("OTRTA_MINTS", mint.url)
    environ.setenv("OTRTA_UPSTREAM_URL", "http://127.0.0.1:1/v1")
    environ.setenv("LITELLM_MASTER_KEY", "sk-hunter2")
    return tmp_path / "config.yaml", yaml.safe_load((config_dir() / "litellm.yaml").read_text())


def test_the_doctor_finds_nothing_wrong(
    config: tuple[Path, dict[str, Any]], ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ask("doctor", "--config", str(config_dir() / "litellm.yaml"), "--port", str(free_port()))
    assert told["ok"]
    assert {"settings", "litellm", "httptools", "callback", "master key", "store", "rate"} <= {
        check["what"] for check in told["checks"]
    }
    assert "model demo-chat" in {check["what"] for check in told["checks"]}


def test_the_doctor_names_each_thing_that_is_wrong(
    config: tuple[Path, dict[str, Any]],
    mint: Running,
    environ: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, told = config
    told["litellm_settings"]["callbacks"] = []
    told["general_settings"] = {}
    told["model_list"].append(
        {"model_name": "dear", "litellm_params": {"model": "openai/dear", "api_key": "x"}}
    )
    path.write_text(yaml.safe_dump(told))
    environ.setenv("LITELLM_MASTER_KEY", "")
    environ.setenv("OTRTA_GATEWAY_UNITT", "x")
    environ.setenv("OTRTA_GATEWAY_MINTS", f"http://127.0.0.1:1,{mint.url}")
    with ExitStack() as stack:
        port = stack.enter_context(payee()).port
        arguments = ["gateway", "doctor", "--config", str(path), "--port", str(port), "--json"]
        assert main(arguments) == 1
    said = capsys.readouterr()
    wrong = {c["what"]: c["told"] for c in json.loads(said.out)["checks"] if not c["ok"]}
    assert set(wrong) == {
        "callback",
        "master key",
        "variables",
        "http://127.0.0.1:1",
        "model dear",
        f"port {port}",
    }
    assert "hunter2" not in said.out + said.err
    assert said.err.splitlines()[-1].startswith("otrta: 6 of ")


def test_wrong_settings_are_all_that_the_doctor_says(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("OTRTA_GATEWAY_UNIT", "dollars")
    assert main(["gateway", "doctor"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "otrta: OTRTA_GATEWAY_UNIT (callback_settings.otrta.unit) must be msat or sat\n"


def test_a_config_is_read_with_what_it_includes(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "config.yaml").write_text(
        "include: [more/models.yaml]\nmodel_list: [{model_name: a, api_key: os.environ/A}]\n"
        "callback_settings: {otrta: {store: os.environ/S, mints: [os.environ/M], unit: os.environ/NONE}}\n"
    )
    (tmp_path / "more/models.yaml").write_text(
        "model_list: [{model_name: b}]\nrouter_settings: {fallbacks: []}\n"
    )
    found = read_config(tmp_path / "config.yaml", {"A": "key", "S": "store", "M": "x"})
    assert found.models == [{"model_name": "a", "api_key": "key"}, {"model_name": "b"}]
    assert found.otrta == {"store": "store", "mints": ["os.environ/M"], "unit": None}
    assert found.router == {"fallbacks": []}
    assert "key" not in repr(found)


@pytest.mark.parametrize(
    ("text", "said"), [("a: [", "no YAML (line"), ("- a", "holds no mapping"), ("\x00", "no YAML")]
)
def test_a_config_that_is_none_is_refused(
    tmp_path: Path, environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (tmp_path / "config.yaml").write_text(text)
    assert main(["gateway", "doctor", "--config", str(tmp_path / "config.yaml")]) == 1
    assert said in capsys.readouterr().err
