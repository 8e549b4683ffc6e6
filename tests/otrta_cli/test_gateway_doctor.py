"""What the doctor says of each thing that goes wrong for operators, and how it says to mend it."""

import importlib.metadata
import json
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from otrta_cli import gateway_checks, gateway_doctor
from otrta_cli.gateway_checks import Check, ask_feeds, ask_mints, look_at_port, look_at_store
from otrta_cli.litellm_config import LitellmConfig
from otrta_cli.main import main
from otrta_cli.processes import Running, environment, free_port
from otrta_litellm.settings import GatewaySettings, SettingsError, load_settings
from otrta_wallet.database import sole_owner
from tests.fault_proxy import Fault, fault_proxy
from tests.postgres import Server

NOBODY = "http://127.0.0.1:1"


def settings(**values: Any) -> GatewaySettings:
    return load_settings({"store": "nowhere", "mints": NOBODY, **values}, {})


def store(path: Path | str, *, served: bool = False) -> Check:
    return look_at_store(settings(store=str(path)), served=served)


def test_a_store_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    found = store(tmp_path / "a/b")
    assert found.ok
    assert "made at the first start" in found.told
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_another_process_has_open_is_the_running_gateways_or_in_the_way(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "gateway.sqlite3").execute(
        "create table gateway_version (x)"
    ).connection.close()
    assert store(tmp_path).ok
    with sole_owner(settings(store=str(tmp_path)).store_url):
        assert "open in the running gateway" in store(tmp_path, served=True).told
        busy = store(tmp_path)
    assert (busy.ok, "another process has" in busy.told) == (False, True)
    assert store(tmp_path).ok
    assert {path.name for path in tmp_path.iterdir()} == {"gateway.sqlite3", "gateway.sqlite3.lock"}


@pytest.mark.parametrize("kind", ["a file above it", "a directory", "rights", "garbage", "somebody else's"])
def test_a_store_that_cannot_be_used_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    file = tmp_path / "gateway.sqlite3"
    at, said = tmp_path, ""
    match kind:
        case "a file above it":
            (tmp_path / "file").write_text("x")
            at, said = tmp_path / "file", "is no directory"
        case "a directory":
            file.mkdir()
            said = "is no file"
        case "rights":
            monkeypatch.setattr(gateway_checks.os, "access", lambda *_: False)
            said = "cannot be written to"
        case "garbage":
            file.write_bytes(b"garbage" * 1000)
            said = "is no SQLite database"
        case _:
            sqlite3.connect(file).execute("create table other (x)").connection.close()
            said = "belongs to something else"
    found = store(at)
    assert (found.what, found.ok) == ("store", False)
    assert said in found.told
    assert found.fix


def test_a_postgres_that_does_not_answer_is_wrong_and_its_password_unsaid() -> None:
    found = store(f"postgresql://otrta:hunter2@127.0.0.1:{free_port()}/otrta")
    assert not found.ok
    assert "PostgreSQL cannot be used (OperationalError)" in found.told
    assert "hunter2" not in found.told + found.fix


@pytest.mark.integration
def test_a_postgres_that_is_litellms_or_not_the_users_is_wrong(postgres: Server) -> None:
    litellms, foreign = postgres.create(), postgres.create()
    assert store(postgres.url(litellms)).told == "PostgreSQL answers"
    postgres.tell('CREATE TABLE "LiteLLM_UserTable" (x int)', litellms)
    found = store(postgres.url(litellms))
    assert "LiteLLM keeps its own tables there" in found.told
    postgres.tell("CREATE ROLE guest LOGIN PASSWORD 'guest'", foreign)
    postgres.tell("REVOKE ALL ON SCHEMA public FROM PUBLIC", foreign)
    url = postgres.url(foreign)
    guest = f"postgresql://guest:guest@{url.rpartition('@')[2]}"
    found = store(guest)
    assert (found.ok, found.told) == (False, "this user may not make tables there")


def of_mint(**values: Any) -> list[Check]:
    return [check for check in anyio.run(ask_mints, settings(**values)) if not check.ok]


def test_a_mint_that_does_not_answer_is_wrong() -> None:
    [found] = of_mint()
    assert found.what == NOBODY
    assert "start it" in found.fix


