from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import Nut10Option, PaymentRequest, PaymentRequestError, Transport, bech32, creqb, tlv
from otrta_core.amounts import MAX_AMOUNT
from otrta_core.bech32 import Checksum
from otrta_core.nostr_profile import NostrProfile
from otrta_core.payment_request import MAX_BYTES
from tests.otrta_core.test_payment_request import VECTORS as NUT18
from tests.otrta_core.test_payment_request import expected
from tests.otrta_core.vectors import load

VECTORS: dict[str, dict[str, Any]] = {vector["name"]: vector for vector in load("26")["requests"]}
EXAMPLE = load("26")["example"]
KEY = bytes(range(32))
PROFILE = NostrProfile(KEY).encode()


def field(kind: int, value: bytes) -> bytes:
    return tlv.write([(kind, value)], length_bytes=2)


def creq(*fields: bytes) -> str:
    return bech32.encode("creqb", b"".join(fields), Checksum.BECH32M)


def transport(kind: int = 1, target: bytes = b"https://shop.example", *more: bytes) -> bytes:
    return field(7, b"".join([field(1, bytes([kind])), field(2, target), *more]))


def condition(kind: int = 0, data: bytes = b"02aa", *more: bytes) -> bytes:
    return field(8, b"".join([field(1, bytes([kind])), field(2, data), *more]))


def test_there_are_as_many_published_requests_as_nut_26_has() -> None:
    assert len(VECTORS) == len(load("26")["requests"]) == 16
    assert len(EXAMPLE["uris"]) == 3


@pytest.mark.parametrize("vector", [*VECTORS.values(), EXAMPLE], ids=[*VECTORS, "example"])
def test_the_published_requests_are_read_and_written_byte_for_byte(vector: dict[str, Any]) -> None:
    request = expected(vector["json"])
    assert PaymentRequest.parse(vector["text"]) == PaymentRequest.parse(vector["text"].lower()) == request
    assert request.encode("creqB") == vector["text"]


@pytest.mark.parametrize("uri", EXAMPLE["uris"], ids=["cashu only", "bolt11", "bolt12"])
def test_a_request_in_a_bitcoin_uri_is_read(uri: str) -> None:
    for text in (uri, uri.replace("bitcoin:", "BITCOIN:").replace("creq=", "CREQ=")):
        assert PaymentRequest.parse(text) == expected(EXAMPLE["json"])


def test_a_bitcoin_uri_may_hold_creqa_with_escapes_and_an_address() -> None:
    request = PaymentRequest(amount=5, unit="msat", mints=("https://mint.example",))
    text = request.encode().replace("=", "%3D")
    assert PaymentRequest.parse(f"bitcoin:bc1qexample?amount=0.001&creq={text}&label=x") == request


@pytest.mark.parametrize(
    "uri", ["bitcoin:", "bitcoin:?lno=lno1", "bitcoin:bc1q", "bitcoin:?creq=", "bitcoin:?creq={0}&creq={0}"]
)
def test_a_bitcoin_uri_without_exactly_one_request_is_refused(uri: str) -> None:
    with pytest.raises(PaymentRequestError):
        PaymentRequest.parse(uri.format(EXAMPLE["text"]))


@pytest.mark.parametrize("name", [name for name in NUT18 if "Nostr" not in name])
def test_the_requests_of_nut_18_come_back_from_creqb(name: str) -> None:
    request = PaymentRequest.parse(NUT18[name]["text"])
    back = PaymentRequest.parse(request.encode("creqB"))
    assert replace(back, transports=()) == replace(request, transports=())
    for after, before in zip(back.transports, request.transports, strict=True):
        assert (after.type, after.tags) == (before.type, before.tags)
        if after.type == "nostr":  # an nprofile's fields may stand in any order
            assert NostrProfile.parse(after.target) == NostrProfile.parse(before.target)
        else:
            assert after.target == before.target


def test_the_npub_of_nut_18_is_damaged_and_creqb_cannot_say_it() -> None:
    request = PaymentRequest.parse(NUT18["Nostr Transport Payment Request"]["text"])
    with pytest.raises(PaymentRequestError, match=r"written as creqB: no npub or nprofile"):
        request.encode("creqB")


