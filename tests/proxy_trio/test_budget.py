"""Budgets allow exactly what the user set, and say what is left and when it renews."""

import os
import time
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_trio.budget import DEFAULT_LIMITS, UNLIMITED, Account, Limits, Window, begins, check, renews
from proxy_trio.errors import BudgetExceeded

UTC = timezone.utc  # noqa: UP017  # a zone among others here
INDIA = timezone(timedelta(hours=5, minutes=30))
NOON = datetime(2026, 5, 17, 12, 20, tzinfo=UTC).timestamp()
MIDNIGHT = datetime(2026, 5, 18, tzinfo=UTC).timestamp()
SAT = 1000
AMOUNTS = st.integers(0, 2**63)
LIMIT = st.none() | AMOUNTS


def limits(**given):
    return Limits(**(dict.fromkeys(_NAMES) | given))


_NAMES = ("per_request_msat", "per_hour_msat", "per_day_msat", "per_month_msat", "total_msat")


def account(key=None, *, hour=0, day=0, month=0, total=0, **given):
    spent = {Window.HOUR: hour, Window.DAY: day, Window.MONTH: month, Window.TOTAL: total}
    return Account(key, limits(**given), spent)


def refused(amount, *accounts, now=NOON, zone=UTC):
    with pytest.raises(BudgetExceeded) as caught:
        check(amount, accounts, now, zone)
    return caught.value


def test_the_defaults_are_a_thousand_sat_a_request_and_ten_thousand_a_day():
    assert limits(per_request_msat=1_000 * SAT, per_day_msat=10_000 * SAT) == DEFAULT_LIMITS


def test_what_is_left_can_be_spent_to_the_last_msat():
    assert check(1_000 * SAT, [Account(None, DEFAULT_LIMITS, {Window.DAY: 9_000 * SAT})], NOON) == 1_000 * SAT
    error = refused(1_000 * SAT, Account(None, DEFAULT_LIMITS, {Window.DAY: 9_000 * SAT + 1}))
    assert error.details == {
        "required_msat": 1_000 * SAT,
        "left_msat": 1_000 * SAT - 1,
        "renews_at": MIDNIGHT,
        "budget": "day",
    }
    assert error.retry_after_s == MIDNIGHT - NOON
    assert error.message == (
        "This call may cost up to 1,000 sat, and 999.999 sat of 10,000 sat are left of the budget for a day. "
        "It renews at midnight. Raise it: `otrta config set budgets.per_day_sat SAT`."
    )


def test_a_request_has_a_budget_of_its_own_that_does_not_renew():
    error = refused(1_000 * SAT + 1, Account(None, DEFAULT_LIMITS, {}))
    assert (error.left_msat, error.renews_at, error.retry_after_s) == (1_000 * SAT, None, None)
    assert "Ask for less output" in error.message


def test_a_call_larger_than_a_whole_budget_is_not_told_to_wait_for_it():
    error = refused(11, account(per_hour_msat=10, hour=4))
    assert (error.left_msat, error.retry_after_s) == (6, None)
    assert "is 10 msat in all, 6 msat of it left until 13:00" in error.message


def test_of_several_budgets_the_one_that_holds_longest_is_told_with_the_least_that_is_left():
    error = refused(10, account(per_hour_msat=10, hour=9, per_month_msat=50, month=45))
    assert (error.budget, error.left_msat) == ("month", 1)
    assert error.renews_at == datetime(2026, 6, 1, tzinfo=UTC).timestamp()
    assert "It renews at 2026-06-01 00:00." in error.message


def test_an_app_keys_budget_is_told_with_its_name_and_how_to_change_it():
    own = account("cursor", per_day_msat=10, day=5)
    error = refused(6, account(per_day_msat=1000), own)
    assert error.details["key"] == "cursor"
    assert "of the key cursor" in error.message
    assert "`otrta keys set cursor --per-day AMOUNT`" in error.message
    error = refused(6, account("cursor", total_msat=10, total=5))
    assert (error.budget, error.retry_after_s) == ("total", None)
    assert "`otrta keys set cursor --total AMOUNT`" in error.message


