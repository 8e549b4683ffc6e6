"""Starts and stops the four parts of a whole otrta on this machine: mint, upstream, gateway and client.

Each part is a process in a session of its own, so that a Ctrl-C in the terminal reaches only the program
that started it. On Linux the parts die with that program, even when it is killed (more exactly, with its
thread: start parts from a thread that lives as long as they shall). A part sees only a few of this
program's environment variables, so that no proxy, database or key set for something else gets in.
"""

import errno
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

HOST: Final = "127.0.0.1"
MASTER_KEY: Final = "sk-otrta-demo"
GATEWAY_PROBES = ("/health/liveliness", "/v1/cashu/info")

_HERE: Final = Path(__file__).resolve().parent
_CHECKOUT: Final = _HERE.parent
_POLL_S: Final = 0.05
_PROBE_TIMEOUT_S: Final = 5.0
_TAIL_LINES: Final = 12
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH")


class StartError(Exception):
    """A part cannot run here; the text is for the user and says what to do."""


class CommandFailed(Exception):
    """An `otrta` command did not do what it was asked; the text is for the user."""


@dataclass(eq=False)
class Running:
    """A part that was started.

    Attributes:
        name: What it is: mint, upstream, gateway or client.
        url: Where it listens, without a path.
        port: Its port.
        popen: Its process, which leads a process group.
        log: The file that takes what it prints.
    """

    name: str
    url: str
    port: int
    popen: subprocess.Popen[bytes]
    log: Path
    _probes: tuple[str, ...] = ()
    _start_timeout_s: float = 60.0
    _log_start: int = 0
    _group_ended: bool = field(default=False, init=False)

    @property
    def pid(self) -> int:
        """The id of its process and of its process group."""
        return self.popen.pid

    @property
    def alive(self) -> bool:
        """Whether its process runs; what the process left behind in its group is killed once it does not."""
        if self.popen.poll() is None:
            return True
        self._end_group()
        return False

    def wait_ready(self) -> None:
        """Wait until it answers; stop it and raise `StartError` when it ends or takes too long instead."""
        deadline = time.monotonic() + self._start_timeout_s
        try:
            for path in self._probes:
                while not _answers(self.port, path):
                    if not self.alive:
                        raise self._start_error(f"ended with exit code {self.popen.returncode}")
                    if time.monotonic() > deadline:
                        raise self._start_error(f"did not answer within {self._start_timeout_s:.0f} s")
                    time.sleep(_POLL_S)
            if not self.alive:  # it was somebody else who answered on its port
                raise self._start_error(f"ended with exit code {self.popen.returncode}")
        except BaseException:
            self.kill()
            raise

    def stop(self, timeout_s: float = 10) -> None:
        """Ask it to end, and kill it with all its group if it has not after `timeout_s`."""
        if self.alive:
            os.killpg(self.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.popen.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """Kill it with all its group at once."""
        if self.alive:
            os.killpg(self.pid, signal.SIGKILL)
            self.popen.wait()
            self._end_group()

    def tail(self, lines: int = _TAIL_LINES) -> str:
        """The last lines that it printed since this start."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            text = log.read().decode(errors="replace")
        return "\n".join(text.rstrip().splitlines()[-lines:])

    def _end_group(self) -> None:
        # Once only, right after the leader was reaped: later its number may belong to somebody else.
        if not self._group_ended:
            self._group_ended = True
            with suppress(ProcessLookupError, PermissionError):  # macOS says EPERM of a group of zombies
                os.killpg(self.pid, signal.SIGKILL)

    def _start_error(self, what: str) -> StartError:
        said = self.tail()
        end = f"; it ends with:\n{said}" if said else ", which is empty"
        return StartError(f"the {self.name} {what}. Its log is {self.log}{end}")


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listened on a moment ago."""
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def port_taken(port: int) -> bool:
    """Whether something listens on this port of 127.0.0.1, be it on all addresses.

    Raises:
        StartError: The system lets nobody of our kind listen there.
    """
    try:
        socket.create_server((HOST, port)).close()
    except OSError as failure:
        if failure.errno == errno.EADDRINUSE:
            return True
        raise StartError(f"port {port} of {HOST} cannot be used: {failure.strerror}") from failure
    return False


def config_dir() -> Path:
    """The examples in config/: inside an installed package, else at the top of the checkout."""
    installed = _HERE / "config"
    return installed if installed.is_dir() else _CHECKOUT / "config"


def mint_python(explicit: str | None = None) -> Path:
    """The interpreter of the mint's own environment.

    Args:
        explicit: What `--mint-python` says; else `OTRTA_MINT_PYTHON` counts, else `.venv-mint` beside
            the checkout.

    Raises:
        StartError: It is not there; the text says how to make it.
    """
    for source, value in (
        ("--mint-python", explicit),
        ("OTRTA_MINT_PYTHON", os.environ.get("OTRTA_MINT_PYTHON")),
    ):
        if value:
            named = Path(value).expanduser().absolute()
            if not os.access(named, os.X_OK) or named.is_dir():
                raise StartError(f"{source} names {value}, which is not a Python interpreter")
            return named
    made = _CHECKOUT / ".venv-mint" / "bin" / "python"
    if not os.access(made, os.X_OK):
        raise StartError(
            "the mint's environment is not there: make it with `make setup` in a checkout of otrta, or with "
            "`python3 -m venv DIR` and `DIR/bin/pip install 'otrta[mint]'`, and name DIR/bin/python by "
            "--mint-python or OTRTA_MINT_PYTHON"
        )
    return made


def start_mint(
    home: Path,
    port: int,
    *,
    python: str | Path | None = None,
    input_fee_ppk: int = 0,
    log: Path,
    env: Mapping[str, str] | None = None,
    wait: bool = True,
) -> Running:
    """Start a Nutshell mint with sat and msat, whose invoices pay themselves.

    Args:
        home: Its directory, made where missing; a mint started there again is the same mint.
        port: Where it listens.
        python: The interpreter of its environment; None looks for it as `mint_python` says.
        input_fee_ppk: Its input fee, which only a new `home` takes.
        log: The file that takes what it prints, appended to.
        env: Settings on top of those in config/mint.env.
        wait: Whether to return only once it answers; else call `wait_ready`.

    Raises:
        StartError: Its environment is missing, or it does not start.
    """
    home = home.absolute()
    interpreter = mint_python(None if python is None else str(python))
    settings = _read_env(config_dir() / "mint.env") | {
        "HOME": str(home),
        "MINT_LISTEN_HOST": HOST,
        "MINT_LISTEN_PORT": str(port),
        "MINT_INPUT_FEE_PPK": str(input_fee_ppk),
    }
    command = [str(interpreter), "-m", "cashu.mint"]
    return _start("mint", command, home, port, log, settings | dict(env or {}), ("/v1/info",), 60, wait)


def start_upstream(port: int, *, log: Path, wait: bool = True) -> Running:
    """Start the local LLM upstream; its models are under `url` + "/v1".

    Raises:
        StartError: It does not start.
    """
    command = [sys.executable, "-m", "otrta_cli.upstream", "--host", HOST, "--port", str(port)]
    return _start("upstream", command, log.parent, port, log, {}, ("/health",), 60, wait)


def start_gateway(
    home: Path,
    port: int,
    *,
    config: Path,
    upstream_url: str,
    mints: str,
    log: Path,
    env: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    wait: bool = True,
    probes: tuple[str, ...] = GATEWAY_PROBES,
) -> Running:
    """Start the LiteLLM proxy with our plugin from its config file.

    Args:
        home: Its working directory and the store of its wallet, made where missing.
        port: Where it listens.
        config: LiteLLM's config file.
        upstream_url: The `url` of the upstream.
        mints: The mints whose tokens it takes, separated by commas.
        log: The file that takes what it prints, appended to.
        env: More environment variables.
        options: More of LiteLLM's own options.
        wait: Whether to return only once it answers, which takes 10 s and more; else call `wait_ready`.
        probes: The paths that it answers with 200 once it is ready.

    Raises:
        StartError: LiteLLM is not installed, or it does not start.
    """
    home = home.absolute()
    litellm = Path(sys.executable).with_name("litellm")
    if not os.access(litellm, os.X_OK):
        raise StartError("the gateway needs LiteLLM: pip install 'otrta[gateway]'")
    settings = {
        "HOME": str(home),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",  # else it loads the first .env above its own files: a checkout's
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "OTRTA_UPSTREAM_URL": f"{upstream_url}/v1",
        "OTRTA_MINTS": mints,
        "OTRTA_GATEWAY_STORE": str(home),
    }
    command = [str(litellm), "--config", str(config.absolute()), "--host", HOST, "--port", str(port)]
    command += options
    return _start("gateway", command, home, port, log, settings | dict(env or {}), probes, 180, wait)


def start_client(
    home: Path, port: int, *, log: Path, env: Mapping[str, str] | None = None, wait: bool = True
) -> Running:
    """Start the client proxy, `otrta serve`, with `home` as its OTRTA_HOME, made where missing.

    Raises:
        StartError: It does not start.
    """
    home = home.absolute()
    command = [sys.executable, "-m", "otrta_cli.main", "serve", "--port", str(port)]
    settings = {"HOME": str(home), "OTRTA_HOME": str(home)} | dict(env or {})
    return _start("client", command, home, port, log, settings, ("/health",), 60, wait)


def run_otrta(home: Path, *arguments: str, timeout_s: float = 60) -> str:
    """Run one `otrta` command as a user of the wallet in `home` would, and return its standard output.

    Raises:
        CommandFailed: It did not exit 0 within `timeout_s`.
    """
    home = home.absolute()
    shown = " ".join(["otrta", *arguments])
    try:
        ended = subprocess.run(  # noqa: S603  # the command is ours, each argument by itself
            _leashed([sys.executable, "-m", "otrta_cli.main", *arguments]),
            cwd=home,
            env=environment({"HOME": str(home), "OTRTA_HOME": str(home)}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as failure:
        raise CommandFailed(f"`{shown}` did not end within {timeout_s:.0f} s") from failure
    if ended.returncode != 0:
        said = ended.stderr.strip() or "it said nothing"
        raise CommandFailed(f"`{shown}` ended with exit code {ended.returncode}: {said}")
    return ended.stdout


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a part: what every program needs of ours, and these settings."""
    ours = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    # Without the first, a directory named `cashu` in the mint's home would stand before the package.
    return ours | {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"} | dict(settings)


def _start(
    name: str,
    command: list[str],
    cwd: Path,
    port: int,
    log: Path,
    settings: Mapping[str, str],
    probes: tuple[str, ...],
    timeout_s: float,
    wait: bool,
) -> Running:
    if port_taken(port):
        raise StartError(f"the {name} cannot listen on port {port} of {HOST}: something else does")
    cwd.mkdir(mode=0o700, parents=True, exist_ok=True)
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with log.open("ab") as output:
        log_start = output.tell()
        popen = subprocess.Popen(  # noqa: S603  # the command is ours or the mint's, each argument by itself
            _leashed(command),
            cwd=cwd,
            env=environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running = Running(name, f"http://{HOST}:{port}", port, popen, log, probes, timeout_s, log_start)
    if wait:
        running.wait_ready()
    return running


def _leashed(command: list[str]) -> list[str]:
    return [sys.executable, "-I", "-S", str(_HERE / "leash.py"), str(os.getpid()), *command]


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=_PROBE_TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _read_env(path: Path) -> dict[str, str]:
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}
