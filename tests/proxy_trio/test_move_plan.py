"""What is moved between mints, and when nothing is."""

from hypothesis import given
from hypothesis import strategies as st

from otrta_core import Unit
from proxy_trio.move_plan import ROOM_MSAT, Holding, MovePlan, MoveRules, plan_move

A, B, C = ("https://a", Unit.MSAT), ("https://b", Unit.SAT), ("https://c", Unit.MSAT)
RULES = MoveRules()
PLACES = [A, B, C]


def holding(place, msat):
    return Holding(*place, msat)


def test_a_float_is_moved_from_where_most_is():
    holdings = [holding(A, 0), holding(B, 200_000), holding(C, 500_000)]
    assert plan_move(holdings, [A], 550, RULES) == MovePlan(C, A, 100_000)


def test_where_there_is_too_little_for_a_float_what_is_missing_is_moved():
    assert plan_move([holding(B, 50_000)], [A], 30_500, RULES) == MovePlan(B, A, 33_000)


def test_nothing_is_moved_that_is_not_missing_not_there_or_not_allowed():
    rich = [holding(A, 550), holding(B, 500_000)]
    assert plan_move(rich, [A], 550, RULES) is None
    assert plan_move([holding(B, 500)], [A], 550, RULES) is None
    assert plan_move([holding(B, 500_000)], [], 550, RULES) is None
    assert plan_move(rich, [A], 551, MoveRules(enabled=False)) is None


holdings_ = st.lists(
    st.builds(holding, st.sampled_from(PLACES), st.integers(0, 10**9)),
    unique_by=lambda each: (each.mint, each.unit),
)
rules_ = st.builds(
    MoveRules,
    float_msat=st.integers(0, 10**7),
    max_fee_ppm=st.integers(0, 10**6),
    max_fee_msat=st.integers(0, 10**6),
)


@given(holdings_, st.lists(st.sampled_from(PLACES), unique=True), st.integers(1, 10**8), rules_)
def test_a_plan_is_enough_affordable_and_never_between_targets(holdings, targets, needed, rules):
    plan = plan_move(holdings, targets, needed, rules)
    have = {(each.mint, each.unit): each.available_msat for each in holdings}
    if plan is None:
        return
    assert plan.target in targets
    assert plan.source not in targets
    assert plan.amount_msat % 1000 == 0
    assert have.get(plan.target, 0) + plan.amount_msat >= needed + ROOM_MSAT
    assert have[plan.source] >= plan.amount_msat + rules.most_fee_msat(plan.amount_msat)
    assert all(have.get(place, 0) < needed for place in targets)


@given(st.integers(0, 10**12), rules_)
def test_no_move_may_cost_more_than_its_share_or_the_most(amount, rules):
    assert rules.most_fee_msat(amount) <= rules.max_fee_msat
    assert rules.most_fee_msat(amount) * 10**6 <= amount * rules.max_fee_ppm
