"""The table of decisions, every cell of it."""

from itertools import product

import pytest

from otrta_wallet.decisions import Verdict, decide, decide_melt

STATES = [
    ("UNSPENT",),
    ("SPENT",),
    ("PENDING",),
    ("UNSPENT", "SPENT"),
    ("UNSPENT", "PENDING"),
    ("SPENT", "PENDING"),
    ("UNSPENT", "SPENT", "PENDING"),
]
QUOTES = ["UNPAID", "PAID", "PENDING", "ISSUED"]
FLAGS = list(product([False, True], repeat=3))


def by_the_prose(signed, refused, foreign, may_land, open_for_use, pending, gone, unpaid):
    """The docstring's table once more, in the order in which its rows are to be read."""
    rows = [
        (signed > 0 and open_for_use, Verdict.NEW_OUTPUTS),
        (signed == 2, Verdict.FINISH),
        (signed == 1, Verdict.WAIT),
        (pending and refused and foreign, Verdict.FAIL_PENDING),
        (pending, Verdict.WAIT),
        (gone, Verdict.FAIL_SPENT),
        (unpaid, Verdict.FAIL_REFUSED),
        (not refused, Verdict.POST_AGAIN),
        (may_land, Verdict.WAIT),
        (True, Verdict.FAIL_REFUSED),
    ]
    return next(verdict for applies, verdict in rows if applies)


@pytest.mark.parametrize("states", STATES, ids="+".join)
@pytest.mark.parametrize("signed", [0, 1, 2])
@pytest.mark.parametrize(("refused", "foreign", "may_land"), FLAGS)
def test_by_the_states_of_the_inputs(states, signed, refused, foreign, may_land):
    expected = by_the_prose(
        signed,
        refused,
        foreign,
        may_land,
        open_for_use="UNSPENT" in states,
        pending="PENDING" in states,
        gone="SPENT" in states,
        unpaid=False,
    )
    verdict = decide(
        signed=signed,
        outputs=2,
        refused=refused,
        foreign=foreign,
        may_land=may_land,
        input_states=states,
    )
    assert verdict is expected


@pytest.mark.parametrize("quote", QUOTES)
@pytest.mark.parametrize("signed", [0, 1, 2])
@pytest.mark.parametrize(("refused", "foreign", "may_land"), FLAGS)
def test_by_the_state_of_the_quote(quote, signed, refused, foreign, may_land):
    expected = by_the_prose(
        signed,
        refused,
        foreign,
        may_land,
        open_for_use=quote in ("UNPAID", "PAID"),
        pending=quote == "PENDING",
        gone=quote == "ISSUED",
        unpaid=quote == "UNPAID",
    )
    verdict = decide(
        signed=signed, outputs=2, refused=refused, foreign=foreign, may_land=may_land, quote_state=quote
    )
    assert verdict is expected


@pytest.mark.parametrize("states", STATES, ids="+".join)
@pytest.mark.parametrize(("refused", "foreign", "may_land"), FLAGS)
def test_inputs_are_never_let_go_while_they_may_be_spent_for_us(states, refused, foreign, may_land):
    """The rule behind the table: a verdict of failure needs the mint's word that nothing is under way."""
    verdict = decide(
        signed=0, outputs=2, refused=refused, foreign=foreign, may_land=may_land, input_states=states
    )
    if verdict is Verdict.FAIL_REFUSED:
        assert set(states) == {"UNSPENT"}
        assert refused
        assert not may_land
    if verdict is Verdict.FAIL_SPENT:
        assert "SPENT" in states
        assert "PENDING" not in states
    if verdict is Verdict.FAIL_PENDING:
        assert refused
        assert foreign
    if verdict is Verdict.POST_AGAIN:
        assert set(states) == {"UNSPENT"}


def melt_by_the_prose(quote, states, signed, refused, busy, may_land):
    """The docstring's table of payments once more, the first row that applies."""
    rows = [
        (quote == "PAID" and set(states) == {"SPENT"}, Verdict.FINISH),
        (quote is None and set(states) == {"SPENT"} and signed, Verdict.FINISH),
        ("PENDING" in states, Verdict.WAIT),
        (quote == "PENDING", Verdict.WAIT),
        (quote is None and "SPENT" in states, Verdict.WAIT),
        (busy and quote == "UNPAID" and set(states) == {"UNSPENT"} and not signed, Verdict.POST_AGAIN),
        (may_land, Verdict.WAIT),
        ("SPENT" in states, Verdict.FAIL_SPENT),
        (quote == "PAID", Verdict.FAIL_PAID),
        (signed and refused, Verdict.NEW_OUTPUTS),
        (True, Verdict.FAIL_REFUSED),
    ]
    return next(verdict for applies, verdict in rows if applies)


@pytest.mark.parametrize("states", STATES, ids="+".join)
@pytest.mark.parametrize("quote", ["UNPAID", "PENDING", "PAID", None])
@pytest.mark.parametrize("last", ["refused", "busy", "neither"])
@pytest.mark.parametrize("may_land", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_a_payment_by_quote_and_inputs(quote, states, signed, last, may_land):
    refused, busy = last == "refused", last == "busy"
    verdict = decide_melt(
        quote_state=quote,
        input_states=states,
        signed=signed,
        refused=refused,
        busy=busy,
        may_land=may_land,
    )
    assert verdict is melt_by_the_prose(quote, states, signed, refused, busy, may_land)
    if verdict is Verdict.FINISH:
        assert set(states) == {"SPENT"}
        assert quote == "PAID" or (quote is None and signed)
    elif verdict is not Verdict.WAIT:
        assert busy or not may_land
        assert "PENDING" not in (quote, *states)
    if verdict is Verdict.POST_AGAIN:
        assert busy
    if verdict in (Verdict.FAIL_REFUSED, Verdict.NEW_OUTPUTS, Verdict.POST_AGAIN):
        assert quote in ("UNPAID", None)
        assert set(states) == {"UNSPENT"}
