"""The summary of a run counts what every test says it proved."""

import json

import pytest

from tests import long_summary
from tests.long_summary import LongSummary


def report(when: str, **properties: object) -> pytest.TestReport:
    found = list(properties.items())
    where = ("a.py", 1, "test_a")
    return pytest.TestReport("a.py::test_a", where, {}, "passed", None, when, user_properties=found)  # type: ignore[arg-type]


@pytest.mark.parametrize("every_s", [-1.0, 60.0], ids=["written at once", "written at the end"])
def test_figures_that_come_after_the_outcome_count(tmp_path, monkeypatch, every_s):
    monkeypatch.setattr(long_summary, "_EVERY_S", every_s)
    summary = LongSummary(tmp_path / "summary.jsonl")
    summary.pytest_runtest_logreport(report("call"))
    summary.pytest_runtest_logreport(report("teardown", ledger={"kills": 2}, pending_ys=["02ab"]))
    summary.pytest_sessionfinish(0)
    end = json.loads((tmp_path / "summary.jsonl").read_text().splitlines()[-1])
    assert (end["total"], end["ledger"], end["pending_ys"]) == ({"passed": 1}, {"kills": 2}, ["02ab"])
