"""Denominations that are made where they are short."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from otrta_core import split_for_change
from otrta_wallet.stock import split_for_stock

SIGNED = [1 << bit for bit in range(24)]
STOCKS = st.dictionaries(st.sampled_from(SIGNED), st.integers(0, 9))


@given(st.integers(0, 1 << 20), STOCKS, STOCKS)
def test_the_parts_are_the_amount_in_what_the_keyset_signs(amount, stock, wanted):
    parts = split_for_stock(amount, stock, wanted, SIGNED)
    assert sum(parts) == amount
    assert parts == sorted(parts)
    assert set(parts) <= set(SIGNED)
    assert not wanted or max(parts, default=1) <= max(*wanted, amount // 10, 1)


@given(st.lists(st.integers(1, 1 << 14), min_size=1, max_size=8))
def test_out_of_nothing_everybody_gets_what_its_token_would_have_been_split_into(amounts):
    wanted = sum((Counter(split_for_change(amount)) for amount in amounts), Counter())
    assert Counter(split_for_stock(sum(amounts), {}, wanted, SIGNED)) == wanted


@given(st.integers(1, 1 << 20), STOCKS)
def test_what_is_at_hand_is_not_made_again(amount, stock):
    parts = split_for_stock(amount, stock, stock, SIGNED)
    assert len(parts) <= 21 + amount.bit_length()


@given(st.integers(0, 1 << 16), STOCKS)
def test_the_smallest_that_are_short_come_first(amount, wanted):
    parts = Counter(split_for_stock(amount, {}, wanted, SIGNED))
    left = amount
    for piece in sorted(wanted):
        made = min(wanted[piece], left // piece)
        assert parts[piece] >= made
        left -= piece * made
