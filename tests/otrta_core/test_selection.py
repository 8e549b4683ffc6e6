import math
from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from otrta_core import (
    AmountError,
    Proof,
    blank_outputs,
    input_fee,
    is_uneconomic,
    pick_exact,
    ride_along,
    select_proofs,
    split_amount,
    split_for_change,
)
from tests.otrta_core.vectors import KEYSET, plain_proof, plain_proofs

OTHER = "009a1f293253e41e"
powers = st.integers(0, 7).map(lambda bit: 1 << bit)
ppks = st.sampled_from([0, 1, 100, 999, 1000, 2500, 20_000])


def subset_sums(parts: Sequence[int]) -> set[int]:
    sums = {0}
    for part in parts:
        sums |= {part + smaller for smaller in sums}
    return sums


def total(proofs: Sequence[Proof]) -> int:
    return sum(proof.amount for proof in proofs)


class TestSplit:
    @given(st.integers(0, 2**70))
    def test_the_parts_are_the_amounts_own_powers_of_two(self, amount: int) -> None:
        parts = split_amount(amount)
        assert sum(parts) == amount
        assert len(parts) == amount.bit_count()
        assert parts == sorted(set(parts))

    @given(st.integers(0, 300), st.integers(0, 6))
    def test_with_fewer_denominations_it_is_still_the_shortest(self, amount: int, top: int) -> None:
        denominations = [1 << bit for bit in range(top + 1)]
        parts = split_amount(amount, denominations)
        assert sum(parts) == amount
        assert len(parts) == amount // denominations[-1] + (amount % denominations[-1]).bit_count()
        assert parts == sorted(parts)

    @pytest.mark.parametrize(("amount", "denominations"), [(1, [2, 4]), (7, [2, 4]), (5, [])])
    def test_what_the_keyset_cannot_make_is_an_error(self, amount: int, denominations: list[int]) -> None:
        with pytest.raises(AmountError, match="cannot make"):
            split_amount(amount, denominations)

    @pytest.mark.parametrize("split", [split_amount, split_for_change])
    def test_a_negative_amount_is_an_error_and_zero_is_nothing(self, split: type) -> None:
        assert split(0) == []
        with pytest.raises(AmountError, match="negative"):
            split(-1)


class TestSplitForChange:
    @given(st.integers(0, 1000), st.none() | st.integers(0, 10))
    def test_every_smaller_amount_can_be_picked_exactly(self, amount: int, top: int | None) -> None:
        denominations = None if top is None else [1 << bit for bit in range(top + 1)]
        parts = split_for_change(amount, denominations)
        assert sum(parts) == amount
        assert parts == sorted(parts)
        assert denominations is None or set(parts) <= set(denominations)
        assert subset_sums(parts) == set(range(amount + 1))

    @given(st.integers(1, 2**62))
    def test_it_takes_at_most_twice_the_bits_of_the_amount(self, amount: int) -> None:
        assert len(split_for_change(amount)) <= 2 * amount.bit_length() - 1

    @given(st.integers(1, 500), st.data())
    def test_the_change_is_what_pick_exact_finds(self, amount: int, data: st.DataObject) -> None:
        proofs = plain_proofs(split_for_change(amount))
        smaller = data.draw(st.integers(1, amount))
        picked = pick_exact(proofs, smaller, max_proofs=64)
        assert picked is not None
        assert total(picked) == smaller

    def test_what_the_keyset_cannot_make_is_an_error(self) -> None:
        with pytest.raises(AmountError, match="cannot make"):
            split_for_change(3, [2, 4])


class TestPickExact:
    @given(st.lists(powers, max_size=9), st.integers(1, 300), st.integers(1, 9))
    def test_it_finds_the_fewest_proofs_exactly_when_there_are_any(
        self, amounts: list[int], amount: int, max_proofs: int
    ) -> None:
        proofs = plain_proofs(amounts)
        sizes = [
            size
            for size in range(1, len(proofs) + 1)
            if any(total(some) == amount for some in combinations(proofs, size))
        ]
        picked = pick_exact(proofs, amount, max_proofs=max_proofs)
        if not sizes or sizes[0] > max_proofs:
            assert picked is None
        else:
            assert picked is not None
            assert (len(picked), total(picked)) == (sizes[0], amount)
            assert set(picked) <= set(proofs)
            assert len(set(picked)) == len(picked)

    def test_nothing_is_not_a_payment(self) -> None:
        assert pick_exact(plain_proofs([1, 2]), 0, max_proofs=64) is None


