import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import bech32
from otrta_core.bech32 import Checksum

prefixes = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12).map(str.lower)
checksums = st.sampled_from(Checksum)
CREQB = Checksum.BECH32M

# BIP-350's and BIP-173's own vectors of whole bytes
BIP350_VALID = [
    ("A1LQFN3A", "a"),
    ("a1lqfn3a", "a"),
    (
        "an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6",
        "an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber1",
    ),
    ("abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx", "abcdef"),
    ("split1checkupstagehandshakeupstreamerranterredcaperredlc445v", "split"),
    ("?1v759aa", "?"),
]
BIP173_VALID = [("A12UEL5L", "a"), ("a12uel5l", "a"), ("?1ezyfcl", "?")]
BIP350_INVALID = [
    " 1xj0phk",
    "\x7f1g6xzxy",
    "\x801vctc34",
    "qyrz8wqd2c9m",
    "1qyrz8wqd2c9m",
    "y1b0jsk6g",
    "lt1igcx5c0",
    "in1muywd",
    "mm1crxm3i",
    "au1s5cgom",
    "M1VUXWEZ",
    "16plkw9",
    "1p2gdwpf",
]


@pytest.mark.parametrize(("text", "prefix"), BIP350_VALID)
def test_bip_350s_valid_texts_hold_their_prefix(text: str, prefix: str) -> None:
    found, data = bech32.decode(text, Checksum.BECH32M)
    assert found == prefix
    assert bech32.encode(found, data, Checksum.BECH32M) == text.lower()
    with pytest.raises(ValueError, match="checksum"):
        bech32.decode(text, Checksum.BECH32)


@pytest.mark.parametrize(("text", "prefix"), BIP173_VALID)
def test_bip_173s_valid_texts_hold_the_older_checksum(text: str, prefix: str) -> None:
    assert bech32.decode(text, Checksum.BECH32) == (prefix, b"")
    with pytest.raises(ValueError, match="checksum"):
        bech32.decode(text, Checksum.BECH32M)


@pytest.mark.parametrize("text", BIP350_INVALID, ids=ascii)
def test_bip_350s_invalid_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        bech32.decode(text, Checksum.BECH32M)


@given(prefixes, st.binary(max_size=300), checksums)
def test_what_is_written_is_read_in_either_case(prefix: str, data: bytes, checksum: Checksum) -> None:
    text = bech32.encode(prefix, data, checksum)
    assert bech32.decode(text, checksum) == bech32.decode(text.upper(), checksum) == (prefix, data)


@given(st.binary(min_size=1, max_size=60), st.data())
def test_one_altered_character_is_noticed(data: bytes, draw: st.DataObject) -> None:
    text = bech32.encode("creqb", data, CREQB)
    at = draw.draw(st.integers(0, len(text) - 1))
    other = draw.draw(
        st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l1 bio").filter(lambda c: c != text[at])
    )
    with pytest.raises(ValueError, match=r".+"):
        bech32.decode(text[:at] + other + text[at + 1 :], CREQB)


def test_mixed_case_is_refused() -> None:
    text = bech32.encode("creqb", b"demo", CREQB)
    for mixed in (text.capitalize(), text[:-1] + text[-1].upper()):
        assert mixed.lower() == text
        with pytest.raises(ValueError, match="mixed case"):
            bech32.decode(mixed, CREQB)


def test_a_letter_that_only_lowers_to_ascii_is_refused() -> None:
    text = next(t for n in range(99) if "K" in (t := bech32.encode("creqb", bytes([n]), CREQB).upper()))
    with pytest.raises(ValueError, match="not ASCII"):
        bech32.decode(text.replace("K", "\N{KELVIN SIGN}"), CREQB)


@pytest.mark.parametrize("values", ["q", "ql", "qqq", "qp", "qqqql"])
def test_bits_left_over_are_refused(values: str) -> None:
    tail = ["qpzry9x8gf2tvdw0s3jn54khce6mua7l".index(c) for c in values]
    state = bech32._polymod([*bech32._expanded("a"), *tail, *[0] * 6]) ^ CREQB
    checksum = "".join("qpzry9x8gf2tvdw0s3jn54khce6mua7l"[state >> 5 * (5 - at) & 31] for at in range(6))
    with pytest.raises(ValueError, match="left over"):
        bech32.decode("a1" + values + checksum, CREQB)


@given(st.text(max_size=60), checksums)
def test_arbitrary_text_is_bech32_or_a_value_error(text: str, checksum: Checksum) -> None:
    try:
        prefix, data = bech32.decode(text, checksum)
    except ValueError:
        return
    assert bech32.encode(prefix, data, checksum) == text.lower()
