"""What the demo does as a user: it pays for two LLM calls, and reads the books of both sides."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otrta_cli.demo_report import PaidCall
from otrta_cli.processes import run_otrta

if TYPE_CHECKING:
    from openai import OpenAI

MODEL: Final = "demo-chat"
PROMPT: Final = "Say something in twenty words."
SETTLE_TIMEOUT_S: Final = 60.0
BOOKS_TIMEOUT_S: Final = 15.0

_POLL_S: Final = 0.3


class DemoFailed(Exception):
    """A step of the demo went wrong; the text is for the user."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An LLM call that was answered."""

    call: PaidCall
    text: str


@dataclass(frozen=True, slots=True)
class GatewayBooks:
    """What a gateway has, in msat: by its ledger, and as e-cash less the change that it owes."""

    earned_msat: int
    held_msat: int


def openai_client(url: str) -> "OpenAI":
    """The official SDK, pointed at the client proxy. It makes no second try, which would pay again."""
    import openai

    # Without trust_env a proxy from the environment cannot come between.
    http_client = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(
        base_url=f"{url}/v1", api_key="not-needed", max_retries=0, timeout=60, http_client=http_client
    )


def plain_call(sdk: "OpenAI") -> Answered:
    """Make a plain chat call; what it cost is in the headers of the answer."""
    import openai

    try:
        raw = sdk.chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": PROMPT}]
        )
        text = raw.parse().choices[0].message.content or ""
    except openai.OpenAIError as failure:
        raise DemoFailed(f"the plain call failed: {failure}") from failure
    paid, cost, fee, change = (_amount(raw.headers, name) for name in ("Paid", "Cost", "Fee", "Change"))
    return Answered(PaidCall(False, paid, cost, fee, change), text)


def streamed_call(sdk: "OpenAI", client_home: Path) -> Answered:
    """Make a streamed chat call; its headers tell what was paid, the wallet's history what it cost.

    Between gateway and client proxy the cost comes at the end of the stream, where the proxy takes it out.
    """
    import openai

    calls_before = len(_calls(client_home))
    try:
        raw = sdk.chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": PROMPT}], stream=True
        )
        chunks = [choice.delta.content or "" for chunk in raw.parse() for choice in chunk.choices]
    except openai.OpenAIError as failure:
        raise DemoFailed(f"the streamed call failed: {failure}") from failure
    paid, fee = _amount(raw.headers, "Paid"), _amount(raw.headers, "Fee")
    wait_until_settled(client_home)
    calls = _calls(client_home)
    if len(calls) <= calls_before or not isinstance(calls[0].get("cost_msat"), int):
        raise DemoFailed("the wallet's history does not say what the streamed call cost")
    cost = int(calls[0]["cost_msat"])
    return Answered(PaidCall(True, paid, cost, fee, paid - cost - fee), "".join(chunks))


def wait_until_settled(client_home: Path) -> int:
    """Wait until nothing of the wallet is pending, and return what it owns, in msat.

    Change is swapped in the background, where a fee may still go off: so two readings must agree.
    """
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    last_msat = None
    while True:
        balance = _json(client_home, "balance")
        pending_msat, total_msat = int(balance["pending_msat"]), int(balance["total_msat"])
        if pending_msat == 0 and total_msat == last_msat and not _json(client_home, "pending"):
            return total_msat
        if time.monotonic() > deadline:
            raise DemoFailed(
                f"after {SETTLE_TIMEOUT_S:.0f} s, {pending_msat} msat of the wallet are still pending"
            )
        last_msat = total_msat
        time.sleep(_POLL_S)


def gateway_books(store: Path) -> GatewayBooks:
    """What the gateway's own store says."""
    from otrta_litellm import ledger

    return GatewayBooks(ledger.earnings_msat(str(store)), ledger.holdings_msat(str(store)))


def gateway_gain(store: Path, before: GatewayBooks, expected_msat: int) -> GatewayBooks:
    """What the books gained since `before`; waits a while for what is expected, and returns what there is."""
    deadline = time.monotonic() + BOOKS_TIMEOUT_S
    while True:
        now = gateway_books(store)
        gain = GatewayBooks(now.earned_msat - before.earned_msat, now.held_msat - before.held_msat)
        if gain == GatewayBooks(expected_msat, expected_msat) or time.monotonic() > deadline:
            return gain
        time.sleep(_POLL_S)


def _calls(client_home: Path) -> list[dict[str, Any]]:
    return [entry for entry in _json(client_home, "history") if entry["kind"] == "call"]


def _json(client_home: Path, command: str) -> Any:
    return json.loads(run_otrta(client_home, command, "--json"))


def _amount(headers: Any, name: str) -> int:
    value = headers.get(f"X-Otrta-{name}-Msat")
    if value is None:
        raise DemoFailed(
            f"the gateway's answer has no X-Otrta-{name}-Msat header, so the call was not paid for"
        )
    return int(value)
