"""Which headers pass through the proxy, in both directions.

Outbound is an allow-list: what is not named here never leaves the machine, because any header that an
app adds (User-Agent, the stainless ones, cookies, keys) tells the gateway who is calling. Inbound is a
filter: what belongs to one connection, to the payment, or to the gateway's own site does not reach the
app. Host and Content-Length are written by the HTTP client from the URL and the body.
"""

from collections.abc import Iterable

Header = tuple[bytes, bytes]

_FORWARDED = (b"content-type", b"anthropic-version", b"anthropic-beta", b"openai-beta")
_JSON = b"application/json"

# RFC 9110 §7.6.1, with the older names that are still met.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

# A browser would take these as said by 127.0.0.1, for every program that listens there.
_OF_ANOTHER_SITE = frozenset(
    {
        b"set-cookie",
        b"set-cookie2",
        b"strict-transport-security",
        b"alt-svc",
        b"clear-site-data",
        b"content-security-policy",
        b"content-security-policy-report-only",
        b"x-content-type-options",
        b"nel",
        b"report-to",
        b"reporting-endpoints",
        b"refresh",
        b"location",
    }
)

# A gateway's page opened in a browser must not act with the rights of the proxy's own origin.
_SEALED: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
)

EXPOSED_HEADERS = (
    b"X-Otrta-Paid-Msat",
    b"X-Otrta-Cost-Msat",
    b"X-Otrta-Fee-Msat",
    b"X-Otrta-Change-Msat",
    b"X-Otrta-Change",
    b"X-Request-Id",
    b"Retry-After",
)


def outbound(headers: Iterable[Header]) -> list[Header]:
    """Pick the app's headers that go to the gateway, and write them as those of any other app.

    Their order is fixed, Accept is always ``*/*``, and a JSON body is called so in one way: all three tell
    apps apart. The encoding asked for is always ``identity``: change comes inside streams, and a compressed
    stream would hide it.

    Args:
        headers: The app's headers, names in any case.

    Returns:
        The allowed ones, Accept and Accept-Encoding.
    """
    seen = [(name.lower(), value) for name, value in headers]
    if is_json(seen):
        seen = [(name, _JSON if name == b"content-type" else value) for name, value in seen]
    kept = [(name, value) for wanted in _FORWARDED for name, value in seen if name == wanted]
    return [*kept, (b"accept", b"*/*"), (b"accept-encoding", b"identity")]


def with_payment(
    headers: Iterable[Header], token: str | None, *, change_in_stream: bool = True
) -> list[Header]:
    """Add the payment, and the wish for change inside the stream.

    Args:
        headers: What ``outbound`` returned.
        token: The encoded Cashu token, or None for a call that is free.
        change_in_stream: Whether the gateway is one that gives change there.
    """
    if token is None:
        return list(headers)
    wish = [(b"x-cashu-change", b"sse")] if change_in_stream else []
    return [*headers, (b"x-cashu", token.encode("ascii")), *wish]


def inbound(headers: Iterable[Header], *, decoded: bool, keep_length: bool) -> list[Header]:
    """Filter the gateway's headers for the app.

    Args:
        headers: The gateway's headers, names in any case.
        decoded: The body was decompressed, so Content-Encoding no longer holds.
        keep_length: The body goes on byte for byte, so Content-Length still holds.

    Returns:
        The headers for the app. The gateway's CORS headers are dropped: the guard writes its own.
    """
    seen = [(name.lower(), value) for name, value in headers]
    dropped = _HOP_BY_HOP | _OF_ANOTHER_SITE | {b"x-cashu", b"x-cashu-change"}
    for name, value in seen:
        if name == b"connection":
            dropped |= {option.strip().lower() for option in value.split(b",")}
    if decoded:
        dropped |= {b"content-encoding"}
    if not keep_length:
        dropped |= {b"content-length"}
    kept = [
        (name, value)
        for name, value in seen
        if name not in dropped and not name.startswith(b"access-control-")
    ]
    return [*kept, *_SEALED]


def values(headers: Iterable[Header], name: bytes) -> list[str]:
    """Every value of a header, in order; ``name`` in lower case."""
    return [value.decode("latin-1") for key, value in headers if key.lower() == name]


def media_type(headers: Iterable[Header]) -> str:
    """The media type of Content-Type in lower case without parameters, or an empty string."""
    given = values(headers, b"content-type")
    return given[0].partition(";")[0].strip().lower() if given else ""


def is_json(headers: Iterable[Header]) -> bool:
    """Tell whether Content-Type says JSON. A web page cannot send that to us without a preflight."""
    return media_type(headers) == "application/json"
