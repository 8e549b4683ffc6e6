"""Which rate is believed: the median of fresh readings that agree, and no sudden jump."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_litellm.rates import (
    AHEAD_S,
    CONFIRMATIONS,
    Rate,
    RateRules,
    RateState,
    Reading,
    after_poll,
    agreed,
    median,
)

RULES = RateRules(max_age_s=600, max_jump=Decimal("0.05"), min_feeds=2)
NOW = 1_000_000.0


def said(*usd: str | int, at: float = NOW) -> list[Reading]:
    return [Reading(f"f{n}", Decimal(value), at) for n, value in enumerate(usd)]


@pytest.mark.parametrize(
    ("values", "middle"),
    [([5], "5"), ([9, 1, 5], "5"), ([1, 2], "1.5"), ([4, 1, 2, 3], "2.5")],
)
def test_the_median_is_in_the_middle(values: list[int], middle: str) -> None:
    assert median(Decimal(value) for value in values) == Decimal(middle)


@given(st.lists(st.decimals("1", "10000000", places=2), min_size=1, max_size=9))
def test_the_median_has_half_of_all_on_each_side(values: list[Decimal]) -> None:
    middle = median(values)
    assert sum(v <= middle for v in values) * 2 >= len(values)
    assert sum(v >= middle for v in values) * 2 >= len(values)


def test_one_feed_that_lies_changes_little() -> None:
    assert agreed(said(100, 101, 1), RULES, NOW) == Rate(Decimal(100), NOW)
    assert agreed(said(100, 101, 1_000_000), RULES, NOW) == Rate(Decimal(101), NOW)


def test_two_that_disagree_are_not_believed_either_of_them() -> None:
    assert agreed(said(100, 120), RULES, NOW) is None
    assert agreed(said(100, 105), RULES, NOW) == Rate(Decimal("102.5"), NOW)


def test_too_few_are_not_believed() -> None:
    assert agreed(said(100), RULES, NOW) is None
    assert agreed([], RULES, NOW) is None
    only = RateRules(max_age_s=600, max_jump=Decimal("0.05"), min_feeds=1)
    assert agreed(said(100), only, NOW) == Rate(Decimal(100), NOW)


def test_old_readings_do_not_count_and_a_rate_is_as_old_as_its_oldest() -> None:
    old = said(99, at=NOW - 600)
    assert agreed([*old, *said(100)], RULES, NOW) is None
    assert agreed([*said(99, at=NOW - 500), *said(100)], RULES, NOW) == Rate(Decimal("99.5"), NOW - 500)


def test_a_clock_far_ahead_is_wrong_and_one_a_little_ahead_makes_no_rate_younger() -> None:
    assert agreed([*said(99, at=NOW + AHEAD_S + 1), *said(100)], RULES, NOW) is None
    assert agreed(said(100, 100, at=NOW + AHEAD_S), RULES, NOW) == Rate(Decimal(100), NOW)


def test_a_rate_that_moves_a_little_counts_at_once() -> None:
    state = after_poll(RateState(), said(100, 100), RULES, NOW)
    state = after_poll(state, said(105, 105), RULES, NOW + 60)
    assert state.rate == Rate(Decimal(105), NOW)


def test_a_poll_without_agreement_lets_the_rate_age() -> None:
    state = after_poll(RateState(), said(100, 100), RULES, NOW)
    assert after_poll(state, said(100, 200), RULES, NOW + 60) == state
    assert state.fresh(RULES, NOW + 599) is not None
    assert state.fresh(RULES, NOW + 600) is None


@pytest.mark.parametrize("usd", [50, 106, 94, 100_000])
def test_a_jump_has_to_be_seen_several_times(usd: int) -> None:
    state = after_poll(RateState(), said(100, 100), RULES, NOW)
    for poll in range(1, CONFIRMATIONS):
        state = after_poll(state, said(usd, usd), RULES, NOW + poll)
        assert state.rate == Rate(Decimal(100), NOW)
        assert state.doubted is not None
    state = after_poll(state, said(usd, usd, at=NOW + 9), RULES, NOW + 9)
    assert state == RateState(Rate(Decimal(usd), NOW + 9))


def test_a_jump_that_is_not_seen_again_is_forgotten() -> None:
    state = after_poll(RateState(), said(100, 100), RULES, NOW)
    for _ in range(10):  # up and down: nothing is seen twice in a row
        state = after_poll(state, said(200, 200), RULES, NOW)
        state = after_poll(state, said(50, 50), RULES, NOW)
    assert state.rate == Rate(Decimal(100), NOW)
    state = after_poll(state, said(101, 101), RULES, NOW)
    assert state == RateState(Rate(Decimal(101), NOW))


def test_a_jump_after_a_long_silence_is_doubted_too() -> None:
    state = after_poll(RateState(), said(100, 100), RULES, NOW)
    later = NOW + 86_400
    state = after_poll(state, said(130, 130, at=later), RULES, later)
    assert state.fresh(RULES, later) is None
