from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import AmountError, Settlement, Unit, round_charge_msat, settle
from otrta_core.settlement import Rounding

amounts = st.integers(0, 10**15)
policies = st.sampled_from(["up", "down", "stochastic"])


@given(amounts, amounts, amounts)
def test_every_payment_divides_without_a_remainder(paid: int, fee: int, cost: int) -> None:
    if fee > paid:
        with pytest.raises(AmountError, match="cannot be redeemed"):
            settle(paid, fee, cost)
        return
    s = settle(paid, fee, cost)
    assert s.paid == paid == s.charged + s.fee + s.change
    assert s.fee == fee
    assert s.charged + s.excess == cost
    assert min(astuple(s)) >= 0
    assert s.change == 0 or s.excess == 0


@pytest.mark.parametrize(
    ("paid", "fee", "cost", "settlement"),
    [
        (10_000, 0, 110, Settlement(10_000, 0, 110, 9_890)),
        (10_000, 2, 0, Settlement(10_000, 2, 0, 9_998)),
        (100, 1, 99, Settlement(100, 1, 99, 0)),
        (100, 1, 110, Settlement(100, 1, 99, 0, 11)),
        (0, 0, 0, Settlement(0, 0, 0, 0)),
    ],
)
def test_cost_and_fee_come_off_what_was_paid(paid: int, fee: int, cost: int, settlement: Settlement) -> None:
    assert settle(paid, fee, cost) == settlement


@pytest.mark.parametrize(("paid", "fee", "cost"), [(-1, 0, 0), (1, -1, 0), (1, 0, -1)])
def test_negative_amounts_are_refused(paid: int, fee: int, cost: int) -> None:
    with pytest.raises(AmountError, match="negative"):
        settle(paid, fee, cost)


@given(amounts, policies, st.integers(0, 999), st.booleans())
def test_msat_are_never_rounded(cost: int, rounding: Rounding, draw: int, allow_zero: bool) -> None:
    assert round_charge_msat(cost, Unit.MSAT, rounding, draw=draw, allow_zero=allow_zero) == cost


@given(amounts, policies, st.integers(0, 999), st.booleans())
def test_sat_are_charged_whole_and_less_than_one_off(
    cost: int, rounding: Rounding, draw: int, allow_zero: bool
) -> None:
    charge = round_charge_msat(cost, Unit.SAT, rounding, draw=draw, allow_zero=allow_zero)
    assert charge % 1000 == 0
    assert abs(charge - cost) < 1000
    assert charge >= cost or rounding != "up"
    assert charge <= cost or rounding != "down" or (charge == 1000 and not allow_zero)
    assert (charge > 0) or cost == 0 or allow_zero


@pytest.mark.parametrize(
    ("cost", "rounding", "allow_zero", "charge"),
    [
        (0, "up", False, 0),
        (1, "up", False, 1000),
        (1000, "up", False, 1000),
        (1001, "up", True, 2000),
        (1999, "down", False, 1000),
        (999, "down", False, 1000),
        (999, "down", True, 0),
        (0, "down", False, 0),
        (0, "stochastic", False, 0),
        (110, "stochastic", False, 1000),
    ],
)
def test_the_policies_round_as_published(
    cost: int, rounding: Rounding, allow_zero: bool, charge: int
) -> None:
    assert round_charge_msat(cost, Unit.SAT, rounding, draw=999, allow_zero=allow_zero) == charge


@given(st.integers(0, 5000))
def test_stochastic_rounding_charges_the_exact_cost_on_average(cost: int) -> None:
    charges = [
        round_charge_msat(cost, Unit.SAT, "stochastic", draw=draw, allow_zero=True) for draw in range(1000)
    ]
    assert sum(charges) == cost * 1000


def test_stochastic_rounding_without_free_calls_never_charges_nothing() -> None:
    charges = {round_charge_msat(110, Unit.SAT, "stochastic", draw=draw) for draw in range(1000)}
    assert charges == {1000}


@given(st.integers(0, 10**6), amounts, policies, st.integers(0, 999))
def test_a_sat_token_is_settled_in_whole_sat(paid_sat: int, cost: int, rounding: Rounding, draw: int) -> None:
    charge = round_charge_msat(cost, Unit.SAT, rounding, draw=draw)
    s = settle(Unit.SAT.to_msat(paid_sat), 0, charge)
    assert s.charged % 1000 == s.change % 1000 == 0


@pytest.mark.parametrize("draw", [-1, 1000])
def test_a_draw_out_of_its_range_is_refused(draw: int) -> None:
    with pytest.raises(AmountError, match="draw"):
        round_charge_msat(110, Unit.SAT, "stochastic", draw=draw)


def test_a_policy_that_is_none_and_a_negative_cost_are_refused() -> None:
    with pytest.raises(AmountError, match="round up"):
        round_charge_msat(110, Unit.SAT, "nearest")  # type: ignore[arg-type]
    with pytest.raises(AmountError, match="negative"):
        round_charge_msat(-1, Unit.SAT)
