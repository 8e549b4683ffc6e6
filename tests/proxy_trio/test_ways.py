"""By which way a gateway or a mint is reached, and how a proxy is named."""

import httpx
import pytest
import trio

from proxy_trio.errors import ProxyInvalid
from proxy_trio.gateway import gateway_transport
from proxy_trio.socks import SocksProxy, made_up
from proxy_trio.ways import WayFinder, Ways

TOR = "socks5h://127.0.0.1:9050"


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        (TOR, SocksProxy("127.0.0.1", 9050)),
        ("socks5h://tor.local", SocksProxy("tor.local", 1080)),
        ("socks5h://me:a%40b@[::1]:9050/", SocksProxy("::1", 9050, (b"me", b"a@b"))),
    ],
)
def test_a_proxy_is_read(url, proxy):
    assert SocksProxy.parse(url) == proxy


@pytest.mark.parametrize(
    "url",
    [
        "socks5://127.0.0.1:9050",
        "http://127.0.0.1:8118",
        "127.0.0.1:9050",
        "socks5h://",
        "socks5h://h:99999",
        "socks5h://h/path",
        "socks5h://h?x",
        "socks5h://me:@h",
        f"socks5h://{'u' * 256}:p@h",
        "",
    ],
)
def test_what_would_look_names_up_here_is_no_proxy(url):
    with pytest.raises(ProxyInvalid):
        SocksProxy.parse(url)


def test_a_proxys_password_is_not_shown():
    proxy = SocksProxy.parse("socks5h://me:password@h:1")
    assert str(proxy) == "socks5h://h:1"
    assert "password" not in repr(proxy)


def test_what_is_set_for_a_place_goes_before_the_default():
    ways = Ways(TOR, {"https://mint.test": "direct", "https://gateway.test/api": "socks5h://other:1"})
    assert ways.describe("https://mint.test:443/Bitcoin") is None
    assert ways.describe("https://gateway.test") == "socks5h://other:1"
    assert ways.describe("http://gateway.test") == TOR
    assert ways.describe("https://else.test/v1") == TOR


def test_without_settings_all_ways_are_direct():
    assert Ways().of("https://anywhere.test") is None


def test_made_up_names_are_never_the_same():
    assert len({made_up() for _ in range(100)}) == 100


@pytest.mark.trio
async def test_a_hidden_service_without_a_proxy_is_not_looked_up():
    async with WayFinder(Ways(), lambda: gateway_transport(verify=False)) as transport:
        with trio.fail_after(5), pytest.raises(httpx.ConnectError, match="through a proxy only"):
            await transport.handle_async_request(httpx.Request("GET", "http://abc.onion/v1/cashu/info"))
