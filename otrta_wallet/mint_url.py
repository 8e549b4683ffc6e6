"""Mint URLs in one normal form, so that the same mint is always the same text."""

from urllib.parse import urlsplit, urlunsplit

from otrta_wallet.errors import MintNotKnown


def normalize_mint_url(url: str) -> str:
    """Return the URL with a lower-case scheme and host and without trailing slashes (NUT-00).

    Raises:
        MintNotKnown: not an http or https URL, or one with user information, query or fragment.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise MintNotKnown("the mint's URL cannot be read") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise MintNotKnown("a mint's URL begins with https:// or http://")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise MintNotKnown("a mint's URL has no user, query or fragment")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = {"http": 80, "https": 443}[parts.scheme]
    netloc = host if port in (None, default) else f"{host}:{port}"
    return urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))
