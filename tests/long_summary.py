"""A pytest plugin: what was proved, summed up; in the long run also as JSON lines by test file.

Lines are appended to ``test-long.jsonl`` as they come, so that a run that is cut off keeps what it had.
A test that kills, spoils or counts money says so through the ``ledger`` fixture.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SUMMARY = Path(__file__).parents[1] / "test-long.jsonl"
_PROPERTY, _PENDING = "ledger", "pending_ys"
_EVERY_S = 30.0


class Ledger:
    """What a test did to the money: sums of kills, faults, operations, msat_in, msat_out …

    ``pending`` names what the mint holds for ever: the Ys of inputs that it died with.
    """

    def __init__(self) -> None:
        self.sums: Counter[str] = Counter()
        self.pending: list[str] = []

    def add(self, **figures: int) -> None:
        """Add to the sums."""
        # PostgreSQL's sums are Decimal, which JSON has no word for
        self.sums.update({name: int(figure) for name, figure in figures.items()})


@pytest.fixture
def ledger(record_property: Callable[[str, object], None]) -> Iterator[Ledger]:
    """Figures for the summary of the run."""
    ledger = Ledger()
    yield ledger
    record_property(_PROPERTY, dict(ledger.sums))
    record_property(_PENDING, ledger.pending)


class LongSummary:
    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._counts: dict[str, Counter[str]] = {}
        self._ledgers: dict[str, Counter[str]] = {}
        self._total: Counter[str] = Counter()
        self._proved: Counter[str] = Counter()
        self._pending: list[str] = []
        self._began = self._written = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file = report.nodeid.partition("::")[0]
        if report.when == "call" or report.outcome != "passed":
            self._counts.setdefault(file, Counter())[report.outcome] += 1
        if report.when == "teardown":
            properties = dict(report.user_properties)
            self._ledgers.setdefault(file, Counter()).update(properties.get(_PROPERTY, {}))
            self._pending += properties.get(_PENDING, [])
        if time.monotonic() - self._written > _EVERY_S:
            self._write_files()

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self._write_files()
        seconds = round(time.monotonic() - self._began, 1)
        end = {"total": dict(self._total), "ledger": dict(self._proved), "pending_ys": self._pending}
        self._append({**end, "seconds": seconds, "exit": int(exitstatus)})

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._proved:
            figures = ", ".join(f"{name} {figure}" for name, figure in sorted(self._proved.items()))
            terminalreporter.write_line(f"money: {figures}")

    def _write_files(self) -> None:
        for file in self._counts | self._ledgers:  # a test's figures come after its outcome
            counts, figures = self._counts.get(file, Counter()), self._ledgers.get(file, Counter())
            self._append({"file": file, **counts, **({"ledger": dict(figures)} if figures else {})})
            self._total += counts
            self._proved += figures
        self._counts, self._ledgers, self._written = {}, {}, time.monotonic()

    def _append(self, line: dict[str, object]) -> None:
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as summary:
                summary.write(json.dumps({"time": int(time.time()), **line}) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    is_worker = hasattr(config, "workerinput")  # of xdist: the controller hears of every test
    if not is_worker:
        path = SUMMARY if os.environ.get("OTRTA_LONG") == "1" else None
        config.pluginmanager.register(LongSummary(path), "long-summary")
