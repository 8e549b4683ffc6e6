"""One mint, one text."""

import pytest

from otrta_wallet import MintNotKnown
from otrta_wallet.mint_url import normalize_mint_url


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("https://mint.example", "https://mint.example"),
        ("https://mint.example/", "https://mint.example"),
        (" HTTPS://Mint.Example:443// ", "https://mint.example"),
        ("http://mint.example:80", "http://mint.example"),
        ("http://mint.example:443", "http://mint.example:443"),
        ("https://mint.example/Bitcoin/", "https://mint.example/Bitcoin"),
        ("http://[::1]:3338", "http://[::1]:3338"),
    ],
)
def test_spellings_of_a_mint_become_one(given, normal):
    assert normalize_mint_url(given) == normal
    assert normalize_mint_url(normal) == normal


@pytest.mark.parametrize(
    "given",
    [
        "",
        "mint.example",
        "ftp://mint.example",
        "https://",
        "https://user@mint.example",
        "https://user:word@mint.example",
        "https://mint.example?x=1",
        "https://mint.example#x",
        "https://mint.example:port",
        "https://mint.example:99999",
        "https://[::1",
        "file:///etc/passwd",
    ],
)
def test_what_is_not_a_mint_is_refused(given):
    with pytest.raises(MintNotKnown):
        normalize_mint_url(given)