words = st.text(max_size=10)
tag_rows = st.lists(st.lists(words, min_size=1, max_size=3).map(tuple), max_size=3).map(tuple)
nostr = st.builds(
    Transport,
    st.just("nostr"),
    st.builds(
        lambda key, relays: NostrProfile(key, tuple(relays)).encode(),
        st.binary(min_size=32, max_size=32),
        st.lists(words, max_size=2),
    ),
    tag_rows.map(lambda rows: tuple(row for row in rows if row[0] != "r")),
)
unnamed = st.integers(2, 255).map(str)
requests = st.builds(
    PaymentRequest,
    amount=st.none() | st.integers(0, MAX_AMOUNT),
    unit=words.filter(lambda word: word != "\0"),
    mints=st.lists(words.filter(lambda word: not word.endswith("/")), max_size=3).map(tuple),
    id=st.none() | words,
    description=st.none() | words,
    single_use=st.none() | st.booleans(),
    transports=st.lists(
        nostr
        | st.builds(Transport, st.just("post"), words, tag_rows)
        | st.builds(Transport, unnamed, st.binary(max_size=9).map(bytes.hex), tag_rows),
        max_size=3,
    ).map(tuple),
    nut10=st.none() | st.builds(Nut10Option, st.sampled_from(["P2PK", "HTLC"]) | unnamed, words, tag_rows),
)


@given(requests)
def test_every_request_comes_back_as_it_was_written(request: PaymentRequest) -> None:
    text = request.encode("creqB")
    assert PaymentRequest.parse(text) == request
    assert PaymentRequest.parse(PaymentRequest.parse(text).encode()) == request
    assert text == text.upper()


def test_relays_given_as_tags_are_read_as_part_of_the_target() -> None:
    tags = (("n", "17"), ("r", "wss://a", "wss://b"))
    request = PaymentRequest(transports=(Transport("nostr", PROFILE, tags),))
    (read,) = PaymentRequest.parse(request.encode("creqB")).transports
    assert NostrProfile.parse(read.target) == NostrProfile(KEY, ("wss://a", "wss://b"))
    assert read.tags == (("n", "17"),)


def test_an_npub_comes_back_as_the_nprofile_of_its_key() -> None:
    npub = bech32.encode("npub", KEY, Checksum.BECH32)
    request = PaymentRequest(transports=(Transport("nostr", npub),))
    assert PaymentRequest.parse(request.encode("creqB")).transports == (Transport("nostr", PROFILE),)


def test_unknown_fields_are_passed_over_wherever_they_stand() -> None:
    strange = field(99, b"\xff\xff")
    text = creq(
        strange, field(1, b"x"), transport(1, b"u", strange), strange, condition(0, b"d", strange), strange
    )
    assert PaymentRequest.parse(text) == PaymentRequest(
        id="x", transports=(Transport("post", "u"),), nut10=Nut10Option("P2PK", "d")
    )


def test_only_a_lone_zero_byte_is_the_unit_sat() -> None:
    units = [PaymentRequest.parse(creq(field(3, value))).unit for value in (b"\0", b"sat", b"\0x", b"\0\0")]
    assert units == ["sat", "sat", "\0x", "\0\0"]


def test_kinds_that_nut_26_does_not_name_are_kept_by_their_number() -> None:
    request = PaymentRequest.parse(creq(transport(2, b"\xff\0"), condition(200, b"d")))
    assert request.transports == (Transport("2", "ff00"),)
    assert request.nut10 == Nut10Option("200", "d")
    assert request.encode("creqB").lower() == creq(transport(2, b"\xff\0"), condition(200, b"d"))


