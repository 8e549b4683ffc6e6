"""Bounds against strangers, without a gateway: refusals, places, addresses, breakers."""

from contextlib import ExitStack

import pytest

from otrta_litellm.answers import GateError
from otrta_litellm.breaker import FAILURES, FIRST_PROBE_S, LONGEST_S, Breakers
from otrta_litellm.limits import MAX_ADDRESSES, Looks, RefusalBudget, UnpaidCalls, address_of

HERE, THERE = "192.0.2.1", "192.0.2.2"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def allowed(budget: RefusalBudget, address: str = HERE, *, locked: bool = False) -> bool:
    try:
        budget.check(address, locked=locked)
    except GateError as error:
        return (error.gate_code, error.status) != ("rate_limited", 429)
    return True


def test_an_address_may_have_so_many_tokens_refused_in_a_minute() -> None:
    clock = Clock()
    budget = RefusalBudget(5, 1000, clock)
    for _ in range(5):
        assert allowed(budget)
        budget.refused(HERE)
    assert not allowed(budget)
    assert allowed(budget, THERE)
    clock.now = 12.1
    assert allowed(budget)
    budget.refused(HERE)
    assert not allowed(budget)


def test_all_together_leave_a_share_for_locked_tokens() -> None:
    clock = Clock()
    budget = RefusalBudget(1000, 20, clock)
    refused = 0
    while allowed(budget, f"a{refused}"):
        budget.refused(f"a{refused}")
        refused += 1
    assert refused == 15
    assert allowed(budget, "new", locked=True)
    for _ in range(5):
        budget.refused("new")
    assert not allowed(budget, "other", locked=True)


def test_an_address_with_refusals_leaves_a_half_to_those_without() -> None:
    clock = Clock()
    budget = RefusalBudget(1000, 20, clock)
    while allowed(budget):
        budget.refused(HERE)
    assert budget._all.level == 10
    assert allowed(budget, THERE)
    clock.now = 61.0
    assert allowed(budget)


def test_whoever_paid_last_is_let_through_when_strangers_have_used_up_everything() -> None:
    budget = RefusalBudget(5, 20, Clock())
    budget.paid(HERE)
    for n in range(100):
        budget.refused(f"a{n}")
    assert not allowed(budget, THERE)
    for _ in range(3):
        assert allowed(budget)
        budget.paid(HERE)
    budget.refused(HERE)  # and is a stranger again
    assert not allowed(budget)
    budget.paid(HERE)
    assert allowed(budget)


def test_payers_are_remembered_up_to_a_bound_and_not_behind_a_proxy_that_nobody_named() -> None:
    budget = RefusalBudget(5, 20, Clock())
    budget.paid(HERE)
    for n in range(MAX_ADDRESSES):
        budget.paid(f"a{n}")
    budget.paid("127.0.0.1")
    assert len(budget._payers) == MAX_ADDRESSES
    for _ in range(20):
        budget.refused("b")
    assert not allowed(budget, HERE)
    assert not allowed(budget, "127.0.0.1")


def test_a_proxy_on_this_machine_is_everybody_and_only_bound_as_all_are() -> None:
    budget = RefusalBudget(1, 20, Clock())
    for _ in range(10):
        assert allowed(budget, "127.0.0.1")
        budget.refused("127.0.0.1")
    for _ in range(5):
        budget.refused("127.0.0.1")
    assert not allowed(budget, "127.0.0.1")


def test_refusals_that_come_at_once_do_not_shut_anyone_out_for_ever() -> None:
    clock = Clock()
    budget = RefusalBudget(5, 1000, clock)
    for _ in range(500):
        budget.refused(HERE)
    assert not allowed(budget)
    clock.now = 75.0
    assert allowed(budget)


def test_the_memory_for_addresses_is_bounded() -> None:
    budget = RefusalBudget(5, 1_000_000, Clock())
    for n in range(MAX_ADDRESSES + 500):
        budget.refused(f"a{n}")
    assert len(budget._addresses) == MAX_ADDRESSES