class TestSelect:
    @given(
        st.lists(st.tuples(powers, st.sampled_from([KEYSET, OTHER])), max_size=8),
        st.integers(1, 400),
        st.integers(1, 8),
        ppks,
        ppks,
    )
    @example([(8, OTHER), (4, KEYSET), (4, KEYSET)], 8, 2, 0, 5000)
    @example([(2, KEYSET)] * 4, 7, 8, 100, 0)
    @example([(128, OTHER)] + [(1, KEYSET)] * 7, 7, 3, 0, 20_000)
    @example([(4, KEYSET), (8, KEYSET), (1, OTHER), (1, OTHER)], 11, 4, 100, 2500)
    @example([(4, KEYSET), (8, KEYSET), (1, OTHER), (1, OTHER), (16, OTHER)], 13, 4, 100, 20_000)
    @example([(8, KEYSET), (4, KEYSET), (2, KEYSET), (1, KEYSET)], 7, 8, 1000, 0)
    @example([(1, KEYSET)] * 4, 4, 3, 0, 0)
    @example([(16, OTHER), (8, KEYSET), (8, KEYSET)], 16, 2, 0, 2500)
    def test_it_covers_the_amount_net_of_fees_whenever_any_choice_does(
        self, amounts: list[tuple[int, str]], amount: int, max_proofs: int, ppk: int, other_ppk: int
    ) -> None:
        proofs = [plain_proof(worth, f"s{at}", keyset) for at, (worth, keyset) in enumerate(amounts)]
        fee_ppk = {KEYSET: ppk, OTHER: other_ppk}

        def fee(some: Sequence[Proof]) -> int:
            return input_fee(some, fee_ppk)

        def reaches(some: Sequence[Proof]) -> bool:
            return total(some) - fee(some) >= amount

        chosen = select_proofs(proofs, amount, fee=fee, max_proofs=max_proofs)
        if chosen is None:
            assert not any(
                reaches(some)
                for size in range(1, min(max_proofs, len(proofs)) + 1)
                for some in combinations(proofs, size)
            )
            return
        assert reaches(chosen)
        assert len(chosen) <= max_proofs
        assert set(chosen) <= set(proofs)
        assert len(set(chosen)) == len(chosen)
        for at in range(len(chosen)):
            assert not reaches(chosen[:at] + chosen[at + 1 :])

    @given(
        st.lists(st.tuples(powers, st.sampled_from([KEYSET, OTHER])), max_size=12),
        st.integers(1, 400),
        ppks,
        ppks,
    )
    def test_every_proof_that_it_picks_brings_more_than_it_costs(
        self, amounts: list[tuple[int, str]], amount: int, ppk: int, other_ppk: int
    ) -> None:
        proofs = [plain_proof(worth, f"s{at}", keyset) for at, (worth, keyset) in enumerate(amounts)]
        fee_ppk = {KEYSET: ppk, OTHER: other_ppk}
        for proof in select_proofs(proofs, amount, fee=lambda some: input_fee(some, fee_ppk)) or ():
            assert 1000 * proof.amount > fee_ppk[proof.id]

    @given(st.lists(powers, max_size=8), st.integers(1, 400))
    def test_without_a_fee_no_choice_is_nearer(self, amounts: list[int], amount: int) -> None:
        chosen = select_proofs(plain_proofs(amounts), amount)
        reaching = [total for total in subset_sums(amounts) if total >= amount]
        assert (None if chosen is None else total(chosen)) == min(reaching, default=None)

    @given(st.lists(powers, max_size=8), st.integers(1, 400), ppks)
    @example([1, 32, 64], 1, 20_000)
    def test_with_a_fee_it_spends_less_than_twice_the_least_that_would_do(
        self, amounts: list[int], amount: int, ppk: int
    ) -> None:
        proofs = plain_proofs(amounts)

        def fee(some: Sequence[Proof]) -> int:
            return input_fee(some, {KEYSET: ppk})

        chosen = select_proofs(proofs, amount, fee=fee)
        reaching = [
            total(some)
            for size in range(1, len(proofs) + 1)
            for some in combinations(proofs, size)
            if total(some) - fee(some) >= amount
        ]
        assert (chosen is None) == (not reaching)
        assert chosen is None or total(chosen) < 2 * min(reaching)

    @given(st.lists(powers, min_size=1, max_size=10), st.data())
    def test_an_amount_that_can_be_met_exactly_is(self, amounts: list[int], data: st.DataObject) -> None:
        amount = data.draw(st.sampled_from(sorted(subset_sums(amounts) - {0})))
        chosen = select_proofs(plain_proofs(amounts), amount)
        assert chosen is not None
        assert total(chosen) == amount

    def test_without_a_fee_the_cover_is_close(self) -> None:
        chosen = select_proofs(plain_proofs([1, 1, 4, 64, 1024]), 8)
        assert chosen is not None
        assert total(chosen) == 64

    def test_a_wallet_of_small_proofs_uses_its_large_ones_when_the_count_is_short(self) -> None:
        chosen = select_proofs(plain_proofs([1] * 100 + [128]), 100, max_proofs=64)
        assert chosen is not None
        assert [p.amount for p in chosen] == [128]

    def test_a_wallet_that_holds_too_little_selects_nothing(self) -> None:
        assert select_proofs(plain_proofs([1, 2, 4]), 8) is None
        assert select_proofs([], 1) is None
        assert select_proofs(plain_proofs([8]), 8, fee=lambda proofs: len(proofs)) is None

    @pytest.mark.parametrize("amount", [0, -1])
    def test_nothing_cannot_be_selected(self, amount: int) -> None:
        with pytest.raises(AmountError, match="above zero"):
            select_proofs(plain_proofs([1]), amount)


