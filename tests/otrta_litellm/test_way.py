"""What is done with a request, as a table."""

import pytest

from otrta_litellm.way import Way, tokens_of, way_of

CHAT = "/v1/chat/completions"
KEY = (b"authorization", b"Bearer sk")
TOKEN = (b"x-cashu", b"cashuB")
PREFLIGHT = ((b"origin", b"https://a.example"), (b"access-control-request-method", b"POST"))


@pytest.mark.parametrize(
    ("method", "path", "headers", "way"),
    [
        ("POST", CHAT, (), Way.ASK),
        ("POST", CHAT, (TOKEN,), Way.BUY),
        ("POST", CHAT, (KEY,), Way.THROUGH),
        ("POST", CHAT, (KEY, TOKEN), Way.BUY),
        ("POST", CHAT, ((b"x-cashu", b" "),), Way.ASK),
        ("POST", CHAT, ((b"x-cashu", b""), KEY), Way.THROUGH),
        ("POST", CHAT, ((b"authorization", b" \t"),), Way.ASK),
        ("POST", CHAT, ((b"x-api-key", b"k"),), Way.THROUGH),
        ("POST", CHAT, ((b"api-key", b"k"),), Way.THROUGH),
        ("POST", CHAT, ((b"x-goog-api-key", b"k"),), Way.THROUGH),
        ("POST", CHAT, ((b"x-other-key", b"k"),), Way.ASK),
        ("GET", CHAT, (), Way.NO_KEY),
        ("GET", CHAT, (TOKEN,), Way.NOT_PAYABLE),
        ("post", CHAT, (TOKEN,), Way.NOT_PAYABLE),
        ("POST", CHAT + "/", (TOKEN,), Way.NOT_PAYABLE),
        ("POST", CHAT.upper(), (TOKEN,), Way.NOT_PAYABLE),
        ("POST", "/" + CHAT, (TOKEN,), Way.NOT_PAYABLE),
        ("POST", "/chat/completions", (), Way.ASK),
        ("POST", "/v1/embeddings", (), Way.ASK),
        ("POST", "/v1/images/edits", (), Way.ASK),
        ("POST", "/openai/deployments/a/b/chat/completions", (TOKEN,), Way.BUY),
        ("POST", "/openai/deployments//embeddings", (TOKEN,), Way.NOT_PAYABLE),
        ("POST", "/v1/messages/count_tokens", (), Way.NO_KEY),
        ("POST", "/v1/responses/compact", (TOKEN,), Way.NOT_PAYABLE),
        ("POST", "/key/generate", (), Way.NO_KEY),
        ("POST", "/key/generate", (TOKEN,), Way.NOT_PAYABLE),
        ("POST", "/key/generate", (KEY,), Way.THROUGH),
        ("POST", "/key/generate", (KEY, TOKEN), Way.NOT_PAYABLE),
        ("GET", "/v1/models", (), Way.FREE),
        ("HEAD", "/v1/models", (), Way.FREE),
        ("GET", "/v1/models", (TOKEN,), Way.FREE),
        ("GET", "/v1/models", (TOKEN, KEY), Way.FREE),
        ("GET", "/v1/models", (KEY,), Way.THROUGH),
        ("GET", "/v1/models/demo-chat", (), Way.NO_KEY),
        ("GET", "/models/demo-chat", (TOKEN,), Way.NOT_PAYABLE),
        ("GET", "/v1/models/", (), Way.NO_KEY),
        ("GET", "/v1/models/a/b", (), Way.NO_KEY),
        ("POST", "/v1/models/demo-chat", (), Way.NO_KEY),
        ("POST", "/v1/models", (), Way.NO_KEY),
        ("POST", "/v1/models", (TOKEN,), Way.NOT_PAYABLE),
        ("GET", "/health", (), Way.NO_KEY),
        ("GET", "/health/liveliness", (), Way.FREE),
        ("GET", "/v1/cashu/info", (), Way.ROUTE),
        ("GET", "/v1/cashu/info", (KEY, TOKEN), Way.ROUTE),
        ("POST", "/v1/cashu/change", (TOKEN,), Way.ROUTE),
        ("POST", "/v1/wallet/refund", (), Way.ROUTE),
        ("GET", "/v1/cashu/other", (), Way.NO_KEY),
        ("OPTIONS", CHAT, PREFLIGHT, Way.THROUGH),
        ("OPTIONS", "/v1/cashu/change", PREFLIGHT, Way.THROUGH),
        ("OPTIONS", CHAT, PREFLIGHT[:1], Way.NO_KEY),
        ("OPTIONS", CHAT, (TOKEN,), Way.NOT_PAYABLE),
        ("OPTIONS", "/mcp", (), Way.NO_KEY),
        ("TRACE", "/", (), Way.NO_KEY),
    ],
)
def test_the_way_of_a_request(
    method: str, path: str, headers: tuple[tuple[bytes, bytes], ...], way: Way
) -> None:
    assert way_of(method, path, headers) is way
    assert way_of(method, path, headers[::-1]) is way


def test_empty_tokens_are_passed_over_and_others_are_all_seen() -> None:
    headers = [(b"x-cashu", b""), (b"x-cashu", b"a\xe9"), (b"x-other", b"b"), (b"x-cashu", b"c")]
    assert tokens_of(headers) == ["a\xe9", "c"]
