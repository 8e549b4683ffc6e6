"""`otrta keys`, `otrta config` and `otrta pending approve`: what they change, print and exit with."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from otrta_cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An OTRTA_HOME that is not there yet."""
    monkeypatch.setenv("OTRTA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `otrta`; returns exit code, standard output and standard error."""

    def otrta(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return otrta


def test_a_key_is_made_changed_rotated_and_removed(run: Run) -> None:
    assert "otrta keys add NAME" in run("keys")[1]
    code, out, _ = run("keys", "add", "cursor", "--per-day", "100", "--model", "gpt-*", "--expires", "30d")
    first = out.splitlines()[0]
    assert (code, first.startswith("sk-otrta-app-")) == (0, True)
    assert "not shown again" in out
    code, out, _ = run("keys", "list")
    assert first not in out
    assert "100 sat a day" in out
    assert "gpt-*" in out
    changed = json.loads(
        run("keys", "set", "cursor", "--per-day", "none", "--total", "0", "--expires", "never", "--json")[1]
    )
    limits = {line["window"]: line["limit_msat"] for line in changed["limits"]}
    assert limits == {"request": None, "hour": None, "day": None, "month": None, "total": 0}
    assert (changed["models"], changed["expires_at"]) == (["gpt-*"], None)
    assert run("keys", "rotate", "cursor")[1].splitlines()[0] != first
    assert run("keys", "remove", "cursor")[:2] == (
        0,
        "Removed cursor: its app is refused from now on.\n",
    )
    assert run("keys", "--json")[1] == "[]\n"


def test_a_setting_goes_into_the_file_without_the_wallet_and_comments_stay(run: Run, home: Path) -> None:
    home.mkdir()
    text = '# mine\nport = 9000 # chosen\n\n[budgets] # caps\n# the month\nper_month_sat = "unlimited"\n'
    (home / "config.toml").write_text(text)
    assert run("config", "set", "budgets.per_month_sat", "50_000") == (
        0,
        "budgets.per_month_sat = 50000\n",
        "",
    )
    assert (home / "config.toml").read_text() == text.replace('"unlimited"', "50000")
    assert run("config", "set", "budgets.models", "gpt-*", "o3")[0] == 0
    assert run("config", "get", "budgets.models") == (0, "gpt-*, o3\n", "")
    assert json.loads(run("config", "get", "budgets.models", "--json")[1])["value"] == ["gpt-*", "o3"]
    assert run("config", "set", "require_keys", "true")[1] == "require_keys = true\n"
    assert run("config", "unset", "budgets.models")[1] == "budgets.models = any\n"
    told = tomllib.loads((home / "config.toml").read_text())
    assert told == {"port": 9000, "budgets": {"per_month_sat": 50000}, "require_keys": True}
    assert (home / "config.toml").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in home.iterdir()) == ["config.toml"]


def test_a_wrong_value_in_the_file_can_be_set_right(run: Run, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("[budgets]\nper_day_sat = -1\n")
    assert run("balance")[0] == 1
    assert run("config", "set", "budgets.per_day_sat", "5")[0] == 0
    assert run("config", "get", "budgets.per_day_sat")[1] == "5\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[budgets]\nper_day_sat = 1.5\n", "budgets.per_day_sat"),
        ("[budgets]\nper_day_sat = true\n", "budgets.per_day_sat"),
        ('[budgets]\nper_day_sat = ""\n', "budgets.per_day_sat"),
        ('[budgets]\nper_day_sat = "none"\n', "budgets.per_day_sat"),
        ("[budgets]\nper_dya_sat = 5\n", "budgets.per_dya_sat"),
        ("[budgets]\nmodels = 'gpt-*'\n", "budgets.models"),
        ("[budgets]\nmodels = ['a', 5]\n", "budgets.models"),
        ("budgets = 5\n", "budgets"),
        ("[budgets]\napproval_wait_s = nan\n", "budgets.approval_wait_s"),
        ("[budgets\n", "line 1"),
        ("x = " + "[" * 5000, "config.toml"),
        ("port = 1\nport = 2\n", "line 2"),
        ("host = 'example.com'\n", "host"),
        ("origins = ['http://x/']\n", "origins"),
    ],
)
def test_a_broken_file_is_one_line_that_names_the_key_and_nothing_starts(
    text: str, told: str, run: Run, home: Path
) -> None:
    home.mkdir()
    (home / "config.toml").write_text(text)
    for command in (["serve", "--port", "0"], ["config", "set", "port", "9000"], ["config", "get", "port"]):
        code, out, err = run(*command)
        assert (code, out, len(err.splitlines())) == (1, "", 1)
        assert told in err
        assert "error in otrta itself" not in err
    assert (home / "config.toml").read_text() == text
    assert not (home / "wallet.sqlite3").exists()


def test_the_environment_goes_before_the_file_and_that_is_said(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTRTA_BUDGETS_PER_DAY_SAT", "7")
    _, out, _ = run("config", "set", "budgets.per_day_sat", "5")
    assert "budgets.per_day_sat = 7" in out
    assert "OTRTA_BUDGETS_PER_DAY_SAT in the environment" in out
    monkeypatch.delenv("OTRTA_BUDGETS_PER_DAY_SAT")
    assert run("config", "get", "budgets.per_day_sat")[1] == "5\n"
    for name, value in (("OTRTA_BUDGETS_PER_DAY_SAT", "lots"), ("OTRTA_BUDGETS_PER_DYA_SAT", "5")):
        monkeypatch.setenv(name, value)
        code, _, err = run("balance")
        assert (code, name in err) == (1, True)
        monkeypatch.delenv(name)


def test_budgets_and_the_pause_are_shown(run: Run) -> None:
    out = run("config", "budgets")[1]
    assert "10,000 sat" in out
    assert "unlimited" in out
    assert "otrta config resume" in run("config", "pause")[1]
    assert "All spending is paused since" in run("config", "budgets")[1]
    assert json.loads(run("config", "budgets", "--json")[1])["paused_since"] > 0
    run("config", "resume")
    assert "paused" not in run("config", "budgets")[1]


def test_nothing_waits_for_approval_in_a_new_wallet(run: Run) -> None:
    assert run("pending", "approvals")[:2] == (0, "No call waits for approval.\n")
    assert run("pending", "--json")[1] == "[]\n"
    code, _, err = run("pending", "approve", "0123abcd")
    assert (code, "otrta pending approvals" in err) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["keys", "add"],
        ["keys", "add", "a", "--per-day", "lots"],
        ["keys", "add", "a", "--per-day", "-1"],
        ["keys", "add", "a", "--expires", "soon"],
        ["keys", "set", "a"],
        ["keys", "drop", "a"],
        ["config", "set", "port"],
        ["config", "get"],
        ["pending", "approve"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], run: Run) -> None:
    code, out, err = run(*arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["config", "set", "port", "0"],
        ["config", "set", "ports", "1"],
        ["config", "set", "port", "1", "2"],
        ["config", "unset", "budgets"],
        ["config", "get", "budgets"],
        ["serve", "--host", "localhost.example"],
    ],
)
def test_what_is_no_setting_is_one_line_and_exit_code_1(arguments: list[str], run: Run, home: Path) -> None:
    code, out, err = run(*arguments)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert not home.exists()
