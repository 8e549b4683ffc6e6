"""Budgets allow exactly what the user set, and say what is left."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_trio.budget import Budgets, check, day_begins
from proxy_trio.errors import BudgetExceeded

NOON = datetime(2026, 5, 17, 12, tzinfo=UTC).timestamp()
SAT = 1000


def test_the_defaults_are_a_thousand_sat_a_request_and_ten_thousand_a_day():
    assert Budgets() == Budgets(1_000 * SAT, 10_000 * SAT)


def test_what_is_left_can_be_spent_to_the_last_msat():
    check(Budgets(), 1_000 * SAT, 9_000 * SAT, NOON)
    with pytest.raises(BudgetExceeded) as refused:
        check(Budgets(), 1_000 * SAT, 9_000 * SAT + 1, NOON)
    assert refused.value.left_msat == 1_000 * SAT - 1
    assert refused.value.renews_at == day_begins(NOON) + 86_400


def test_a_request_has_a_budget_of_its_own_that_does_not_renew():
    with pytest.raises(BudgetExceeded) as refused:
        check(Budgets(), 1_000 * SAT + 1, 0, NOON)
    assert (refused.value.left_msat, refused.value.renews_at) == (1_000 * SAT, None)


def test_a_budget_that_was_lowered_below_what_is_spent_has_nothing_left():
    with pytest.raises(BudgetExceeded) as refused:
        check(Budgets(10, 10), 1, 100, NOON)
    assert refused.value.left_msat == 0


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**6))
def test_nothing_passes_that_would_go_beyond_either_budget(per_request, per_day, spent, amount):
    allowed = amount <= per_request and spent + amount <= per_day
    try:
        check(Budgets(per_request, per_day), amount, spent, NOON)
    except BudgetExceeded:
        assert not allowed
    else:
        assert allowed


def test_a_day_is_one_of_utc():
    midnight = datetime(2026, 5, 17, tzinfo=UTC).timestamp()
    assert day_begins(NOON) == day_begins(midnight) == midnight
    assert day_begins(midnight - 0.001) == midnight - 86_400
