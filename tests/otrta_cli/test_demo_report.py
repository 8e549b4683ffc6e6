"""The demo's balance sheet says what is owned, and marks what does not add up."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_cli.demo_report import BalanceSheet, PaidCall

PLAIN = PaidCall(stream=False, paid_msat=10_000, cost_msat=110, fee_msat=1, change_msat=9_889)
STREAMED = PaidCall(stream=True, paid_msat=5_200, cost_msat=105, fee_msat=2, change_msat=5_093)
SHEET = BalanceSheet((PLAIN, STREAMED), 100_000, 99_782, 215, 215)
URLS = {"mint": "http://m", "gateway": "http://g", "client": "http://c"}

amounts = st.integers(0, 10**12)


@st.composite
def sheets(draw: st.DrawFn) -> BalanceSheet:
    calls = tuple(
        PaidCall(stream, cost + fee + change, cost, fee, change)
        for stream, cost, fee, change in draw(
            st.lists(st.tuples(st.booleans(), amounts, amounts, amounts), max_size=3)
        )
    )
    after = draw(amounts)
    cost = sum(call.cost_msat for call in calls)
    fee = sum(call.fee_msat for call in calls)
    return BalanceSheet(calls, after + cost + fee, after, cost, cost)


@given(sheets())
def test_money_that_is_all_accounted_for_adds_up(sheet: BalanceSheet) -> None:
    assert sheet.wrong == ()
    assert sheet.as_json(URLS, "home")["ok"] is True
    assert "WRONG" not in sheet.text


@pytest.mark.parametrize("off_msat", [-1, 1])
@pytest.mark.parametrize(
    ("field", "claim"),
    [
        ("wallet_before_msat", "wallet before = after + cost + fee"),
        ("wallet_after_msat", "wallet before = after + cost + fee"),
        ("earned_msat", "gateway's ledger = cost of the calls"),
        ("held_msat", "gateway's e-cash = cost of the calls"),
    ],
)
def test_one_msat_too_much_or_too_little_anywhere_is_the_only_line_marked(
    field: str, claim: str, off_msat: int
) -> None:
    sheet = replace(SHEET, **{field: getattr(SHEET, field) + off_msat})
    assert [check.claim for check in sheet.wrong] == [claim]
    assert [line for line in sheet.text.splitlines() if "WRONG" in line] == [sheet.wrong[0].line]
    assert sheet.as_json(URLS, "home")["ok"] is False


@pytest.mark.parametrize("field", ["paid_msat", "fee_msat", "change_msat"])
def test_a_call_that_does_not_split_into_cost_fee_and_change_is_marked(field: str) -> None:
    broken = replace(STREAMED, **{field: getattr(STREAMED, field) + 1})
    claims = [check.claim for check in replace(SHEET, calls=(PLAIN, broken)).wrong]
    assert "streamed call: paid = cost + fee + change" in claims
    assert "plain call: paid = cost + fee + change" not in claims


def test_the_marked_line_says_by_how_much_it_is_off() -> None:
    [check] = replace(SHEET, wallet_after_msat=99_772).wrong
    assert check.line == "  WRONG  wallet before = after + cost + fee: 100000 is 99772 + 215 + 3 +10 msat"


def test_the_text_has_each_call_and_the_sum_in_columns() -> None:
    rows = [line.split() for line in SHEET.text.splitlines()]
    assert rows[:5] == [
        ["msat", "plain", "streamed", "sum"],
        ["paid", "10000", "5200", "15200"],
        ["cost", "110", "105", "215"],
        ["fee", "1", "2", "3"],
        ["change", "9889", "5093", "14982"],
    ]
    assert ["wallet", "before", "100000"] in rows
    assert ["wallet", "after", "99782"] in rows
    assert ["gateway", "earned", "215"] in rows


def test_the_json_has_exactly_the_fields_that_programs_rely_on() -> None:
    assert json.loads(json.dumps(SHEET.as_json(URLS, "/a/home"))) == {
        "ok": True,
        "calls": [
            {"paid_msat": 10_000, "cost_msat": 110, "fee_msat": 1, "change_msat": 9_889, "stream": False},
            {"paid_msat": 5_200, "cost_msat": 105, "fee_msat": 2, "change_msat": 5_093, "stream": True},
        ],
        "wallet_msat_before": 100_000,
        "wallet_msat_after": 99_782,
        "gateway_msat": 215,
        "urls": URLS,
        "home": "/a/home",
    }
