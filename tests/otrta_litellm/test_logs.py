"""The gateway's log: lines that machines read, without a secret, whoever writes them."""

import json
import subprocess
import sys

import pytest

from otrta_core import Proof, Token
from otrta_litellm.logs import Redactor

SECRET = "9a6dbb847bd232ba76db0df197216b29d3b8cc14553cd27827fc1cc942fedb4e"
TOKEN = Token("https://m", "sat", (Proof(1, "009a1f293253e41e", SECRET, "02" + "ab" * 32),)).encode()
KEY = "an operator's own key"

PROGRAM = f"""
import logging, sys, structlog
from otrta_litellm.logs import configure
configure(sys.argv[1], "info", lambda: [{KEY!r}])
configure(sys.argv[1], "info", lambda: [{KEY!r}])
log = structlog.get_logger("a")
deep = [{{"k": {{"s": {SECRET!r}}}}}, {KEY!r}, {TOKEN!r}.encode()]
log.info("settled", token={TOKEN!r}, deep=deep, cost=110)
log.debug("not shown")
try:
    raise ValueError({SECRET!r})
except ValueError as error:
    log.error("failed", exc_info=True, cause=error)
    log.exception("failed again")
logging.basicConfig(level=logging.DEBUG)
other = logging.getLogger("LiteLLM")
other.debug("headers: %s", {{"x-cashu": {TOKEN!r}, "authorization": {KEY!r}}})
other.info("plain %d", 5)
try:
    raise ValueError({TOKEN!r})
except ValueError:
    other.exception("call failed")
other.warning("wrong arguments %d", "x")
"""


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nothing_that_is_logged_holds_a_secret(log_format: str) -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM, log_format], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "")
    for hidden in (SECRET, TOKEN, TOKEN[6:80], KEY):
        assert hidden not in ended.stderr
    assert "plain 5" in ended.stderr
    assert "call failed" in ended.stderr
    assert "not shown" not in ended.stderr
    assert ended.stderr.count("ValueError") >= 3
    lines = ended.stderr.splitlines()[:3]
    if log_format == "json":
        events = [json.loads(line) for line in lines]
        assert [event["event"] for event in events] == ["settled", "failed", "failed again"]
        assert (events[0]["cost"], events[0]["level"]) == (110, "info")
        assert (events[1]["error"], events[1]["cause"]) == ("ValueError", "ValueError")


def test_an_event_keeps_what_is_no_secret() -> None:
    event = {
        "event": "settled",
        "cost": 1,
        "free": True,
        "none": None,
        "mint": "https://m",
        "units": ("sat",),
    }
    assert Redactor()(None, "info", dict(event)) == event | {"units": ["sat"]}