@pytest.mark.integration
def test_a_mint_that_is_too_dear_is_wrong(fee_mint: Running) -> None:
    assert of_mint(mints=fee_mint.url) == []
    [found] = of_mint(mints=fee_mint.url, max_fee_ppk=99)
    assert "fee 100 ppk" in found.told
    assert "above max_fee_ppk" in found.told


@pytest.mark.integration
def test_a_mint_that_lacks_what_is_needed_is_wrong(mint: Running) -> None:
    def without(*nuts: str) -> Fault:
        def twist(body: bytes) -> bytes:
            told = json.loads(body)
            told["nuts"] = {nut: what for nut, what in told["nuts"].items() if nut not in nuts}
            return json.dumps(told).encode()

        return Fault("lacks", twist=twist)

    def of_units(unit: str) -> Fault:
        def twist(body: bytes) -> bytes:
            told = json.loads(body)
            return json.dumps({"keysets": [k for k in told["keysets"] if k["unit"] == unit]}).encode()

        return Fault("units", twist=twist)

    with fault_proxy(mint.port) as proxy:
        proxy.spoil("v1/info", without("7", "9"), without("11"), without("11"))
        [found] = of_mint(mints=proxy.url)
        assert "NUT-07" in found.told or "NUT-7" in found.told
        assert of_mint(mints=proxy.url) == []
        [found] = of_mint(mints=proxy.url, lock="required")
        assert "it keeps no locks" in found.told
        proxy.reset()
        proxy.spoil("v1/keysets", of_units("sat"), of_units("usd"), of_units("sat"))
        [found] = of_mint(mints=proxy.url)
        assert (found.what, "no mint has msat" in found.told) == ("unit", True)
        [found] = of_mint(mints=proxy.url)
        assert found.told == "it has neither sat nor msat"
        assert of_mint(mints=f"{proxy.url},{mint.url}") == []


@pytest.mark.integration
@pytest.mark.parametrize(("minutes", "said"), [(-5, "300 s before"), (5, "300 s behind"), (0, "")])
def test_a_clock_that_is_wrong_is_named(
    mint: Running, monkeypatch: pytest.MonkeyPatch, minutes: int, said: str
) -> None:
    then = datetime.now(UTC) + timedelta(minutes=minutes)
    monkeypatch.setattr(gateway_checks, "parsedate_to_datetime", lambda _: then)
    monkeypatch.setattr(gateway_checks.time, "time", (then - timedelta(minutes=minutes)).timestamp)
    wrong = of_mint(mints=mint.url)
    assert [said in check.told for check in wrong] == [True] * bool(said)


def test_the_date_of_an_answer_is_read_where_it_has_one() -> None:
    now = datetime.now(UTC)
    skew = gateway_checks._skew_s([format_datetime(now, usegmt=True)])
    assert skew is not None
    assert abs(skew) < 5
    assert [gateway_checks._skew_s(dates) for dates in ([], [""], ["yesterday"])] == [None, None, None]


def test_feeds_that_do_not_answer_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feeds = [{"format": "kraken", "url": NOBODY}, {"format": "bitstamp", "url": NOBODY}]
    monkeypatch.setenv("OTRTA_GATEWAY_BTC_USD", json.dumps({"feeds": feeds}))
    monkeypatch.setenv("OTRTA_GATEWAY_STORE", str(tmp_path))
    monkeypatch.setenv("OTRTA_GATEWAY_MINTS", NOBODY)
    assert main(["gateway", "doctor", "--json", "--port", str(free_port())]) == 1
    said = capsys.readouterr()
    [found] = [check for check in json.loads(said.out)["checks"] if check["what"] == "rate"]
    assert not found["ok"]
    assert "0 of 2 feeds answer, not kraken, bitstamp" in found["told"]
    assert "https" in found["fix"]
    assert said.err.startswith("otrta: 2 of ")
    assert anyio.run(ask_feeds, settings()) == (None, [])