class TestRideAlong:
    @given(st.lists(st.tuples(powers, st.sampled_from([KEYSET, OTHER])), max_size=12), st.data(), ppks, ppks)
    def test_what_rides_along_costs_nothing_and_nothing_more_would_fit(
        self, amounts: list[tuple[int, str]], data: st.DataObject, ppk: int, other_ppk: int
    ) -> None:
        proofs = [plain_proof(worth, f"s{at}", keyset) for at, (worth, keyset) in enumerate(amounts)]
        chosen = data.draw(st.lists(st.sampled_from(proofs), unique=True)) if proofs else []
        fee_ppk = {KEYSET: ppk, OTHER: other_ppk}
        riders = ride_along(chosen, proofs, fee_ppk)
        fee = input_fee(chosen, fee_ppk)
        assert input_fee([*chosen, *riders], fee_ppk) == fee
        assert len({*chosen, *riders}) == len(chosen) + len(riders)
        for proof in riders:
            assert is_uneconomic(proof, fee_ppk)
            assert proof.amount <= input_fee([proof], fee_ppk)
        for proof in {*proofs} - {*chosen, *riders}:
            fits = input_fee([*chosen, *riders, proof], fee_ppk) == fee
            assert not (fits and is_uneconomic(proof, fee_ppk))

    def test_a_lone_unit_comes_with_a_swap_that_has_room(self) -> None:
        large, small = plain_proof(8, "a"), plain_proof(1, "b")
        assert ride_along([large], [large, small], {KEYSET: 100}) == [small]
        assert ride_along([large] * 9, [small, plain_proof(1, "c")], {KEYSET: 100}) == [small]
        assert ride_along([large] * 10, [small], {KEYSET: 100}) == []
        assert ride_along([], [small], {KEYSET: 100}) == []

    def test_proofs_that_cannot_be_told_apart_are_counted(self) -> None:
        same = plain_proof(1, "a")
        assert ride_along([same] * 2, [same] * 5, {KEYSET: 300}) == [same]
        assert ride_along([same] * 2, [same] * 2, {KEYSET: 300}) == []

    def test_without_a_fee_nothing_is_uneconomic(self) -> None:
        assert ride_along([plain_proof(8, "a")], [plain_proof(1, "b")], {KEYSET: 0}) == []


def test_a_keyset_of_tiny_denominations_cannot_make_an_endless_list() -> None:
    with pytest.raises(AmountError, match="too small"):
        split_amount(10**15, [1])


class TestBlankOutputs:
    def specified(self, fee_reserve: int) -> int:
        """The formula of NUT-08, for a change of the fee reserve at most."""
        return max(math.ceil(math.log2(fee_reserve)), 1) if fee_reserve else 0

    def test_the_example_of_the_spec(self) -> None:
        assert blank_outputs(1000) == self.specified(1000) == 10

    @given(st.integers(0, 2**62), st.data())
    def test_every_change_up_to_the_most_has_its_outputs(self, most: int, data: st.DataObject) -> None:
        change = data.draw(st.integers(0, most))
        assert len(split_amount(change)) <= blank_outputs(most)

    def test_small_changes_are_all_covered_and_no_output_is_idle(self) -> None:
        for most in range(1, 600):
            needed = max(len(split_amount(change)) for change in range(most + 1))
            assert needed <= blank_outputs(most) <= needed + 1
            assert blank_outputs(most) >= self.specified(most)

    @given(st.integers(0, 2**14), st.integers(0, 12), st.data())
    def test_a_keyset_that_ends_early_has_outputs_for_every_change_too(
        self, most: int, bits: int, data: st.DataObject
    ) -> None:
        largest = 1 << bits
        assume(most // largest < 900)
        change = data.draw(st.integers(0, most))
        parts = split_amount(change, [1 << bit for bit in range(bits + 1)])
        assert len(parts) <= blank_outputs(most, largest)

    def test_the_whole_overshoot_counts_and_not_the_reserve_alone(self) -> None:
        inputs, amount, reserve, paid_fee = 1 << 20, 1000, 10, 0
        change = inputs - amount - paid_fee
        assert len(split_amount(change)) > blank_outputs(reserve)
        assert len(split_amount(change)) <= blank_outputs(inputs - amount)

    def test_none_for_no_change_and_an_error_for_less(self) -> None:
        assert blank_outputs(0) == blank_outputs(0, 8) == 0
        with pytest.raises(AmountError):
            blank_outputs(-1)
