"""Whose thread reads and writes a body: the event loop's own only where that is quickly done."""

import json
import threading

import pytest

from otrta_core import InvalidRequest
from otrta_litellm import clerk as clerk_module
from otrta_litellm.clerk import LARGE_BYTES, Clerk
from otrta_litellm.terms import Outbound, Quotes, Request, Sent, read_request
from tests.otrta_litellm.samples import payment, settings
from tests.otrta_litellm.test_terms import Shelf

pytestmark = pytest.mark.anyio

JSON = "application/json"


def chat(size: int) -> Sent:
    body = {"model": "m", "messages": [{"role": "user", "content": "x" * size}]}
    return Sent("/v1/chat/completions", JSON, json.dumps(body).encode())


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads in which bodies are read and written, in their order."""
    found: list[int] = []
    outbound = Quotes.outbound

    def read(sent: Sent) -> Request:
        found.append(threading.get_ident())
        return read_request(sent)

    def write(*given: object) -> Outbound:
        found.append(threading.get_ident())
        return outbound(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(clerk_module, "read_request", read)
    monkeypatch.setattr(Quotes, "outbound", write)
    return found


async def test_large_bodies_are_read_and_written_beside_the_loop(threads: list[int]) -> None:
    quotes = Quotes(settings(), Shelf())  # type: ignore[arg-type]
    clerk, here = Clerk(), threading.get_ident()
    for size in (10, LARGE_BYTES):
        sent = chat(size)
        terms = quotes.terms(await clerk.read(sent))
        assert terms.size == len(sent.body)
        out = await clerk.write(quotes, terms, payment(paid_msat=10**9))
        assert json.loads(out.body)["messages"][0]["content"] == "x" * size
    assert threads[:2] == [here, here]
    assert here not in threads[2:]
    assert len(threads) == 4


@pytest.mark.parametrize("size", [1, LARGE_BYTES])
async def test_what_is_wrong_with_a_body_is_said_all_the_same(size: int) -> None:
    with pytest.raises(InvalidRequest):
        await Clerk().read(Sent("/v1/chat/completions", JSON, b"[" * size))
