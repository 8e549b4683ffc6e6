"""Bars that add up, within the picture, and few enough colours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_trio.page.chart import HEIGHT, MODELS, WIDTH, draw, nice_step

DAYS = ["2026-01-30", "2026-01-31", "2026-02-01"]


def spending(*models):
    return {
        "days": DAYS,
        "models": [
            {"model": f"m{n}", "total_msat": sum(costs), "by_day_msat": list(costs)}
            for n, costs in enumerate(models)
        ],
    }


def test_without_spending_nothing_is_drawn() -> None:
    assert draw(spending()) is None


def test_a_day_is_as_high_as_what_it_cost() -> None:
    chart = draw(spending((0, 100, 300), (0, 0, 100)))
    assert chart is not None
    assert [(bar.number, bar.says) for bar in chart.bars] == [
        (1, "2026-01-31, m0"),
        (1, "2026-02-01, m0"),
        (2, "2026-02-01, m1"),
    ]
    low, high, above = chart.bars
    assert (high.height, above.height) == (
        pytest.approx(3 * low.height, 0.01),
        pytest.approx(low.height, 0.01),
    )
    assert above.y + above.height == pytest.approx(high.y, abs=0.02)
    assert [msat for _, msat in chart.rules] == [0, 100, 200, 300, 400]
    assert chart.days == [("2026-01-31", [100, 0]), ("2026-02-01", [300, 100])]
    assert chart.total_msat == 500


def test_more_models_than_colours_are_one_bar_together() -> None:
    chart = draw(spending(*[(n, 0, 0) for n in range(9, 0, -1)]))
    assert chart is not None
    assert [each.name for each in chart.series] == ["m0", "m1", "m2", "m3", "m4", "4 others"]
    assert chart.series[-1].total_msat == 4 + 3 + 2 + 1
    assert max(each.number for each in chart.series) == MODELS + 1


@given(st.lists(st.tuples(*[st.integers(0, 2**62)] * 3).filter(any), min_size=1, max_size=9))
def test_nothing_is_drawn_outside_the_picture(models) -> None:
    chart = draw(spending(*models))
    assert chart is not None
    assert chart.total_msat == sum(map(sum, models))
    assert sum(map(sum, (costs for _, costs in chart.days))) == chart.total_msat
    assert 2 <= len(chart.rules) <= 6
    for bar in chart.bars:
        assert bar.x >= 0
        assert bar.x + bar.width <= WIDTH
        assert bar.y >= 0
        assert bar.y + bar.height <= HEIGHT


@given(st.integers(1, 2**63))
def test_lines_are_few_and_even(most) -> None:
    step = nice_step(most)
    assert step * 5 >= most
    assert str(step).rstrip("0") in ("1", "2", "5")
