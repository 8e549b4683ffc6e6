"""Nothing that a stranger sends makes the gateway, or LiteLLM behind it, connect to where it points."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from otrta_core import Proof, Token
from tests.integration.purse import Purse
from tests.integration.shop import CHAT, EMBEDDINGS, Shop, chat

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("mint")]

STEERING_HEADERS = (
    "x-litellm-api-base",
    "x-litellm-call-url",
    "x-forwarded-host",
    "forwarded",
    "referer",
    "origin",
    "x-mcp-servers",
    "litellm-api-base",
)


@dataclass
class Trap:
    """A port of this machine that counts who connects."""

    port: int
    met: list[Any] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def trap() -> Iterator[Trap]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = Trap(listener.getsockname()[1])

        last: list[Any] = []

        def count() -> None:
            while not last or found.met[-1:] != last:
                connection, address = listener.accept()
                found.met.append(address)
                connection.close()

        thread = threading.Thread(target=count)
        thread.start()
        try:
            yield found
        finally:
            with socket.socket() as own:  # behind all others in the queue
                own.bind(("127.0.0.1", 0))
                last.append(own.getsockname())
                own.connect(("127.0.0.1", found.port))
                thread.join()
            found.met.pop()


def image(url: str) -> list[dict[str, Any]]:
    parts = [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    return [{"role": "user", "content": parts}]


def test_the_trap_counts() -> None:
    with trap() as place:
        socket.create_connection(("127.0.0.1", place.port)).close()
    assert len(place.met) == 1


def test_bodies_that_name_addresses_cause_no_connection(shop: Shop, purse: Purse) -> None:
    with trap() as place:
        url = place.url
        bodies: list[Any] = [
            chat(messages=image(f"{url}/a.png")),
            chat(messages=image(f"data:image/png;base64,AAAA#{url}")),
            *(chat(**{name: url}) for name in ("api_base", "base_url", "api_key", "proxy", "callback_url")),
            chat(metadata={"url": url}),
            chat(model=url),
            chat(model=f"openai/{url}"),
            chat(extra_body={"api_base": url}),
            chat(extra_headers={"Host": f"127.0.0.1:{place.port}"}),
            chat(tools=[{"type": "mcp", "server_label": "x", "server_url": url}]),
            chat(web_search_options={"url": url}),
            chat(fallbacks=[{"model": "demo-chat", "api_base": url}]),
            chat(mock_response=url, langfuse_host=url, success_callback=[url]),
            chat(messages=[{"role": "user", "content": [{"type": "file", "file": {"file_id": url}}]}]),
            chat(messages=[{"role": "user", "content": f"lnurl {url} LNURL1DP68GURN8GHJ7 me@{url}"}]),
        ]
        for body in bodies:
            token = purse.token(20_000)
            reply = shop.buy(token, body)
            assert reply.status == 200 or purse.states(token) == {"UNSPENT"}, body
        shop.buy(purse.token(20_000), {"model": "demo-embed", "input": [f"{url}/a"]}, path=EMBEDDINGS)
    assert place.met == []


def test_headers_and_queries_that_name_addresses_cause_no_connection(shop: Shop, purse: Purse) -> None:
    with trap() as place:
        headers = dict.fromkeys(STEERING_HEADERS, place.url)
        assert shop.buy(purse.token(20_000), headers=headers).status == 200
        shop.buy(purse.token(20_000), path=f"{CHAT}?api_base={place.url}&model={place.url}")
        shop.ask(headers=headers)
    assert place.met == []


def test_tokens_that_name_other_mints_cause_no_connection(shop: Shop, purse: Purse) -> None:
    real = purse.token(20_000)
    with trap() as place:
        host = f"127.0.0.1:{place.port}"
        for mint in (
            place.url,
            f"{purse.mint}@{host}",
            f"{place.url}/v1",
            f"{purse.mint}.{host}",
            f"//{host}",
        ):
            for encoded in (replace(real, mint=mint).encode(4), replace(real, mint=mint).encode(3)):
                reply = shop.buy(encoded)
                assert reply.status == 400, reply.body
                assert json.loads(reply.body)["error"]["code"] in ("mint_not_accepted", "token_malformed")
                assert shop.change(encoded).status in (400, 404)
        unknown = Proof(1, "00" + "ab" * 7, "s", "02" + "11" * 32)
        named = Token(place.url, "msat", (unknown,), memo=place.url)
        assert shop.buy(named).status == 400
        assert shop.buy(replace(real, memo=place.url)).status == 200
        assert shop.change(named, path="/v1/wallet/refund").status in (400, 404)
    assert place.met == []
