"""Which headers pass, and which do not."""

import pytest

from proxy_trio.headers import inbound, is_json, media_type, outbound, with_payment


def test_only_the_allow_list_goes_out():
    allowed = [
        (b"Content-Type", b"application/json"),
        (b"Accept", b"text/event-stream"),
        (b"anthropic-version", b"2023-06-01"),
        (b"Anthropic-Beta", b"x"),
        (b"OpenAI-Beta", b"y"),
    ]
    private = [
        (b"User-Agent", b"OpenAI/Python 1.2"),
        (b"Authorization", b"Bearer sk-secret"),
        (b"X-Api-Key", b"sk-secret"),
        (b"Cookie", b"session=1"),
        (b"X-Stainless-OS", b"Linux"),
        (b"X-Cashu", b"cashuBown"),
        (b"X-Cashu-Change", b"no"),
        (b"Referer", b"http://private/"),
        (b"X-Forwarded-For", b"10.0.0.1"),
        (b"Connection", b"keep-alive"),
        (b"OpenAI-Organization", b"org"),
    ]
    assert outbound(allowed + private) == [
        (b"content-type", b"application/json"),
        (b"anthropic-version", b"2023-06-01"),
        (b"anthropic-beta", b"x"),
        (b"openai-beta", b"y"),
        (b"accept", b"*/*"),
        (b"accept-encoding", b"identity"),
    ]


def test_what_two_apps_say_in_their_own_ways_goes_out_alike():
    one = [(b"Accept", b"application/json"), (b"OpenAI-Beta", b"y"), (b"Content-Type", b"application/json")]
    other = [(b"content-type", b"application/json; charset=utf-8"), (b"openai-beta", b"y")]
    assert outbound(one) == outbound(other)


def test_the_boundary_of_a_form_goes_on():
    form = b"multipart/form-data; boundary=x"
    assert outbound([(b"Content-Type", form)])[0] == (b"content-type", form)


def test_the_encoding_asked_for_is_identity_whatever_the_app_says():
    assert outbound([(b"Accept-Encoding", b"gzip, br")])[-1] == (b"accept-encoding", b"identity")


def test_a_payment_adds_the_token_and_the_wish_for_change_in_the_stream():
    assert with_payment([(b"accept", b"*/*")], "cashuBx") == [
        (b"accept", b"*/*"),
        (b"x-cashu", b"cashuBx"),
        (b"x-cashu-change", b"sse"),
    ]


def test_a_free_call_says_nothing_of_cashu():
    assert with_payment([(b"accept", b"*/*")], None) == [(b"accept", b"*/*")]


GATEWAY_HEADERS = [
    (b"Content-Type", b"application/json"),
    (b"Content-Length", b"12"),
    (b"Content-Encoding", b"gzip"),
    (b"X-Otrta-Cost-Msat", b"110"),
    (b"X-Cashu", b"cashuBchange"),
    (b"Set-Cookie", b"track=1"),
    (b"Connection", b"close, X-Per-Hop"),
    (b"X-Per-Hop", b"1"),
    (b"Keep-Alive", b"timeout=5"),
    (b"Transfer-Encoding", b"chunked"),
    (b"Access-Control-Allow-Origin", b"*"),
    (b"Strict-Transport-Security", b"max-age=1"),
    (b"Retry-After", b"3"),
]


def names(headers):
    return [name for name, _ in headers]


def test_inbound_keeps_what_is_about_the_answer_and_drops_the_rest():
    kept = inbound(GATEWAY_HEADERS, decoded=False, keep_length=True)
    assert names(kept) == [
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"x-otrta-cost-msat",
        b"retry-after",
        b"x-content-type-options",
        b"content-security-policy",
    ]


def test_a_decoded_answer_loses_its_encoding_and_its_length():
    kept = names(inbound(GATEWAY_HEADERS, decoded=True, keep_length=False))
    assert b"content-encoding" not in kept
    assert b"content-length" not in kept


@pytest.mark.parametrize(
    ("content_type", "json"),
    [
        (b"application/json", True),
        (b"Application/JSON; charset=utf-8", True),
        (b"text/plain", False),
        (b"application/x-www-form-urlencoded", False),
        (b"application/jsonx", False),
    ],
)
def test_json_is_told_by_the_media_type(content_type, json):
    assert is_json([(b"content-type", content_type)]) is json


def test_no_content_type_is_no_json():
    assert not is_json([])
    assert media_type([]) == ""
