"""Parts start, are found out when they do not, and leave nothing behind."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from otrta_cli import processes
from otrta_cli.processes import (
    CommandFailed,
    Running,
    StartError,
    free_port,
    mint_python,
    port_taken,
    run_otrta,
    start_client,
    start_gateway,
    start_mint,
    start_upstream,
)

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]

Part = Callable[..., Running]


@pytest.fixture
def part(tmp_path: Path) -> Iterator[Part]:
    """Starts a command as a part is started, without waiting for it to answer."""
    started: list[Running] = []

    def start(command: list[str], timeout_s: float = 60) -> Running:
        running = processes._start(
            "part", command, tmp_path, free_port(), tmp_path / "part.log", {}, ("/",), timeout_s, wait=False
        )
        started.append(running)
        return running

    yield start
    for running in started:
        running.kill()


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    # Where nobody reaps orphans they stay as zombies, which run no more.
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 20 s"
        time.sleep(0.02)


def fees(mint: Running) -> dict[str, int]:
    keysets = httpx.get(f"{mint.url}/v1/keysets", trust_env=False).json()["keysets"]
    return {keyset["unit"]: keyset["input_fee_ppk"] for keyset in keysets}


@pytest.mark.integration
def test_a_mint_has_sat_and_msat_without_a_fee(mint: Running) -> None:
    assert fees(mint) == {"sat": 0, "msat": 0}


@pytest.mark.integration
def test_a_mint_takes_the_fee_that_it_is_told(fee_mint: Running) -> None:
    assert fees(fee_mint) == {"sat": 100, "msat": 100}


@pytest.mark.integration
def test_nothing_listens_beyond_127_0_0_1(mint: Running, upstream: Running) -> None:
    for running in (mint, upstream):
        socket.create_connection(("127.0.0.1", running.port)).close()
        with pytest.raises(ConnectionRefusedError):
            # An address of this machine too, which a listener on all addresses would take.
            socket.create_connection(("127.0.0.2", running.port)).close()


@pytest.mark.integration
def test_a_mint_started_again_in_its_home_is_the_same_mint(tmp_path: Path) -> None:
    def start(port: int) -> tuple[Running, object]:
        running = start_mint(tmp_path / "mint", port, log=tmp_path / "mint.log")
        return running, httpx.get(f"{running.url}/v1/keysets", trust_env=False).json()

    first, keysets = start(free_port())
    first.kill()
    assert not first.alive
    again, keysets_again = start(first.port)
    again.stop()
    assert keysets_again == keysets


def test_a_stopped_part_has_freed_its_port_and_may_be_stopped_again(tmp_path: Path) -> None:
    upstream = start_upstream(free_port(), log=tmp_path / "upstream.log")
    assert (upstream.alive, port_taken(upstream.port)) == (True, True)
    upstream.stop()
    assert (upstream.alive, port_taken(upstream.port), exists(upstream.pid)) == (False, False, False)
    upstream.stop()
    upstream.kill()


def test_a_part_is_out_of_reach_of_the_terminals_ctrl_c(part: Part) -> None:
    running = part(SLEEP)
    assert os.getsid(running.pid) == os.getpgid(running.pid) == running.pid != os.getsid(0)


def test_stop_kills_one_that_ignores_it_and_what_that_one_started(part: Part, tmp_path: Path) -> None:
    child = tmp_path / "child"
    running = part(["/bin/sh", "-c", f"trap '' TERM; sleep 600 & echo $! > {child}; echo up; wait; wait"])
    wait_for(lambda: "up" in running.tail())
    running.stop(timeout_s=0.2)
    assert not running.alive
    wait_for(lambda: not exists(int(child.read_text())))


def test_what_a_dead_part_left_behind_is_killed(part: Part, tmp_path: Path) -> None:
    child = tmp_path / "child"
    running = part(["/bin/sh", "-c", f"sleep 600 & echo $! > {child}"])
    wait_for(lambda: not running.alive)
    wait_for(lambda: not exists(int(child.read_text())))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_parts_die_with_a_program_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from otrta_cli.processes import *; "
        "print(start_upstream(free_port(), log=Path(sys.argv[1])).pid, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        pid = int(program.stdout.readline())
        assert exists(pid)
        program.kill()
    wait_for(lambda: not exists(pid))


def test_a_part_that_ends_instead_of_answering_is_named_with_its_log_and_last_words(part: Part) -> None:
    running = part(
        [sys.executable, "-c", "print(*range(100), sep='\\n'); raise SystemExit('no good reason')"]
    )
    with pytest.raises(StartError) as failure:
        running.wait_ready()
    lines = str(failure.value).splitlines()
    assert lines[0] == f"the part ended with exit code 1. Its log is {running.log}; it ends with:"
    assert lines[-1] == "no good reason"
    assert len(lines) < 20


def test_a_part_that_does_not_answer_in_time_is_stopped(part: Part) -> None:
    running = part(SLEEP, timeout_s=0.3)
    with pytest.raises(StartError, match="the part did not answer within 0 s"):
        running.wait_ready()
    assert not exists(running.pid)


def test_only_what_was_printed_since_this_start_counts(part: Part, tmp_path: Path) -> None:
    (tmp_path / "part.log").write_text("of an earlier start\n")
    running = part([sys.executable, "-c", "print('of this start')"])
    wait_for(lambda: not running.alive)
    assert running.tail() == "of this start"
    assert running.log.read_text() == "of an earlier start\nof this start\n"


def test_a_program_that_is_not_there_is_named(part: Part) -> None:
    with pytest.raises(StartError, match="cannot run /no/such/program: No such file or directory"):
        part(["/no/such/program"]).wait_ready()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port_is_seen_and_named(host: str, tmp_path: Path) -> None:
    with socket.create_server((host, 0)) as listener:
        port = listener.getsockname()[1]
        assert port_taken(port)
        home, log = tmp_path / "home", tmp_path / "log"
        for start in (
            lambda: start_mint(home, port, python=sys.executable, log=log),
            lambda: start_upstream(port, log=log),
            lambda: start_gateway(home, port, config=home, upstream_url="", mints="", log=log),
            lambda: start_client(home, port, log=log),
        ):
            with pytest.raises(StartError, match=f"cannot listen on port {port} of 127.0.0.1"):
                start()
    assert not port_taken(port)
    assert not home.exists()


def test_free_ports_are_free() -> None:
    assert not port_taken(free_port())


def test_the_interpreter_of_the_mint_is_the_one_named_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    flag, variable = tmp_path / "flag", tmp_path / "variable"
    for path in (flag, variable):
        path.symlink_to(sys.executable)
    monkeypatch.setenv("OTRTA_MINT_PYTHON", str(variable))
    assert mint_python(str(flag)) == flag
    assert mint_python() == variable
    monkeypatch.delenv("OTRTA_MINT_PYTHON")
    checkout = tmp_path / "checkout"
    beside = checkout / ".venv-mint/bin/python"
    beside.parent.mkdir(parents=True)
    beside.symlink_to(sys.executable)
    monkeypatch.setattr(processes, "_CHECKOUT", checkout)
    assert mint_python() == beside


def test_a_missing_interpreter_of_the_mint_is_a_sentence_that_says_how_to_make_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes, "_CHECKOUT", tmp_path)
    monkeypatch.delenv("OTRTA_MINT_PYTHON", raising=False)
    with pytest.raises(StartError, match="`make setup`"):
        mint_python()
    with pytest.raises(StartError, match="--mint-python names /no/such/python"):
        mint_python("/no/such/python")
    monkeypatch.setenv("OTRTA_MINT_PYTHON", str(tmp_path))
    with pytest.raises(StartError, match="OTRTA_MINT_PYTHON names"):
        mint_python()


def test_an_interpreter_without_the_mint_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="No module named 'cashu'"):
        start_mint(tmp_path / "mint", free_port(), python=sys.executable, log=tmp_path / "mint.log")


def test_settings_meant_for_other_programs_do_not_reach_a_part(
    part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATABASE_URL", "HTTP_PROXY", "OPENAI_API_KEY", "MINT_MAX_PEG_IN", "PYTHONPATH"):
        monkeypatch.setenv(name, "of this test")
    running = part([sys.executable, "-c", "import os; print(*os.environ.values())"])
    wait_for(lambda: not running.alive)
    assert running.tail()
    assert "of this test" not in running.tail()


def test_a_command_gives_what_it_printed(tmp_path: Path) -> None:
    assert run_otrta(tmp_path, "--version").startswith("otrta, version ")


def test_a_failed_command_gives_its_exit_code_and_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(
        CommandFailed, match=r"`otrta no-such` ended with exit code 2: otrta: No such command"
    ):
        run_otrta(tmp_path, "no-such")


def test_a_command_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"`otrta --help` did not end within 0 s"):
        run_otrta(tmp_path, "--help", timeout_s=0.001)


def test_a_part_gets_the_signal_to_stop_before_it_is_killed(part: Part) -> None:
    code = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print('up'); time.sleep(600)"
    running = part([sys.executable, "-c", code])
    wait_for(lambda: running.tail() == "up")
    running.stop()
    assert running.popen.returncode == 7
