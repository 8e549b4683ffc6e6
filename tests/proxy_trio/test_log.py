"""What the client logs holds nothing that could be spent."""

import logging
import subprocess
import sys

import pytest

from otrta_core import Proof, Token
from proxy_trio.log import redact

SECRET = "9a6dbb847bd232ba76db0df197216b29d3b8cc14553cd27827fc1cc942fedb4e"
TOKEN = Token("https://m", "sat", (Proof(1, "009a1f293253e41e", SECRET, "02" + "ab" * 32),))


@pytest.mark.parametrize(
    "text", [TOKEN.encode(4), TOKEN.encode(3), SECRET, "Authorization: Bearer local-token", "k" * 90]
)
def test_tokens_secrets_and_keys_are_removed(text):
    said = redact(f"the gateway said {text}.")
    assert text not in said
    assert "[removed]" in said
    assert said.startswith("the gateway said ")


@pytest.mark.parametrize(
    "text", ["call_not_settled call=0123456789abcdef0123456789abcdef", "http://127.0.0.1:8402/v1", "110 msat"]
)
def test_what_is_needed_to_find_a_fault_stays(text):
    assert redact(text) == text


PROGRAM = f"""
import logging, structlog
from proxy_trio.log import configure
configure()
structlog.get_logger("a").warning("settled", token={TOKEN.encode()!r})
try:
    raise ValueError({SECRET!r})
except ValueError as error:
    structlog.get_logger("a").error("failed", exc_info=error)
    logging.getLogger("b").exception("it failed: %s", {TOKEN.encode()!r})
logging.getLogger("b").info("not shown")
"""


def test_a_program_that_logs_errors_shows_their_types_and_no_text():
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert ended.stdout == ""
    assert SECRET not in ended.stderr
    assert "cashu" not in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("ValueError") == 2
    assert len(ended.stderr.splitlines()) == 3


def test_a_program_with_handlers_of_its_own_keeps_them():
    handlers = list(logging.getLogger().handlers)
    assert handlers  # pytest's
    code = "import logging; logging.basicConfig(); from proxy_trio.log import configure; configure(); "
    code += "print(len(logging.getLogger().handlers))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "1\n"