@pytest.mark.parametrize(
    ("named", "told"),
    [
        (["otrta_litellm.plugin.handler"], "named once"),
        ("otrta_litellm.plugin.handler", "named once"),
        (None, "missing"),
        (["prometheus"], "missing"),
        (["otrta_litellm.plugin.handlr"], "otrta_litellm.plugin.handlr is not it"),
        (["otrta_litellm.plugin.handler"] * 2, "more than once"),
    ],
    ids=["list", "text", "none", "another", "misspelt", "twice"],
)
def test_the_callback_line_is_looked_at(named: object, told: str) -> None:
    found = gateway_doctor._callback(LitellmConfig(litellm={"callbacks": named}))
    assert told in found.told
    assert found.ok is (told == "named once")


def test_settings_in_the_wrong_place_are_named() -> None:
    lost = LitellmConfig(litellm={"callback_settings": {"otrta": {}}})
    with pytest.raises(SettingsError, match="stands in litellm_settings: move it to the top level"):
        gateway_doctor._settings(lost, {})


def test_litellms_own_database_is_refused_where_its_config_names_it() -> None:
    url = "postgresql://u@db/litellm"
    config = LitellmConfig(otrta={"store": url, "mints": NOBODY}, general={"database_url": url})
    with pytest.raises(SettingsError, match="LiteLLM's own DATABASE_URL"):
        gateway_doctor._settings(config, {})


def test_variables_that_nothing_reads_are_named() -> None:
    environ = {
        "OTRTA_GATEWAY_MINTSS": "x",
        "OTRTA_GATEWAY_STORE_FILE": "x",
        "OTRTA_GATEWAY_XYZ": "x",
        "A": "x",
    }
    first, second = gateway_doctor._variables(environ)
    assert first.fix == "did you mean OTRTA_GATEWAY_MINTS?"
    assert second.told == "no setting reads OTRTA_GATEWAY_XYZ"


@pytest.mark.parametrize(("url", "workers", "count"), [("d", 1, 0), ("d", 2, 1), ("postgresql://h/d", 4, 0)])
def test_several_workers_need_postgres(url: str, workers: int, count: int) -> None:
    assert len(list(gateway_doctor._workers(settings(store=url), workers))) == count


@pytest.mark.parametrize("version", [None, "1.107.0"])
def test_programs_that_are_missing_or_not_tested_are_named(
    monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    def found(_name: str) -> str:
        if version is None:
            raise importlib.metadata.PackageNotFoundError
        return version

    monkeypatch.setattr(importlib.metadata, "version", found)
    checks = {check.what: check for check in gateway_doctor._programs()}
    assert set(checks) == {"litellm", "httptools"}
    assert not checks["litellm"].ok
    assert checks["litellm"].fix == "pip install 'otrta[gateway]'"
    assert checks["httptools"].ok is (version is not None)


def test_who_has_the_port_is_said() -> None:
    assert look_at_port(free_port()).told == "free"


@pytest.mark.parametrize(
    ("command", "unit", "said"),
    [
        (
            "doctor",
            "dollars",
            "otrta: OTRTA_GATEWAY_UNIT (callback_settings.otrta.unit) must be msat or sat\n",
        ),
        ("balance", "sat", ""),
        ("doctor", "sat", "otrta: 3 of 9 checks failed\n"),
    ],
    ids=["wrong-settings", "balance", "doctor"],
)
def test_litellm_says_nothing_amid_a_command(tmp_path: Path, command: str, unit: str, said: str) -> None:
    (tmp_path / "config.yaml").write_text('{"model_list": []}')
    known = {"OTRTA_GATEWAY_MINTS": NOBODY, "OTRTA_GATEWAY_STORE": str(tmp_path), "OTRTA_GATEWAY_UNIT": unit}
    ran = subprocess.run(
        [sys.executable, "-m", "otrta_cli.main", "gateway", command, "--config", "config.yaml"],
        cwd=tmp_path,
        env=environment({"HOME": str(tmp_path), "LITELLM_MASTER_KEY": "sk-x", **known}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.stderr == said


@pytest.mark.parametrize("key", ["unit", "mints", "store", "btc_usd", "prices", "payout"])
def test_each_wrong_setting_is_one_sentence_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    otrta: dict[str, Any] = {"store": "d", "mints": NOBODY, key: [17]}
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"callback_settings": {"otrta": otrta}}))
    assert main(["gateway", "doctor", "--config", str(config), "--json"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.splitlines()
    assert line.startswith("otrta: ")
    assert f"callback_settings.otrta.{key}" in line
