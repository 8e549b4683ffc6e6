"""`otrta restore`: words from standard input, and every msat back on another machine."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from otrta_cli.processes import Running, free_port
from otrta_cli.restore_command import _restore
from otrta_cli.wallet_link import WalletLink
from otrta_wallet.seed import new_words

WORDS = new_words()


def otrta(home: Path, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """Run `otrta` as a process of its own: each home is another machine."""
    ran = subprocess.run(
        [sys.executable, "-m", "otrta_cli.main", *arguments],
        env=os.environ | {"OTRTA_HOME": str(home)},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return ran.returncode, ran.stdout, ran.stderr


def balance(home: Path) -> Any:
    told = json.loads(otrta(home, "balance", "--json")[1])
    return told["available_msat"], told["pending_msat"]


@pytest.mark.integration
def test_the_words_bring_the_money_to_another_machine(tmp_path: Path, mint: Running) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    otrta(old, "mints", "add", mint.url)
    otrta(old, "invoice", "2500msat", "--json")
    otrta(old, "invoice", "7", "--unit", "sat", "--json")
    words = otrta(old, "config", "seed", "--yes")[1]
    code, out, err = otrta(new, "restore", "--mint", mint.url, "--look", "2", stdin=words)
    assert (code, err) == (0, "")
    assert f"{mint.url}: 2,500 msat and 7 sat came back" in out
    assert balance(new) == balance(old) == (9_500, 0)
    assert otrta(new, "config", "seed", "--yes")[1] == words
    told = json.loads(otrta(new, "restore", "--mint", mint.url, "--look", "2", "--json", stdin=words)[1])
    [again] = told
    assert (again["complete"], again["mint"]) == (True, mint.url)
    assert again["units"] == [
        {"unit": "msat", "found": 0, "pending": 0, "gone": 0},
        {"unit": "sat", "found": 0, "pending": 0, "gone": 0},
    ]
    code, out, err = otrta(new, "restore", "--mint", mint.url, stdin=WORDS)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "OTRTA_HOME=DIR otrta restore" in err
    assert not {*words.split()} & {*err.split()}


@pytest.mark.integration
def test_a_mint_that_is_away_does_not_stop_the_others(tmp_path: Path, mint: Running) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    mints = ["--mint", away, "--mint", mint.url]
    code, out, err = otrta(tmp_path / "new", "restore", *mints, "--look", "1", stdin=WORDS)
    assert code == 1
    assert f"{mint.url}: nothing new came back" in out
    assert f"{away}: the mint" in err
    assert "it goes on where it was" in err


def test_words_are_never_an_argument_and_are_checked(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9"
    assert otrta(tmp_path / "new", "restore", *WORDS.split(), "--mint", url)[0] == 2
    assert otrta(tmp_path / "new", "restore", stdin=WORDS)[0] == 2
    code, out, err = otrta(tmp_path / "new", "restore", "--mint", url, stdin=f"{WORDS} {WORDS}")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "spelling" in err
    assert not (tmp_path / "new").exists()


def test_a_restore_is_asked_for_until_it_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    slices = [
        {"mint": "m", "complete": False, "keysets": [{"looked_to": 1_000, "proofs": 3}]},
        {"mint": "m", "complete": True, "keysets": []},
    ]
    monkeypatch.setattr(WalletLink, "act", lambda _link, _action, **_params: slices.pop(0))
    told: list[str] = []
    assert _restore(WalletLink(Path("home")), "m", WORDS, 10, told.append)["complete"]
    assert told == ["m: 1,000 numbers looked at, 3 proofs found …"]


@pytest.mark.integration
def test_a_running_proxy_restores_its_own_seed_only(
    client: Running, client_home: Path, mint: Running, tmp_path: Path
) -> None:
    words = otrta(client_home, "config", "seed", "--yes")[1]
    arguments = ["restore", "--mint", mint.url, "--look", "1", "--json"]
    code, out, err = otrta(client_home, *arguments, stdin=words)
    assert err == ""
    assert json.loads(out)[0]["complete"]
    code, out, err = otrta(client_home, *arguments, stdin=WORDS)
    assert (code, out) == (1, "")
    assert "another seed" in err


def test_a_person_is_told_once_that_there_is_a_seed(tmp_path: Path) -> None:
    def on_a_terminal(*arguments: str) -> str:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "otrta_cli.main", *arguments]
        environment = os.environ | {"OTRTA_HOME": str(tmp_path / "home")}
        with os.fdopen(ours, "rb", buffering=0) as screen:
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=theirs, check=True)
            os.write(theirs, b"\nend\n")
            told = b""
            while not told.endswith(b"end\r\n"):
                told += screen.read(4096)
            os.close(theirs)
        return told.decode()

    otrta(tmp_path / "home", "balance")
    assert "otrta config seed" in on_a_terminal("balance")
    assert "otrta config seed" not in on_a_terminal("balance")
