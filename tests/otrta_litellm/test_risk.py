"""What is risked on calls that run before their payment is certain."""

from hypothesis import given
from hypothesis import strategies as st

from otrta_litellm.risk import LONGEST_PAUSE_S, Risk


@given(st.lists(st.tuples(st.integers(1, 50), st.sampled_from(["take", "won", "lost"]), st.floats(0, 100))))
def test_never_more_is_at_risk_than_the_limit(steps: list[tuple[int, str, float]]) -> None:
    risk, running, now = Risk(100, 10.0), [], 0.0
    for amount, step, later in steps:
        now += later
        if step == "take":
            if risk.take(amount, now):
                running.append(amount)
        elif running:
            ended = running.pop()
            (risk.won if step == "won" else risk.lost)(ended, now)
        assert risk.at_risk_msat == sum(running) <= 100


def test_a_loss_stops_it_for_a_while_and_each_further_one_for_longer() -> None:
    risk, now = Risk(100, 10.0), 0.0
    for pause_s in (10.0, 20.0, 40.0):
        assert risk.take(1, now)
        risk.lost(1, now)
        assert not risk.take(1, now + pause_s - 1)
        now += pause_s
    assert risk.take(1, now)
    risk.won(1, now)
    assert risk.take(1, now)
    risk.lost(1, now)
    assert risk.take(1, now + 10)  # after one that went well it begins again


def test_calls_that_ran_together_count_as_one_loss() -> None:
    risk = Risk(100, 10.0)
    assert all(risk.take(1, 0.0) for _ in range(5))
    for _ in range(5):
        risk.lost(1, 1.0)
    assert risk.take(1, 11.0)


def test_no_pause_is_longer_than_an_hour() -> None:
    risk, now = Risk(100, 1000.0), 0.0
    for _ in range(9):
        assert risk.take(1, now)
        risk.lost(1, now)
        now += LONGEST_PAUSE_S
    assert risk.take(1, now)