def test_looks_are_bounded_for_each_and_for_all() -> None:
    clock = Clock()
    looks = Looks(2, 5, clock)
    assert [looks.may("a") for _ in range(4)] == [True, True, False, False]
    assert [looks.may(name) for name in "bbcc"] == [True, True, True, False]
    clock.now = 31.0
    assert [looks.may("a"), looks.may("a"), looks.may("c")] == [True, False, True]


def test_the_memory_for_looks_is_bounded() -> None:
    looks = Looks(2, 10**6, Clock())
    for n in range(MAX_ADDRESSES + 500):
        looks.may(f"p{n}")
    assert len(looks._of) == MAX_ADDRESSES


def test_places_are_bounded_and_given_back() -> None:
    calls = UnpaidCalls(4)
    for _ in range(3):
        with ExitStack() as stack:
            for n in range(4):
                stack.enter_context(calls.one_more(f"a{n}"))
            with pytest.raises(GateError) as caught, calls.one_more("new"):
                pass
            assert (caught.value.gate_code, caught.value.status) == ("overloaded", 503)
    with pytest.raises(ZeroDivisionError), calls.one_more("a"):
        raise ZeroDivisionError
    assert (calls._all, calls._of) == (0, {})


def test_one_address_takes_half_of_all_places_at_most() -> None:
    calls = UnpaidCalls(4)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(calls.one_more(HERE))
        with pytest.raises(GateError), calls.one_more(HERE):
            pass
        stack.enter_context(calls.one_more(THERE))
    with ExitStack() as stack:  # a reverse proxy on this machine is everybody
        for _ in range(4):
            stack.enter_context(calls.one_more("127.0.0.1"))


@pytest.mark.parametrize(
    ("client", "forwarded", "proxies", "address"),
    [
        (("192.0.2.1", 5), [], 0, "192.0.2.1"),
        (("192.0.2.1", 5), ["203.0.113.9"], 0, "192.0.2.1"),
        (("10.0.0.1", 5), ["203.0.113.9"], 1, "203.0.113.9"),
        (("10.0.0.1", 5), ["1.1.1.1, 203.0.113.9"], 1, "203.0.113.9"),
        (("10.0.0.1", 5), ["1.1.1.1", "203.0.113.9"], 1, "203.0.113.9"),
        (("10.0.0.1", 5), ["1.1.1.1, 203.0.113.9, 10.0.0.2"], 2, "203.0.113.9"),
        (("10.0.0.1", 5), ["203.0.113.9"], 2, "203.0.113.9"),
        (("10.0.0.1", 5), [], 1, "unknown"),
        (("10.0.0.1", 5), ["nonsense"], 1, "unknown"),
        (("2001:db8:1:2:3::4", 5), [], 0, "2001:db8:1:2::/64"),
        (("::ffff:192.0.2.1", 5), [], 0, "192.0.2.1"),
        (None, [], 0, "unknown"),
        (("unix", 0), [], 0, "unknown"),
    ],
)
def test_who_is_calling_is_not_what_a_caller_says(
    client: object, forwarded: list[str], proxies: int, address: str
) -> None:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    assert address_of(client, headers, proxies) == address


def test_a_mint_is_away_after_failures_in_a_row_until_it_answers() -> None:
    clock = Clock()
    breakers = Breakers(clock)
    breaker = breakers.of("m")
    for _ in range(FAILURES - 1):
        breaker.failed()
    breaker.answered()
    for _ in range(FAILURES):
        assert not breaker.open
        breaker.failed()
    assert (breakers.away, breakers.to_probe()) == (["m"], [])
    pauses = []
    for _ in range(8):
        began = clock.now
        while not breakers.to_probe():
            clock.now += 1
        pauses.append(clock.now - began)
        breaker.failed()
    assert pauses[0] == FIRST_PROBE_S
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_S
    breaker.answered()
    assert breakers.away == breakers.to_probe() == []
