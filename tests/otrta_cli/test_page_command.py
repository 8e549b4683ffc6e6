"""`otrta page` and `serve --open`: the browser gets a file to open, and the link is in no arguments."""

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.request import url2pathname

import httpx
import pytest

OTRTA = [sys.executable, "-m", "otrta_cli.main"]


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A home, and a browser that notes what it is told to open."""
    home = tmp_path_factory.mktemp("page")
    browser = home / "browser"
    browser.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >> "$OTRTA_HOME/opened"\n')
    browser.chmod(0o700)
    return os.environ | {"OTRTA_HOME": str(home / "home"), "BROWSER": f"{browser} %s"}


@pytest.fixture(scope="module")
def url(env: Mapping[str, str]) -> Iterator[str]:
    """Where `otrta serve --open` listens."""
    command = [*OTRTA, "serve", "--port", "0", "--open", "--json"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
        process.terminate()


def run(env: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*OTRTA, *arguments], env=env, capture_output=True, text=True, timeout=60)


def opened(env: Mapping[str, str]) -> str:
    """The file that the browser was told to open, and that it is its owner's alone."""
    (told,) = (Path(env["OTRTA_HOME"]) / "opened").read_text().splitlines()
    (Path(env["OTRTA_HOME"]) / "opened").unlink()
    assert told.startswith("file:///")
    path = Path(url2pathname(told.removeprefix("file://")))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return path.read_text()


def logs_in(link: str) -> bool:
    return "set-cookie" in httpx.get(link, trust_env=False).headers


def test_without_a_proxy_there_is_no_page(tmp_path: Path) -> None:
    ran = run(os.environ | {"OTRTA_HOME": str(tmp_path)}, "page")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == (
        "otrta: the wallet page is part of `otrta serve`, which does not run: start it first\n"
    )


def test_serve_opens_it_when_asked_to(env: Mapping[str, str], url: str) -> None:
    link = re.search(r"url=(http[^\"]+)", opened(env))
    assert link is not None
    assert link[1].startswith(f"{url}/wallet/open/")
    assert logs_in(link[1])


def test_a_person_gets_it_opened_by_a_file_of_their_own(env: Mapping[str, str], url: str) -> None:
    ran = run(env, "page")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    link = re.search(r"url=(http[^\"]+)", opened(env))
    assert link is not None
    assert (logs_in(link[1]), logs_in(link[1])) == (True, False)


def test_the_link_is_printed_where_nothing_is_to_be_opened(env: Mapping[str, str], url: str) -> None:
    shown = run(env, "page", "--no-open").stdout.splitlines()
    assert shown[0].startswith(f"{url}/wallet/open/")
    assert shown[1] == "It works once, within 10 minutes."
    told = json.loads(run(env, "page", "--json").stdout)
    assert (told["expires_s"], logs_in(told["url"])) == (600, True)
    assert not (Path(env["OTRTA_HOME"]) / "opened").exists()
