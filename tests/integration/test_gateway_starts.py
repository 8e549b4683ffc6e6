"""A LiteLLM that cannot be guarded, or was told wrongly, does not serve: one line, an exit code above 0."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from otrta_cli.processes import config_dir, environment, free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
"""Workers import LiteLLM each, beside their supervisor: on a busy machine that takes minutes."""

WORKERS = "4" if os.environ.get("OTRTA_LONG") == "1" else "2"

# What an operator might load beside us, and what a LiteLLM that is built otherwise might do.
STRANGER = """
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy.proxy_server import app

class Stranger:
    def __init__(self, app):
        self.app = app
    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)

build = app.build_middleware_stack
app.build_middleware_stack = lambda: Stranger(build())
logger = CustomLogger()
"""


def started(home: Path, config: Path, *options: str, **settings: str) -> tuple[int, str]:
    """Start LiteLLM, wait until it has ended by itself, and return its exit code and what it said."""
    port = free_port()
    known = {
        "HOME": str(home),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_MASTER_KEY": "sk-test",
        "OTRTA_UPSTREAM_URL": "http://127.0.0.1:9/v1",
        "OTRTA_MINTS": "http://127.0.0.1:9",
        "OTRTA_GATEWAY_STORE": str(home),
    }
    command = [str(Path(sys.executable).with_name("litellm")), "--config", str(config)]
    ended = subprocess.run(
        [*command, "--host", "127.0.0.1", "--port", str(port), *options],
        cwd=home,
        env=environment(known | settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=540,
    )
    # what is left of it would still listen
    socket.create_server(("127.0.0.1", port)).close()
    return ended.returncode, ended.stderr


def ours(said: str) -> list[str]:
    """The lines that are the gateway's."""
    return [line for line in said.splitlines() if line.startswith("otrta:")]


# uvicorn kills a worker that imports for longer than this, 5 s by default, and starts another one
UVICORN = ("--timeout_worker_healthcheck", "120")


@pytest.mark.parametrize("server", [UVICORN, ("--run_gunicorn",)], ids=["uvicorn", "gunicorn"])
def test_wrong_settings_stop_all_workers_with_one_line(tmp_path: Path, server: tuple[str, ...]) -> None:
    options = ["--num_workers", WORKERS, *server]
    code, said = started(tmp_path, config_dir() / "litellm.yaml", *options, OTRTA_GATEWAY_UNIT="dollars")
    assert code != 0
    assert ours(said) == ["otrta: OTRTA_GATEWAY_UNIT (callback_settings.otrta.unit) must be msat or sat"]
    assert "Traceback" not in said


def test_a_litellm_that_is_built_otherwise_does_not_serve(tmp_path: Path) -> None:
    (tmp_path / "stranger.py").write_text(STRANGER)
    text = (config_dir() / "litellm.yaml").read_text()
    changed = text.replace('["otrta_litellm', '["stranger.logger", "otrta_litellm')
    assert changed != text
    (tmp_path / "config.yaml").write_text(changed)
    code, said = started(tmp_path, tmp_path / "config.yaml")
    assert code == 3
    assert len(ours(said)) == 1
    assert re.match(r"otrta: .*Stranger stands before the gate.* otrta\[gateway\]", ours(said)[0])
    assert "Traceback" not in said


def test_a_sqlite_store_is_for_one_worker(tmp_path: Path) -> None:
    code, said = started(tmp_path, config_dir() / "litellm.yaml", "--num_workers", WORKERS, *UVICORN)
    assert code != 0
    [line] = ours(said)
    assert "on SQLite is for one process" in line
    assert "OTRTA_GATEWAY_STORE" in line or "callback_settings.otrta.store" in line
    assert not (tmp_path / "gateway.sqlite3").exists()