def test_a_budget_that_was_lowered_below_what_is_spent_has_nothing_left():
    assert refused(1, account(per_day_msat=10, day=100)).left_msat == 0


@pytest.mark.parametrize("name", _NAMES)
def test_a_budget_of_nothing_lets_nothing_pass(name):
    error = refused(1, account(**{name: 0}))
    assert (error.left_msat, error.retry_after_s) == (0, None)
    assert check(0, [account(**{name: 0})], NOON) == 0


def test_no_limit_is_said_outright():
    assert check(2**62, [Account(None, UNLIMITED, dict.fromkeys(Window, 2**62))], NOON) is None
    with pytest.raises(TypeError):
        Limits()


def test_a_payment_is_not_negative():
    with pytest.raises(ValueError, match="negative"):
        check(-1, [account()], NOON)


@given(AMOUNTS, st.lists(st.tuples(LIMIT, LIMIT, AMOUNTS, LIMIT, AMOUNTS), max_size=3))
def test_nothing_passes_that_would_go_beyond_any_budget(amount, told):
    accounts = [
        account(per_request_msat=request, per_day_msat=day, day=spent, total_msat=total, total=in_all)
        for request, day, spent, total, in_all in told
    ]
    allowed = all(
        (request is None or amount <= request)
        and (day is None or spent + amount <= day)
        and (total is None or in_all + amount <= total)
        for request, day, spent, total, in_all in told
    )
    try:
        at_most = check(amount, accounts, NOON)
    except BudgetExceeded:
        assert not allowed
    else:
        assert allowed
        assert at_most is None or at_most >= amount


@pytest.mark.parametrize("zone", [UTC, INDIA, timezone(timedelta(hours=-11)), timezone(timedelta(hours=14))])
@given(at=st.integers(0, 4_102_444_800))
def test_a_window_holds_now_and_ends_when_the_next_begins(zone, at):
    for window in (Window.HOUR, Window.DAY, Window.MONTH):
        begin, end = begins(window, at, zone), renews(window, at, zone)
        assert begin <= at < end
        assert begins(window, end, zone) == end
        assert begins(window, end - 0.5, zone) == begin
    assert begins(Window.DAY, at, zone) >= begins(Window.MONTH, at, zone)


def test_days_and_months_begin_in_the_zone_and_hours_in_utc():
    assert begins(Window.DAY, NOON, INDIA) == datetime(2026, 5, 17, tzinfo=INDIA).timestamp()
    assert begins(Window.MONTH, NOON, INDIA) == datetime(2026, 5, 1, tzinfo=INDIA).timestamp()
    assert begins(Window.HOUR, NOON, INDIA) == NOON - 20 * 60
    assert renews(Window.MONTH, datetime(2026, 12, 31, 23, tzinfo=UTC).timestamp(), UTC) == 1_798_761_600
    assert (begins(Window.TOTAL, NOON), renews(Window.TOTAL, NOON)) == (0, None)


@pytest.fixture
def berlin():
    """This machine in a zone with summer time, by its rules alone."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "CET-1CEST,M3.5.0,M10.5.0/3"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("day", "hours"), [(datetime(2026, 3, 29), 23), (datetime(2026, 10, 25), 25), (datetime(2026, 5, 17), 24)]
)
def test_a_day_on_which_the_clocks_change_is_as_long_as_it_is(day, hours):
    begin = day.timestamp()
    for hour in range(hours):
        at = begin + hour * 3600 + 1800
        assert (begins(Window.DAY, at), renews(Window.DAY, at)) == (begin, begin + hours * 3600)
        assert begins(Window.HOUR, at) <= at < renews(Window.HOUR, at) <= at + 3600
