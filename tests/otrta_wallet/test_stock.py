"""Denominations that are made where they are short."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from otrta_core import Proof, input_fee, split_for_change
from otrta_wallet.stock import a_portion, split_for_stock, to_break

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


KEYSET, FEELESS = "00", {"00": 0}
FEES = st.integers(0, 2000)


def proofs(amounts):
    return [Proof(amount, KEYSET, "", "") for amount in amounts]


def restocked(have, wanted, fee_ppk):
    """Swap until nothing is broken any more, as a mint would; returns what is then at hand."""
    stock = Counter(have)
    for _ in range(300):
        chosen = to_break(proofs(stock.elements()), fee_ppk, wanted)
        if chosen is None:
            return stock
        stock.subtract(proof.amount for proof in chosen)
        net = sum(proof.amount for proof in chosen) - input_fee(chosen, fee_ppk)
        stock.update(split_for_stock(net, stock, a_portion(wanted, stock), SIGNED))
    raise AssertionError("it never ends")


@given(
    st.lists(st.sampled_from(SIGNED), max_size=20),
    st.dictionaries(st.sampled_from(SIGNED[:14]), st.integers(1, 32)),
    FEES,
)
def test_restocking_ends_and_takes_nothing_that_is_wanted(have, wanted, ppk):
    before, after = Counter(have), restocked(have, wanted, {KEYSET: ppk})
    assert all(after[piece] >= min(before[piece], number) for piece, number in wanted.items())
    assert sum(after.elements()) <= sum(have)
    assert ppk or sum(after.elements()) == sum(have)


@given(st.dictionaries(st.sampled_from(SIGNED[:14]), st.integers(1, 32), min_size=1))
def test_one_large_proof_makes_all_that_is_wanted(wanted):
    after = restocked([1 << 23], wanted, FEELESS)
    assert all(2 * after[piece] >= number for piece, number in wanted.items())


def test_the_smallest_that_suffices_is_broken():
    assert [p.amount for p in to_break(proofs([4096, 64, 1024]), FEELESS, {16: 4})] == [64]
    assert [p.amount for p in to_break(proofs([32, 16, 8]), FEELESS, {1: 60})] == [32, 16, 8]


def test_nothing_is_broken_while_half_is_there():
    assert to_break(proofs([1, 1, 4096]), FEELESS, {1: 4}) is None
    assert to_break(proofs([1, 4096]), FEELESS, {1: 4}) is not None


def test_what_cannot_make_what_is_short_stays_whole():
    assert to_break(proofs([2, 2]), FEELESS, {1024: 3}) is None
    assert to_break(proofs([2]), {KEYSET: 1000}, {1: 3}) is not None
    assert to_break(proofs([2]), {KEYSET: 2000}, {1: 3}) is None
