"""Change out of proofs at hand, with calls that count on some of them."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from otrta_core import Proof
from otrta_litellm.change_float import ChangeFloat
from otrta_wallet.stock import split_for_stock

MINT, UNIT = "https://mint.example", "msat"
PLACE = MINT, UNIT
SIGNED = [1 << bit for bit in range(24)]
AMOUNTS = st.integers(1, 20_000)


def proofs(amounts: Sequence[int]) -> list[Proof]:
    return [Proof(amount, "00", "", "") for amount in amounts]


def begin(change_float: ChangeFloat, name: str, net: int, unit: str = UNIT) -> None:
    change_float.count_on(name, MINT, unit, net)
    change_float.set_out([name])
    change_float.arrive([name])


def without(have: list[Proof], taken: Sequence[Proof]) -> list[Proof]:
    for proof in taken:
        have.remove(proof)
    return have


ALL_BUT_AN_EIGHTH = st.floats(0, 0.875)
"""More of a token than this may take more proofs of its own than change may have."""


@given(st.lists(st.tuples(AMOUNTS, ALL_BUT_AN_EIGHTH), min_size=1, max_size=12), st.data())
def test_every_call_that_shared_a_swap_gets_any_change_out_of_it(
    calls: list[tuple[int, float]], data: st.DataObject
) -> None:
    change_float = ChangeFloat()
    for number, (net, _) in enumerate(calls):
        begin(change_float, str(number), net)
    have = proofs(split_for_stock(sum(net for net, _ in calls), {}, change_float.wanted(*PLACE), SIGNED))
    for number in data.draw(st.permutations(range(len(calls)))):
        net, share = calls[number]
        amount = max(1, int(net * share))
        chosen = change_float.pick(str(number), PLACE, have, amount)
        assert chosen is not None
        assert sum(proof.amount for proof in chosen) == amount
        have = without(have, chosen)
        change_float.let_go(str(number))
    assert change_float.wanted(*PLACE) == {}


@given(st.lists(AMOUNTS, max_size=9), st.lists(AMOUNTS, max_size=9))
def test_what_nobody_counts_on_any_more_is_not_wanted(stays: list[int], goes: list[int]) -> None:
    one, both = ChangeFloat(), ChangeFloat()
    for number, net in enumerate(stays):
        begin(one, f"stays-{number}", net)
        begin(both, f"stays-{number}", net)
    for number, net in enumerate(goes):
        begin(both, f"goes-{number}", net)
    for number in range(len(goes)):
        both.let_go(f"goes-{number}")
        both.let_go(f"goes-{number}")
    assert both.wanted(*PLACE) == one.wanted(*PLACE)


def test_what_others_count_on_is_taken_last() -> None:
    change_float = ChangeFloat()
    begin(change_float, "other", 7)
    have = proofs([4, 2, 1, 1, 1])
    assert change_float.pick("mine", PLACE, have, 2) == proofs([1, 1])
    assert change_float.pick("other", PLACE, have, 2) == proofs([2])
    assert change_float.pick("mine", PLACE, have, 4) == proofs([4])


def test_what_has_not_set_out_counts_on_nothing() -> None:
    change_float = ChangeFloat()
    change_float.count_on("a", *PLACE, 3)
    assert change_float.wanted(*PLACE) == {}
    change_float.set_out(["a", "a", None, "nobody"])
    assert change_float.wanted(*PLACE) == {1: 1, 2: 1}


def test_mints_and_units_are_apart() -> None:
    change_float = ChangeFloat()
    begin(change_float, "a", 3, "sat")
    assert change_float.wanted(*PLACE) == {}
    assert change_float.wanted(MINT, "sat") == {1: 1, 2: 1}


def test_what_is_still_on_its_way_keeps_nobody_from_the_proofs_at_hand() -> None:
    change_float = ChangeFloat()
    begin(change_float, "mine", 7)
    change_float.count_on("coming", *PLACE, 7)
    change_float.set_out(["coming"])
    assert change_float.wanted(*PLACE) == {1: 2, 2: 2, 4: 2}
    begin(change_float, "other", 2)
    have = proofs([4, 2, 1, 1, 1])
    assert change_float.pick("mine", PLACE, have, 2) == proofs([2])
    change_float.arrive(["coming", "coming"])
    for name in ("mine", "coming", "other"):
        change_float.let_go(name)
    assert change_float.wanted(*PLACE) == {}
    assert change_float._kept == {PLACE: {}}
