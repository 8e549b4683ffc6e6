"""LNURL-pay: an invoice of the amount that was asked for, from nobody but the one who is to be paid."""

import json
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from typing import Any

import httpx
import pytest

from otrta_core import bech32, invoice_amount_msat
from otrta_litellm.lnurl import MAX_ANSWER_BYTES, LnurlError, PayService, ask_invoice, ask_service, url_of
from otrta_wallet.mint_client import new_http_client
from tests.payee import METADATA, Payee, invoice, payee

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def session_payee() -> Iterator[Payee]:
    with payee() as found:
        yield found


@pytest.fixture
def me(session_payee: Payee) -> Payee:
    """The payee, answering as it should."""
    session_payee.good()
    return session_payee


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with new_http_client() as http:
        yield http


def lnurl(url: str) -> str:
    return bech32.encode("lnurl", url.encode(), bech32.Checksum.BECH32)


LUD_01 = (
    "LNURL1DP68GURN8GHJ7UM9WFMXJCM99E3K7MF0V9CXJ0M385EKVCENXC6R2C35XVUKXEFCV5MKVV34X5EKZD3EV56NYD3HXQURZEPEXEJXXEPNXSCRVWF"
    "NV9NXZCN9XQ6XYEFHVGCXXCMYXYMNSERXFQ5FNS"
)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("me@example.com", "https://example.com/.well-known/lnurlp/me"),
        (" Me.too+otrta@Example.com:8443 ", "https://example.com:8443/.well-known/lnurlp/me.too+otrta"),
        ("me@127.0.0.1:80", "http://127.0.0.1:80/.well-known/lnurlp/me"),
        ("me@localhost", "http://localhost/.well-known/lnurlp/me"),
        ("lightning:me@example.com", "https://example.com/.well-known/lnurlp/me"),
        ("lnurlp://example.com/Pay?a=b", "https://example.com/Pay?a=b"),
        (lnurl("https://Example.com/Pay#x"), "https://Example.com/Pay"),
        (
            LUD_01,
            "https://service.com/api?q=3fc3645b439ce8e7f2553a69e5267081d96dcd340693afabe04be7b0ccd178df",
        ),
    ],
)
def test_what_an_address_or_lnurl_stands_for(text: str, url: str) -> None:
    assert url_of(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "me",
        "@example.com",
        "me@",
        "me@exa mple.com",
        "me@example.com/x",
        "me@example.com:99999999",
        "m\u00e9@example.com",
        "https://example.com",
        lnurl("http://example.com"),
        lnurl("ftp://example.com"),
        lnurl("https://u:p@example.com"),
        lnurl("https://"),
        lnurl("nothing"),
        "lnurlp://",
        "lnurl1qqqqqq",
        "lnurl1" + "q" * 5000,
    ],
)
def test_what_leads_elsewhere_is_refused(text: str) -> None:
    with pytest.raises(LnurlError):
        url_of(text)


async def test_an_invoice_of_the_amount_that_was_asked_for(me: Payee, http: httpx.AsyncClient) -> None:
    service = await ask_service(http, me.address)
    assert (service.least_msat, service.most_msat) == (1000, 10**12)
    assert invoice_amount_msat(await ask_invoice(http, service, 123_000)) == 123_000
    assert me.asked == [123_000]


@pytest.mark.parametrize(
    "told",
    [
        {"tag": "withdrawRequest"},
        {"callback": None},
        {"callback": "http://example.com/pay"},
        {"callback": "https://u@example.com/pay"},
        {"callback": "x" * 3000},
        {"minSendable": 0},
        {"minSendable": "1000"},
        {"minSendable": 2000, "maxSendable": 1000},
        {"maxSendable": 2**63},
        {"maxSendable": 1000.5},
        {"metadata": None},
        {"metadata": "[]"},
        {"metadata": '{"text/plain": "x"}'},
        {"metadata": '[["text/plain", 5]]'},
        {"metadata": '[["text/plain", "a"], ["text/plain", "b"]]'},
        {"metadata": "[" * 100_000},
    ],
    ids=lambda told: next(iter(told)) if isinstance(told, dict) else None,
)
async def test_a_service_that_does_not_answer_as_it_should_is_not_paid(
    me: Payee, http: httpx.AsyncClient, told: dict[str, Any]
) -> None:
    me.told |= told
    with pytest.raises(LnurlError):
        await ask_service(http, me.address)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ((302, {"Location": "https://example.com/"}, b""), "redirect"),
        ((200, {}, b"x" * (MAX_ANSWER_BYTES + 1)), "more than"),
        ((200, {}, b"<html>"), "JSON object"),
        ((200, {}, b"[]"), "JSON object"),
        ((200, {}, b"[" * 60_000), "JSON object"),
        ((500, {}, b"{}"), "refuses"),
        (
            (200, {}, b'{"status": "ERROR", "reason": "no\\u001b[31m such\\nuser"}'),
            r"refuses: no \[31m such user",
        ),
    ],
    ids=["redirect", "large", "html", "list", "deep", "500", "error"],
)
async def test_answers_are_read_to_a_bound_and_never_followed(
    me: Payee, http: httpx.AsyncClient, raw: tuple[int, dict[str, str], bytes], said: str
) -> None:
    me.raw = raw
    with pytest.raises(LnurlError, match=said):
        await ask_service(http, me.address)


async def test_who_is_not_there_is_not_paid(http: httpx.AsyncClient) -> None:
    with pytest.raises(LnurlError, match="cannot be asked"):
        await ask_service(http, "me@127.0.0.1:1")


@pytest.mark.parametrize("amount", [999, 10**12 + 1, 0, -1])
async def test_an_amount_that_is_not_taken_is_not_asked_for(http: httpx.AsyncClient, amount: int) -> None:
    service = PayService("http://127.0.0.1:1/", 1000, 10**12, METADATA)
    with pytest.raises(LnurlError, match="takes 1000 to"):
        await ask_invoice(http, service, amount)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"pr": invoice(6_000, sha256(METADATA.encode()).digest())}, "another amount"),
        ({"pr": invoice(5_000)}, "something else"),
        ({"pr": "lnbc1"}, "no invoice"),
        ({"pr": 5}, "no invoice"),
        ({}, "no invoice"),
    ],
    ids=["amount", "hash", "torn", "number", "none"],
)
async def test_an_invoice_for_something_else_is_not_paid(
    me: Payee, http: httpx.AsyncClient, answer: dict[str, object], said: str
) -> None:
    service = await ask_service(http, me.address)
    me.answer = answer
    with pytest.raises(LnurlError, match=said):
        await ask_invoice(http, service, 5_000)


async def test_a_service_elsewhere_cannot_name_an_address_on_this_machine() -> None:
    told = {"tag": "payRequest", "minSendable": 1, "maxSendable": 2, "metadata": METADATA}

    def answer(_request: httpx.Request) -> httpx.Response:
        body = json.dumps({**told, "callback": "http://127.0.0.1:4000/v1/cashu/admin/recover"})
        return httpx.Response(200, stream=httpx.ByteStream(body.encode()))

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        with pytest.raises(LnurlError, match="on this machine"):
            await ask_service(http, "me@example.com")
