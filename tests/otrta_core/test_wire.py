import base64
import json
from decimal import Decimal
from typing import Any

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otrta_core import wire
from tests.otrta_core.strategies import json_values

BOMBS = {
    "an array of 2**64 - 1 items": b"\x9b" + b"\xff" * 8,
    "a map of 2**64 - 1 items": b"\xbb" + b"\xff" * 8,
    "a map of more pairs than bytes": b"\xa3\x61a\x01\x61b\x01",
    "bytes of 2**63": b"\x5b\x80" + bytes(7),
    "text of 4 GiB": b"\x7a" + b"\xff" * 4,
    "arrays nested 100,000 deep": b"\x81" * 100_000 + b"\x00",
    "maps nested 100,000 deep": b"\xa1\x61a" * 100_000 + b"\x00",
    "open arrays nested 100,000 deep": b"\x9f" * 100_000,
    "open maps nested in keys": b"\xbf" * 100_000,
    "an open array that never ends": b"\x9f" + b"\x00" * 1000,
    "an open map of odd length": b"\xbf\x61a\xff",
    "open text of open texts": b"\x7f\x7f\x61a\xff\xff",
    "open bytes of texts": b"\x5f\x61a\xff",
    "an open number": b"\x1f",
    "a lone break": b"\xff",
    "a break for an item": b"\x81\xff",
    "a reserved length": b"\x1c",
    "a bignum": b"\xc2\x41\x01",
    "a date": b"\xc0\x6a2020-01-01",
    "a date as a number": b"\xc1\x00",
    "a value that holds itself": b"\xd8\x1c\x81\xd8\x1d\x00",
    "shared references": b"\x82\xd8\x1c\x80\xd8\x1d\x00",
    "a fraction": b"\xc4\x82\x20\x01",
    "an array for a key": b"\xa1\x80\x01",
    "a map for a key": b"\xa1\xa0\x01",
    "a float for a key": b"\xa1\xf9\x3c\x00\x01",
    "a float for a key in an open map": b"\xbf\xf9\x3c\x00\x01\xff",
    "text that is not UTF-8": b"\x62\xff\xff",
    "half a surrogate pair": b"\x63\xed\xa0\x80",
    "trailing bytes": b"\x00\x00",
    "nothing": b"",
    "a cut head": b"\x19\x01",
    "a cut float": b"\xfb\x00",
    "a cut simple value": b"\xf8",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_cbor_that_lies_or_builds_more_than_it_shows_is_refused(bomb: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        wire.from_cbor(bomb)


@given(st.binary(max_size=200))
@example(b"\xf8\x10")
@example(b"\xa1\x00\xf8\xff")
def test_arbitrary_bytes_are_cbor_or_a_value_error(data: bytes) -> None:
    try:
        wire.from_cbor(data)
    except ValueError:
        return
    cbor2.loads(data)


_cbor_leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.binary(max_size=20)
    | st.text(max_size=20)
    | st.floats(allow_nan=False)
)


@given(json_values(["t", "a"], _cbor_leaves))
def test_what_is_written_as_cbor_reads_back(value: Any) -> None:
    assert wire.from_cbor(wire.to_cbor(value)) == value


@given(st.binary(max_size=64), st.data())
def test_truncated_cbor_is_refused_at_every_cut(payload: bytes, data: st.DataObject) -> None:
    whole = wire.to_cbor({"t": [{"i": payload, "n": 1.5}], "m": "text"})
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ValueError, match=r".+"):
        wire.from_cbor(whole[:cut])


def test_open_arrays_maps_and_strings_are_read() -> None:
    assert wire.from_cbor(b"\xbf\x61a\x9f\x01\x7f\x61b\x61c\xff\xff\xff") == {"a": [1, "bc"]}


def test_undefined_reads_as_absent() -> None:
    assert wire.from_cbor(wire.to_cbor({"g": cbor2.undefined, "l": [cbor2.undefined]})) == {"l": [None]}
    assert wire.from_cbor(b"\xf7") is None


def test_nesting_is_read_up_to_the_depth_and_no_further() -> None:
    assert wire.from_cbor(b"\x81" * wire.MAX_DEPTH + b"\x00") is not None
    with pytest.raises(ValueError, match="deep"):
        wire.from_cbor(b"\x81" * (wire.MAX_DEPTH + 1) + b"\x00")


@given(st.binary(max_size=100))
def test_base64_is_read_in_both_alphabets_padded_or_not(data: bytes) -> None:
    for text in (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()):
        assert wire.from_base64(text) == wire.from_base64(text.rstrip("=")) == data
    assert wire.from_base64(wire.to_base64(data, padded=True)) == data
    assert wire.to_base64(data, padded=False) == base64.urlsafe_b64encode(data).decode().rstrip("=")


@pytest.mark.parametrize("text", ["A", "AAAAA", "A===", "=AAA", "AA=A", "AA AA", "AA\nAA", "AÄ==", "AA==\n"])
def test_what_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        wire.from_base64(text)


@given(st.text(max_size=40))
def test_arbitrary_text_is_base64_or_a_value_error(text: str) -> None:
    try:
        assert isinstance(wire.from_base64(text), bytes)
    except ValueError:
        assert not text.isalnum() or len(text) % 4 == 1 or not text.isascii()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "NaN",
        "[Infinity]",
        '{"a": -Infinity}',
        "1e999",
        "-1e999",
        "9" * 5000,
        "[" * 100_000,
        "'a'",
        "\ufeff{}",
    ],
    ids=lambda text: text[:12],
)
def test_json_that_is_not_a_plain_bounded_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        wire.from_json(text)


@pytest.mark.parametrize("data", [b"\xff\xfe\xff", b'"\xff"', b"\x80"])
def test_json_bytes_that_are_not_text_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        wire.from_json(data)


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_json_or_a_value_error(data: bytes) -> None:
    try:
        value = wire.from_json(data)
    except ValueError:
        return
    assert wire.from_json(wire.compact_json(value)) == value


def test_json_numbers_can_be_read_without_floats() -> None:
    assert wire.from_json('{"a": 0.1}', parse_float=Decimal) == {"a": Decimal("0.1")}
    assert wire.from_json(b"[1.5, 1e3]") == [1.5, 1000.0]


@given(json_values(["a"]))
def test_compact_json_has_no_spaces_and_reads_back(value: Any) -> None:
    text = wire.compact_json(value)
    assert wire.from_json(text) == value
    assert len(text) <= len(json.dumps(value))


@pytest.mark.parametrize(
    ("text", "is_text"), [("", True), ("ä€😀", True), ("\ud800", False), ("a\udfffb", False)]
)
def test_half_a_surrogate_pair_is_not_utf8(text: str, is_text: bool) -> None:
    assert wire.is_utf8(text) is is_text
