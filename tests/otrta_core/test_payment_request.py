from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import Nut10Option, PaymentRequest, PaymentRequestError, Transport, bech32, tlv, wire
from otrta_core.amounts import MAX_AMOUNT
from otrta_core.bech32 import Checksum
from tests.otrta_core.strategies import json_values
from tests.otrta_core.test_wire import BOMBS
from tests.otrta_core.vectors import load

VECTORS: dict[str, dict[str, Any]] = {vector["name"]: vector for vector in load("18")["requests"]}
BASIC = VECTORS["Basic Payment Request"]
AS_THEIR_JSON_SAYS = {name: vector for name, vector in VECTORS.items() if vector is not BASIC}


def expected(fields: dict[str, Any]) -> PaymentRequest:
    def tags(rows: list[list[str]] | None) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(row) for row in rows or [])

    nut10 = fields.get("nut10")
    return PaymentRequest(
        amount=fields.get("a"),
        unit=fields.get("u"),
        mints=tuple(fields.get("m", [])),
        id=fields.get("i"),
        description=fields.get("d"),
        single_use=fields.get("s"),
        transports=tuple(Transport(t["t"], t["a"], tags(t.get("g"))) for t in fields.get("t", [])),
        nut10=nut10 and Nut10Option(nut10["k"], nut10["d"], tags(nut10.get("t"))),
    )


def creq(top: Any) -> str:
    return "creqA" + wire.to_base64(cbor2.dumps(top), padded=True)


def test_there_are_as_many_published_requests_as_nut_18_has() -> None:
    assert len(VECTORS) == len(load("18")["requests"]) == 6


@pytest.mark.parametrize("vector", AS_THEIR_JSON_SAYS.values(), ids=AS_THEIR_JSON_SAYS.keys())
def test_the_published_requests_are_read(vector: dict[str, Any]) -> None:
    assert PaymentRequest.parse(vector["text"]) == expected(vector["json"])


def test_the_basic_request_is_read_as_it_is_encoded_and_not_as_its_json_says() -> None:
    request = PaymentRequest.parse(BASIC["text"])
    published = expected(BASIC["json"])
    assert request.mints == ("https://nofees.testnut.cashu.space",)
    assert request.mints != published.mints
    assert request.transports[0].target.startswith("nprofile1qy28wumn8ghj7un9d3shjtnyv9kh2uewd9hsz")
    assert request.transports[0].target != published.transports[0].target
    assert (request.id, request.amount, request.unit) == (published.id, published.amount, published.unit)
    assert (request.transports[0].type, request.transports[0].tags) == ("nostr", (("n", "17"),))


@pytest.mark.parametrize("name", ["Complete Payment Request", "HTTP Transport Payment Request"])
def test_two_published_requests_need_the_standard_alphabet_and_undefined(name: str) -> None:
    text = VECTORS[name]["text"]
    assert "/" in text[5:]
    assert cbor2.loads(wire.from_base64(text[5:]))["t"][0]["g"] is cbor2.undefined
    assert PaymentRequest.parse(text).transports[0].tags == ()


@pytest.mark.parametrize(
    "text",
    [v["text"] for v in VECTORS.values() if "/" not in v["text"][5:]],
    ids=[name for name, v in VECTORS.items() if "/" not in v["text"][5:]],
)
def test_the_other_published_requests_are_written_byte_for_byte(text: str) -> None:
    assert PaymentRequest.parse(text).encode() == text


def test_the_gateways_own_request_carries_amount_unit_and_mints_only() -> None:
    text = PaymentRequest(amount=5170, unit="msat", mints=("http://127.0.0.1:3338",)).encode()
    fields = cbor2.loads(wire.from_base64(text.removeprefix("creqA")))
    assert fields == {"a": 5170, "u": "msat", "m": ["http://127.0.0.1:3338"]}


words = st.text(max_size=10)
tag_rows = st.lists(st.lists(words, max_size=3).map(tuple), max_size=3).map(tuple)
requests = st.builds(
    PaymentRequest,
    amount=st.none() | st.integers(0, MAX_AMOUNT),
    unit=words,
    mints=st.lists(words.filter(lambda word: not word.endswith("/")), max_size=3).map(tuple),
    id=st.none() | words,
    description=st.none() | words,
    single_use=st.none() | st.booleans(),
    transports=st.lists(st.builds(Transport, words, words, tag_rows), max_size=2).map(tuple),
    nut10=st.none() | st.builds(Nut10Option, words, words, tag_rows),
)


@given(requests)
def test_every_request_comes_back_as_it_was_written(request: PaymentRequest) -> None:
    assert PaymentRequest.parse(request.encode()) == request


@pytest.mark.parametrize("wrap", ["cashu:{}", "CASHU:{}", " {} "])
def test_padding_prefix_and_white_space_do_not_matter(wrap: str) -> None:
    text = VECTORS["Complete Payment Request"]["text"]
    assert PaymentRequest.parse(wrap.format(text.rstrip("="))) == PaymentRequest.parse(text)


def test_the_prefix_is_read_in_any_case() -> None:
    text = BASIC["text"]
    assert PaymentRequest.parse("CREQA" + text[5:]) == PaymentRequest.parse("creqa" + text[5:])


def test_trailing_slashes_of_mints_are_taken_off_as_in_tokens() -> None:
    assert PaymentRequest.parse(creq({"m": ["https://mint.example/"]})).mints == ("https://mint.example",)


