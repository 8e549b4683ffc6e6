"""`otrta serve` says where it is and what is missing, and ends in order."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from otrta_cli.processes import free_port

Serve = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts `otrta serve` on a new home."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "otrta_cli.main", "serve", *arguments],
                env=os.environ | {"OTRTA_HOME": str(tmp_path / "home"), **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_tells_a_program_where_it_is_and_ends_with_0(
    number: signal.Signals, serve: Serve, tmp_path: Path
) -> None:
    process = serve("--port", "0", "--json")
    told = json.loads(first_line(process))
    assert told.keys() == {"url", "home", "pid"}
    assert (told["home"], told["pid"]) == (str(tmp_path / "home"), process.pid)
    assert httpx.get(f"{told['url']}/health", trust_env=False).json() == {"status": "ok"}
    assert json.loads((tmp_path / "home/serve.json").read_text())["pid"] == process.pid
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")
    assert time.monotonic() - began < 3
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == [
        "wallet.sqlite3",
        "wallet.sqlite3.lock",
    ]


def test_it_tells_a_person_what_is_missing(serve: Serve, tmp_path: Path) -> None:
    port = free_port()
    process = serve("--port", str(port))
    assert first_line(process) == (
        f"Point apps at http://127.0.0.1:{port}/v1 (any key will do). The wallet is in {tmp_path / 'home'}\n"
    )
    assert "otrta mints add URL" in first_line(process)
    assert "otrta gateways add URL" in first_line(process)


def test_the_port_of_the_environment_and_of_the_settings_is_used(serve: Serve, tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    (tmp_path / "home").mkdir()
    (tmp_path / "home/config.toml").write_text(f"port = {first}\n")
    process = serve("--json")
    assert json.loads(first_line(process))["url"] == f"http://127.0.0.1:{first}"
    process.terminate()
    process.communicate()
    process = serve("--json", OTRTA_PORT=str(second))
    assert json.loads(first_line(process))["url"] == f"http://127.0.0.1:{second}"