@pytest.mark.parametrize(
    "fields",
    [
        [field(2, bytes(7)), field(3, b"sat")],
        [field(2, bytes(9)), field(3, b"sat")],
        [field(2, b"\xff" * 8), field(3, b"\0")],
        [field(2, bytes(8))],
        [field(3, b"\xff")],
        [field(4, b"")],
        [field(4, b"\2")],
        [field(4, b"\0\1")],
        [field(1, b"\xff")],
        [field(1, b"a"), field(1, b"a")],
        [field(3, b"\0"), field(3, b"msat")],
        [field(2, bytes(8)), field(2, bytes(8)), field(3, b"\0")],
        [condition(), condition()],
        [field(5, b"\xc3")],
        [field(5, b"m")] * 65,
        [transport()] * 65,
        [field(99, b"")] * 257,
        [field(6, b"x" * 4097)],
        [field(7, b"")],
        [field(7, field(1, b"\1"))],
        [field(7, field(2, b"x"))],
        [field(7, field(1, b"") + field(2, b"x"))],
        [transport(1, b"x", field(1, b"\1"))],
        [transport(1, b"x", field(2, b"y"))],
        [transport(0, KEY[1:])],
        [transport(0, KEY + b"x")],
        [transport(1, b"\xff")],
        [transport(1, b"x", field(3, b""))],
        [transport(1, b"x", field(3, b"\2a"))],
        [transport(1, b"x", field(3, b"\1\xff"))],
        [transport(1, b"x", field(3, b"\1a" * 65))],
        [transport(1, b"x", *[field(3, b"\1a")] * 65)],
        [condition(0, b"\xff")],
        [field(8, b"\1")],
        [b"\1\0"],
        [b"\1\0\2x"],
    ],
    ids=lambda fields: b"".join(fields)[:16].hex(),
)
def test_fields_of_the_wrong_form_are_refused(fields: list[bytes]) -> None:
    with pytest.raises(PaymentRequestError):
        PaymentRequest.parse(creq(*fields))


@pytest.mark.parametrize(
    "text",
    [
        bech32.encode("creqb", field(1, b"x"), Checksum.BECH32),
        bech32.encode("creqa", field(1, b"x"), Checksum.BECH32M),
        bech32.encode("creqbb", field(1, b"x"), Checksum.BECH32M),
        bech32.encode("creqb1", field(1, b"x"), Checksum.BECH32M),
        creq(field(1, b"x")).capitalize(),
        creq(field(1, b"x"))[:-1],
        creq(field(1, b"x")) + "q",
    ],
    ids=["bech32", "creqa", "creqbb", "creqb11", "mixed case", "cut", "longer"],
)
def test_a_text_with_another_prefix_or_checksum_is_refused(text: str) -> None:
    with pytest.raises(PaymentRequestError):
        PaymentRequest.parse(text)


@pytest.mark.parametrize(
    "request_",
    [
        PaymentRequest(transports=(Transport("carrier pigeon", "loft"),)),
        PaymentRequest(transports=(Transport("0", "00"),)),
        PaymentRequest(transports=(Transport("1", "00"),)),
        PaymentRequest(transports=(Transport("256", "00"),)),
        PaymentRequest(transports=(Transport("02", "00"),)),
        PaymentRequest(transports=(Transport("2", "not hex"),)),
        PaymentRequest(transports=(Transport("nostr", "nobody"),)),
        PaymentRequest(transports=(Transport("post", "u", ((),)),)),
        PaymentRequest(transports=(Transport("post", "u", (("k", "v" * 256),)),)),
        PaymentRequest(nut10=Nut10Option("p2pk", "d")),
        PaymentRequest(nut10=Nut10Option("0", "d")),
        PaymentRequest(unit="\0"),
        PaymentRequest(id="\ud800"),
        PaymentRequest(description="x" * 65_536),
    ],
    ids=lambda request: str(request.encode())[5:20] if request.id is None else "not unicode",
)
def test_what_creqb_cannot_say_is_not_written(request_: PaymentRequest) -> None:
    with pytest.raises(PaymentRequestError, match="written as creqB"):
        request_.encode("creqB")


def test_text_that_is_not_unicode_is_not_written_as_creqa_either() -> None:
    with pytest.raises(PaymentRequestError, match="written as creqA"):
        PaymentRequest(id="\ud800").encode()


def test_a_request_cut_at_any_byte_is_refused_or_holds_fewer_fields() -> None:
    for vector in VECTORS.values():
        data = bech32.decode(vector["text"], Checksum.BECH32M)[1]
        whole = tlv.read(data, length_bytes=2, max_fields=99)
        ends = {len(tlv.write(whole[:n], length_bytes=2)) for n in range(len(whole))}
        for cut in set(range(len(data))) - ends:
            with pytest.raises(ValueError, match="truncated"):
                creqb.to_fields(data[:cut])


def test_a_request_in_creqb_that_is_too_long_is_not_looked_at() -> None:
    with pytest.raises(PaymentRequestError, match="longer than"):
        PaymentRequest.parse(creq(*[field(99, bytes(60_000))]))
    assert len(creq(field(99, bytes(40_000)))) < MAX_BYTES
    assert PaymentRequest.parse(creq(field(99, bytes(40_000)))) == PaymentRequest()