def test_a_request_may_be_empty() -> None:
    assert PaymentRequest.parse(creq({})) == PaymentRequest()


@pytest.mark.parametrize(
    "top",
    [
        {"a": 1},
        {"a": -1, "u": "sat"},
        {"a": True, "u": "sat"},
        {"a": 1.0, "u": "sat"},
        {"a": "1", "u": "sat"},
        {"a": 2**63, "u": "sat"},
        {"u": 1},
        {"u": b"sat"},
        {"m": "https://mint.example"},
        {"m": [1]},
        {"m": ["https://mint.example"] * 65},
        {"d": "x" * 4097},
        {"s": 1},
        {"i": []},
        {"t": {}},
        {"t": [{}]},
        {"t": [{"t": "post"}]},
        {"t": [{"t": "post", "a": "x", "g": [1]}]},
        {"t": [{"t": "post", "a": "x", "g": [[1]]}]},
        {"nut10": []},
        {"nut10": {"k": "P2PK"}},
        {"nut10": {"k": "P2PK", "d": "x", "t": [["a"] * 65]}},
        [],
        None,
        "creqA",
        5,
    ],
    ids=lambda top: str(top)[:40],
)
def test_a_request_with_a_field_of_the_wrong_type_or_size_is_refused(top: Any) -> None:
    with pytest.raises(PaymentRequestError):
        PaymentRequest.parse(creq(top))


@pytest.mark.parametrize(
    "text",
    ["", "creq", "creqA", "creqC", "creqB", "creqB1", "cashuAe30", "creqAé", "creqA====", "CREQA", "cashu:"],
)
def test_what_is_not_a_request_is_refused(text: str) -> None:
    with pytest.raises(PaymentRequestError):
        PaymentRequest.parse(text)


@pytest.mark.parametrize("form", ["creqa", "creqb", "CREQB", "creqC", ""])
def test_only_creqa_and_creqb_are_written(form: str) -> None:
    with pytest.raises(PaymentRequestError, match="creqA or creqB"):
        PaymentRequest().encode(form)


def test_an_amount_without_a_unit_cannot_be_made() -> None:
    with pytest.raises(PaymentRequestError, match="needs a unit"):
        PaymentRequest(amount=1)


@pytest.mark.parametrize("amount", [2.0, True, "2", -1, 2**63])
def test_an_amount_that_no_reader_would_take_cannot_be_made(amount: Any) -> None:
    with pytest.raises(PaymentRequestError, match="whole number"):
        PaymentRequest(amount=amount, unit="sat")


def test_a_lone_text_is_not_taken_for_a_list_of_mints() -> None:
    mints: Any = "https://mint.example.com"
    with pytest.raises(PaymentRequestError, match="several URLs"):
        PaymentRequest(mints=mints)


def test_a_request_that_is_too_long_is_not_looked_at() -> None:
    with pytest.raises(PaymentRequestError, match="longer than"):
        PaymentRequest.parse("creqA" + "A" * 65_536)


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_cbor_bombs_are_malformed_requests(bomb: bytes) -> None:
    with pytest.raises(PaymentRequestError):
        PaymentRequest.parse("creqA" + wire.to_base64(bomb, padded=False))


def test_a_request_cut_at_any_character_is_malformed() -> None:
    text = VECTORS["Complete Payment Request"]["text"].rstrip("=")
    for cut in range(len(text)):
        with pytest.raises(PaymentRequestError):
            PaymentRequest.parse(text[:cut])


def _nested(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    kinds = st.integers(0, 9) | st.integers(0, 255)
    return st.lists(st.tuples(kinds, inner), max_size=6).map(lambda fields: tlv.write(fields, length_bytes=2))


_values = st.sampled_from([b"", b"\0", b"\1", b"\2", bytes(8), b"\1r\1x", b"sat"]) | st.binary(max_size=34)
tlv_trees = _nested(_values | _nested(_values))


class TestFuzz:
    """Whatever a stranger sends is a request or a PaymentRequestError."""

    def accept(self, text: str) -> None:
        try:
            request = PaymentRequest.parse(text)
        except PaymentRequestError:
            return
        assert PaymentRequest.parse(request.encode()) == request
        try:
            text = request.encode("creqB")
        except PaymentRequestError:
            return
        assert PaymentRequest.parse(PaymentRequest.parse(text).encode("creqB")) == PaymentRequest.parse(text)

    @given(
        st.sampled_from(["", "creqA", "creqB1", "cashu:creqA", "bitcoin:?creq="]), st.text(st.characters())
    )
    def test_arbitrary_text(self, prefix: str, text: str) -> None:
        self.accept(prefix + text)

    @given(st.binary(max_size=300))
    def test_arbitrary_bytes(self, data: bytes) -> None:
        self.accept("creqA" + wire.to_base64(data, padded=False))

    @given(st.binary(max_size=300))
    def test_arbitrary_bytes_as_creqb(self, data: bytes) -> None:
        self.accept(bech32.encode("creqb", data, Checksum.BECH32M))

    @given(tlv_trees)
    def test_arbitrary_fields_of_creqb(self, data: bytes) -> None:
        self.accept(bech32.encode("creqb", data, Checksum.BECH32M))

    @given(
        json_values(
            ["i", "a", "u", "m", "t", "s", "d", "g", "k", "nut10"], st.text(max_size=9) | st.integers(0, 9)
        )
    )
    def test_arbitrary_structures(self, top: Any) -> None:
        self.accept(creq(top))
