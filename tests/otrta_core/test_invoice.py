"""Lightning invoices: amounts made by another library and by BOLT 11 itself, and what is no invoice."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import InvoiceError, invoice_amount_msat, invoice_description_hash, normalize_invoice
from otrta_core.invoice import _ALPHABET, MAX_INVOICE_CHARACTERS, _checksum

VECTORS = json.loads((Path(__file__).parent / "data" / "bolt11.json").read_text())
GOOD = VECTORS[3]["request"]
DATA = GOOD.rpartition("1")[2][:-6]


def written(prefix: str, data: str = DATA) -> str:
    """An invoice with a prefix of one's own and the checksum that belongs to it."""
    remainder = _checksum(prefix, f"{data}qqqqqq") ^ 1
    return f"{prefix}1{data}" + "".join(_ALPHABET[remainder >> 5 * (5 - at) & 31] for at in range(6))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['request'][:8]}-{v['amount_msat']}")
def test_the_amount_is_what_its_maker_wrote(vector: dict[str, object]) -> None:
    request = str(vector["request"])
    assert invoice_amount_msat(request) == vector["amount_msat"]
    assert normalize_invoice(request) == request


@pytest.mark.parametrize("changed", [str.upper, "lightning:{}".format, "LIGHTNING:{}".format, " {}\n".format])
def test_an_invoice_is_one_in_any_dress(changed: Callable[[str], str]) -> None:
    assert normalize_invoice(changed(GOOD)) == GOOD


@pytest.mark.parametrize(
    ("amount", "msat"),
    [
        ("1", 10**11),
        ("20m", 2 * 10**9),
        ("2500u", 250_000_000),
        ("1n", 100),
        ("10p", 1),
        ("25340n", 2_534_000),
    ],
)
def test_the_multipliers(amount: str, msat: int) -> None:
    assert invoice_amount_msat(written(f"lnbc{amount}")) == msat


@pytest.mark.parametrize("amount", ["01u", "0", "1p", "15p", "1k", "1mm", "m", "-1u", "9" * 19, "9" * 30])
def test_an_amount_that_is_written_otherwise_is_refused(amount: str) -> None:
    with pytest.raises(InvoiceError, match="amount"):
        invoice_amount_msat(written(f"lnbc{amount}"))


@pytest.mark.parametrize("prefix", ["lnxx10u", "lnltc10u", "lnbc10u ", "lnbc\uff110u"])
def test_another_network_is_refused(prefix: str) -> None:
    with pytest.raises(InvoiceError):
        invoice_amount_msat(written(prefix))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lnbc",
        "lnbc1",
        "lnbc1" + "q" * 116,
        GOOD[:-1],
        GOOD[:-1] + ("q" if GOOD[-1] != "q" else "p"),
        "L" + GOOD[1:],
        GOOD.replace("lnbc13370p", "lnbc23370p"),
        GOOD + "q" * MAX_INVOICE_CHARACTERS,
        "bc1" + GOOD[5:],
        "cashuBo2F0gqJhaUgA",
    ],
)
def test_what_was_cut_or_changed_is_no_invoice(text: str) -> None:
    with pytest.raises(InvoiceError):
        invoice_amount_msat(text)


# From BOLT 11, "on mainnet, with fallback address … with extra routing info": the field h among p, f and r.
CAKE = (
    "lnbc20m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqhp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy0"
    "43l2ahrqsfpp3qjmp7lwpagxun9pygexvgpjdc4jdj85fr9yq20q82gphp2nflc7jtzrcazrra7wwgzxqc8u7754cdlpfrmccae92qgzqvzq2ps8pqqq"
    "qqqpqqqqq9qqqvpeuqafqxu92d8lr6fvg0r5gv0heeeqgcrqlnm6jhphu9y00rrhy4grqszsvpcgpy9qqqqqqgqqqqq7qqzqj9n4evl6mr5aj9f58zp6"
    "fyjzup6ywn3x6sk8akg5v4tgn2q8g4fhx05wf6juaxu9760yp46454gpg5mtzgerlzezqcqvjnhjh8z3g2qqdhhwkj"
)
DESCRIPTION = (
    b"One piece of chocolate cake, one icecream cone, one pickle, one slice of swiss cheese, "
    b"one slice of salami, one lollypop, one piece of cherry pie, one sausage, one cupcake, "
    b"and one slice of watermelon"
)


def test_the_description_that_an_invoice_commits_to() -> None:
    assert invoice_amount_msat(CAKE) == 20 * 10**8
    assert invoice_description_hash(CAKE) == sha256(DESCRIPTION).digest()
    assert invoice_description_hash(CAKE.upper()) == sha256(DESCRIPTION).digest()


def test_an_invoice_without_one_commits_to_none() -> None:
    assert [invoice_description_hash(str(v["request"])) for v in VECTORS] == [None] * len(VECTORS)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ("", None),
        ("hp5" + "q" * 52, bytes(32)),
        ("hp4" + "q" * 53 + "hp5" + "q" * 52, bytes(32)),
        ("hp4" + "q" * 53, None),
    ],
)
def test_a_hash_of_another_length_is_passed_over(fields: str, found: bytes | None) -> None:
    assert invoice_description_hash(written("lnbc1m", "q" * 7 + fields + "q" * 104)) == found


@pytest.mark.parametrize("fields", ["h", "hp", "hp5", "hp5" + "q" * 51, "dll"])
def test_fields_that_run_over_the_end_are_refused(fields: str) -> None:
    with pytest.raises(InvoiceError, match="over its end"):
        invoice_description_hash(written("lnbc1m", "q" * 7 + fields + "q" * 104))


@given(st.integers(0, len(GOOD) - 1), st.sampled_from(_ALPHABET + "1b"))
def test_one_wrong_character_is_always_noticed(at: int, character: str) -> None:
    if GOOD[at] != character:
        with pytest.raises(InvoiceError):
            invoice_amount_msat(GOOD[:at] + character + GOOD[at + 1 :])


@given(st.text() | st.text("lnbctsr1munp" + _ALPHABET).map("lnbc{}".format))
def test_nothing_else_is_ever_raised(text: str) -> None:
    for invoice in (text, written("ln" + text[:20])):
        try:
            invoice_amount_msat(invoice)
            invoice_description_hash(invoice)
        except InvoiceError:
            continue
