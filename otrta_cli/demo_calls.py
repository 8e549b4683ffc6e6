"""What the demo does as a user: tops up a wallet, makes two LLM calls, and reads the books of both sides."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otrta_cli.demo_report import PaidCall
from otrta_cli.processes import run_otrta

if TYPE_CHECKING:
    import openai
    from openai.types.chat import ChatCompletionUserMessageParam

MODEL: Final = "demo-chat"
TOP_UP: Final = "100sat"
SETTLE_TIMEOUT_S: Final = 60.0
LEDGER_TIMEOUT_S: Final = 15.0

_MESSAGE: Final[ChatCompletionUserMessageParam] = {"role": "user", "content": "Say something in twenty words."}
_POLL_S: Final = 0.3


class DemoFailed(Exception):
    """A step of the demo went wrong; the text is for the user."""
