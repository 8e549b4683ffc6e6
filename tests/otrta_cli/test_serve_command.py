"""`otrta serve` says where it is and what is missing, and ends in order."""

import json
import os
import signal
import socket
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


def test_the_port_of_the_environment_goes_before_that_of_the_settings(serve: Serve, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "home").mkdir()
    (tmp_path / "home/config.toml").write_text(f"port = {free_port()}\n")
    assert json.loads(first_line(serve("--json", OTRTA_PORT=str(port))))["url"] == f"http://127.0.0.1:{port}"


def test_a_wallet_has_one_proxy_at_a_time(serve: Serve, tmp_path: Path) -> None:
    first = serve("--port", "0", "--json")
    url = json.loads(first_line(first))["url"]
    second = serve("--port", "0")
    out, err = second.communicate(timeout=10)
    assert (second.returncode, out) == (1, "")
    assert err == (
        f"otrta: `otrta serve` has the wallet in {tmp_path / 'home'} already: "
        f"process {first.pid}, at {url}/v1\n"
    )
    assert json.loads((tmp_path / "home/serve.json").read_text())["pid"] == first.pid


def test_a_taken_port_is_one_sentence(serve: Serve, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = serve("--port", str(port))
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, len(err.splitlines())) == (1, "", 1)
    assert err.startswith(f"otrta: Port {port} on 127.0.0.1 cannot be used")
    assert not (tmp_path / "home/serve.json").exists()
