"""What should be at hand before anybody pays."""

from collections import Counter

from otrta_litellm.change_float import ChangeFloat
from otrta_litellm.standing import MOST_OF_A_KIND, PERIOD_S, Standing

MINT, UNIT = "https://mint.example", "msat"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_is_twice_what_was_counted_on_at_once() -> None:
    standing = Standing(Clock())
    for _ in range(3):
        standing.begin(Counter({1: 1, 8: 2}))
        standing.begin(Counter({1: 1}))
        standing.end(Counter({1: 1}))
        standing.end(Counter({1: 1, 8: 2}))
    assert standing.wanted() == {1: 4, 8: 4}


def test_a_rush_is_forgotten_after_a_while() -> None:
    clock = Clock()
    standing = Standing(clock)
    standing.begin(Counter({4: 5}))
    standing.end(Counter({4: 5}))
    clock.now += PERIOD_S
    standing.begin(Counter({2: 1}))
    assert standing.wanted() == {4: 10, 2: 2}
    clock.now += PERIOD_S
    assert standing.wanted() == {2: 2}, "still counted on"
    standing.end(Counter({2: 1}))
    clock.now += 2 * PERIOD_S
    assert standing.wanted() == {}


def test_it_is_bounded() -> None:
    standing = Standing(Clock())
    standing.begin(Counter({1: 1000}))
    assert standing.wanted() == {1: MOST_OF_A_KIND}


def test_calls_are_counted_from_their_payment_to_their_change() -> None:
    change_float = ChangeFloat()
    change_float.count_on("a", MINT, UNIT, 3)
    change_float.count_on("b", MINT, UNIT, 3)
    one = change_float.standing()[MINT, UNIT]
    change_float.set_out(["a"])
    change_float.arrive(["a"])
    change_float.let_go("a")
    change_float.let_go("a")
    change_float.let_go("b")
    change_float.count_on("c", MINT, UNIT, 3)
    change_float.count_on("d", MINT, UNIT, 3)
    assert change_float.standing()[MINT, UNIT] == one
    change_float.count_on("e", MINT, UNIT, 3)
    assert change_float.standing()[MINT, UNIT] != one
