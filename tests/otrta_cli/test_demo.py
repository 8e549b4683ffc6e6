"""`otrta demo` pays for two calls to the msat, explains why it cannot, and leaves nothing behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otrta_cli.main import main
from otrta_cli.processes import free_port, port_taken

PARTS = ("mint", "gateway", "client", "upstream")


@pytest.fixture
def ports() -> dict[str, int]:
    """A free port for each part."""
    return {name: free_port() for name in PARTS}


def flags(ports: dict[str, int]) -> list[str]:
    return [f"--{name}-port={port}" for name, port in ports.items()]


def wait_for(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {timeout_s:.0f} s"
        time.sleep(0.05)


@pytest.fixture
def demo(tmp_path: Path, ports: dict[str, int]) -> Callable[..., subprocess.Popen[str]]:
    """Starts `otrta demo` on the free ports, its temporary directories below tmp_path."""

    def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "otrta_cli.main", "demo", *flags(ports), *arguments],
            env=os.environ | {"TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    return start


@pytest.mark.integration
def test_the_demo_pays_for_a_plain_and_a_streamed_call_and_adds_up(
    demo: Callable[..., subprocess.Popen[str]], ports: dict[str, int], tmp_path: Path
) -> None:
    with demo("--json") as running:
        output, messages = running.communicate(timeout=170)
    assert running.returncode == 0, messages
    report = json.loads(output)
    urls = {name: f"http://127.0.0.1:{ports[name]}" for name in ("mint", "gateway", "client")}
    assert report["ok"] is True
    assert report["urls"] == urls
    assert [call["stream"] for call in report["calls"]] == [False, True]
    # 10 prompt tokens at 1 msat and 20 completion tokens at 5 msat; the mint takes no fee.
    assert [(call["cost_msat"], call["fee_msat"]) for call in report["calls"]] == [(110, 0), (110, 0)]
    assert [call["paid_msat"] - call["change_msat"] for call in report["calls"]] == [110, 110]
    assert report["wallet_msat_before"] - report["wallet_msat_after"] == report["gateway_msat"] == 220
    assert [name for name, port in ports.items() if port_taken(port)] == []
    assert list(tmp_path.iterdir()) == []
    assert not Path(report["home"]).exists()


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_parts_and_removes_the_home(
    number: signal.Signals,
    demo: Callable[..., subprocess.Popen[str]],
    ports: dict[str, int],
    tmp_path: Path,
) -> None:
    # As in a shell's background job, where Ctrl-C is ignored unless somebody listens to it.
    with demo(preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) as running:
        wait_for(lambda: port_taken(ports["mint"]))
        running.send_signal(number)
        messages = running.communicate(timeout=60)[1]
    assert (running.returncode, messages.splitlines()[-1]) == (1, "otrta: stopped before it was done")
    assert [name for name, port in ports.items() if port_taken(port)] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.integration
def test_no_part_outlives_a_demo_that_is_killed(
    demo: Callable[..., subprocess.Popen[str]], ports: dict[str, int]
) -> None:
    with demo() as running:
        wait_for(lambda: port_taken(ports["mint"]))
        running.kill()
    wait_for(lambda: not any(port_taken(port) for port in ports.values()))


@pytest.mark.parametrize("name", PARTS)
def test_a_taken_port_is_named_with_the_flag_that_changes_it(
    name: str, ports: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", ports[name])):
        assert main(["demo", "--json", *flags(ports)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"otrta: port {ports[name]} of 127.0.0.1, where the {name} would listen, is taken: "
        f"free it, or choose another with --{name}-port\n"
    )


def test_two_parts_cannot_have_one_port(ports: dict[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", *flags(ports | {"client": ports["mint"]})]) == 2
    assert "need four different ports" in capsys.readouterr().err


def test_a_missing_mint_is_found_before_anything_starts(
    ports: dict[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    arguments = ["--mint-python", "/no/such/python", "--home", str(home)]
    assert main(["demo", *arguments, *flags(ports)]) == 1
    assert capsys.readouterr().err.startswith("otrta: --mint-python names /no/such/python")
    assert not home.exists()


def test_a_part_that_does_not_start_is_explained_and_its_log_kept(
    ports: dict[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Our own interpreter has no mint in it.
    arguments = ["--mint-python", sys.executable, "--home", str(tmp_path)]
    assert main(["demo", *arguments, *flags(ports)]) == 1
    message = capsys.readouterr().err
    assert f"otrta: the mint ended with exit code 1. Its log is {tmp_path / 'logs/mint.log'}" in message
    assert "No module named 'cashu'" in message
    assert "No module named 'cashu'" in (tmp_path / "logs/mint.log").read_text()
    assert [name for name, port in ports.items() if port_taken(port)] == []
