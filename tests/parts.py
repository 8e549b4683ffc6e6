"""The real parts that integration tests run against, each started once per session and only when used.

They listen on free ports of 127.0.0.1. Where one does not start, the tests that want it fail with the end
of its log.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from otrta_cli.processes import (
    CommandFailed,
    Running,
    StartError,
    config_dir,
    free_port,
    run_otrta,
    start_client,
    start_gateway,
    start_mint,
    start_upstream,
)

SHOWN_LINES = 60


@contextmanager
def kept_running(log: Path, start: Callable[[], Running]) -> Iterator[Running]:
    """Start a part, and stop it at the end."""
    reason = ""
    try:
        part = start()
    except StartError as failure:
        reason = str(failure).splitlines()[0]
    if reason:
        pytest.fail(f"{reason}\n{end_of(log)}", pytrace=False)
    try:
        yield part
    finally:
        part.stop()


def end_of(log: Path) -> str:
    """The last lines of a log, under its name."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join([f"--- the end of {log.name}", *lines[-SHOWN_LINES:]])


@pytest.fixture(scope="session")
def parts_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of all parts: a home for each, and `logs`."""
    return tmp_path_factory.mktemp("parts")


@pytest.fixture(scope="session")
def mint(parts_home: Path) -> Iterator[Running]:
    """A mint with sat and msat that takes no fee."""
    log = parts_home / "logs/mint.log"
    with kept_running(log, lambda: start_mint(parts_home / "mint", free_port(), log=log)) as part:
        yield part


@pytest.fixture(scope="session")
def fee_mint(parts_home: Path) -> Iterator[Running]:
    """A mint whose keysets take 100 ppk."""
    home, log = parts_home / "fee-mint", parts_home / "logs/fee-mint.log"
    with kept_running(log, lambda: start_mint(home, free_port(), input_fee_ppk=100, log=log)) as part:
        yield part


@pytest.fixture(scope="session")
def upstream(parts_home: Path) -> Iterator[Running]:
    """The local LLM upstream."""
    log = parts_home / "logs/upstream.log"
    with kept_running(log, lambda: start_upstream(free_port(), log=log)) as part:
        yield part


@pytest.fixture(scope="session")
def gateway_home(parts_home: Path) -> Path:
    """The store of `gateway`."""
    return parts_home / "gateway"


@pytest.fixture(scope="session")
def gateway(
    parts_home: Path, gateway_home: Path, mint: Running, fee_mint: Running, upstream: Running
) -> Iterator[Running]:
    """LiteLLM with config/litellm.yaml, which takes tokens of both mints."""
    log = parts_home / "logs/gateway.log"

    def start() -> Running:
        return start_gateway(
            gateway_home,
            free_port(),
            config=config_dir() / "litellm.yaml",
            upstream_url=upstream.url,
            mints=f"{mint.url},{fee_mint.url}",
            log=log,
        )

    with kept_running(log, start) as part:
        yield part


@pytest.fixture(scope="session")
def client_home(parts_home: Path) -> Path:
    """The OTRTA_HOME of `client`."""
    return parts_home / "client"


@pytest.fixture(scope="session")
def client(parts_home: Path, client_home: Path, mint: Running, gateway: Running) -> Iterator[Running]:
    """`otrta serve` with an empty wallet that knows `mint` and `gateway`."""
    log = parts_home / "logs/client.log"
    with kept_running(log, lambda: start_client(client_home, free_port(), log=log)) as part:
        reason = ""
        try:
            run_otrta(client_home, "mints", "add", mint.url)
            run_otrta(client_home, "gateways", "add", gateway.url)
        except CommandFailed as failure:
            reason = str(failure)
        if reason:
            pytest.fail("\n".join([reason, end_of(log), end_of(gateway.log)]), pytrace=False)
        yield part
