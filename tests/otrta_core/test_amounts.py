from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import AmountError, Unit, format_msat, parse_amount_msat
from otrta_core.amounts import MAX_AMOUNT


@pytest.mark.parametrize(
    ("text", "msat"),
    [
        ("10", 10_000),
        ("10sat", 10_000),
        ("1 sat", 1_000),
        ("10 sats", 10_000),
        ("2500msat", 2_500),
        ("2500 MSATS", 2_500),
        ("  7  ", 7_000),
        ("007", 7_000),
        (f"{MAX_AMOUNT}msat", MAX_AMOUNT),
    ],
)
def test_an_amount_is_sat_unless_it_names_msat(text: str, msat: int) -> None:
    assert parse_amount_msat(text) == msat


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0msat",
        "-1",
        "+1",
        "1.5",
        "1e3",
        "1_000",
        "1,000",
        "sat",
        "10 btc",
        "10  sat",
        "\u0661\u0660",
        "10sat x",
        f"{MAX_AMOUNT + 1}msat",
        f"{MAX_AMOUNT}sat",
        "9" * 40,
    ],
)
def test_what_is_not_a_whole_amount_above_zero_is_refused(text: str) -> None:
    with pytest.raises(AmountError):
        parse_amount_msat(text)


@given(st.text())
def test_arbitrary_text_is_an_amount_or_an_amount_error(text: str) -> None:
    with suppress(AmountError):
        assert 0 < parse_amount_msat(text) <= MAX_AMOUNT


@pytest.mark.parametrize(
    ("msat", "text"),
    [
        (0, "0 msat"),
        (999, "999 msat"),
        (-110, "-110 msat"),
        (1_000, "1 sat"),
        (12_345, "12.345 sat"),
        (1_001, "1.001 sat"),
        (1_234_567_000, "1,234,567 sat"),
        (-1_500, "-1.500 sat"),
    ],
)
def test_msat_are_written_exactly(msat: int, text: str) -> None:
    assert format_msat(msat) == text


@given(st.integers(1, MAX_AMOUNT))
def test_what_is_written_reads_back_exactly_as_msat(msat: int) -> None:
    number, unit = format_msat(msat).replace(",", "").split(" ")
    whole, _, rest = number.partition(".")
    assert (int(whole + rest.ljust(3, "0")) if unit == "sat" else int(whole)) == msat


@given(st.integers(0, MAX_AMOUNT), st.sampled_from(list(Unit)))
def test_the_nearest_amounts_of_a_unit_enclose_the_msat(msat: int, unit: Unit) -> None:
    low, high = unit.to_msat(unit.at_most(msat)), unit.to_msat(unit.at_least(msat))
    assert low <= msat <= high
    assert high - low in (0, unit.msat)
    assert (high == low) == (msat % unit.msat == 0)


@pytest.mark.parametrize("word", ["usd", "", "SAT", "sats", "msat "])
def test_a_unit_without_a_price_in_msat_is_refused(word: str) -> None:
    with pytest.raises(AmountError, match="msat or sat"):
        Unit.parse(word)


def test_the_known_units_are_parsed_by_their_words() -> None:
    assert [Unit.parse(word) for word in ("msat", "sat")] == [Unit.MSAT, Unit.SAT]
