"""A pytest plugin: in the long run, one JSON line per finished test file, and one at the end.

Lines are appended to ``test-long.jsonl`` as they come, so that a run that is cut off keeps what it had.
"""

import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest

SUMMARY = Path(__file__).parents[1] / "test-long.jsonl"


class LongSummary:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = ""
        self._counts: Counter[str] = Counter()
        self._all: Counter[str] = Counter()
        self._began = self._file_began = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file = report.nodeid.partition("::")[0]
        if file != self._file:
            self._write_file()
            self._file, self._file_began = file, time.monotonic()
        if report.when == "call" or report.outcome != "passed":
            self._counts[report.outcome] += 1

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self._write_file()
        seconds = round(time.monotonic() - self._began, 1)
        self._append({"total": dict(self._all), "seconds": seconds, "exit": int(exitstatus)})

    def _write_file(self) -> None:
        if self._counts:
            seconds = round(time.monotonic() - self._file_began, 1)
            self._append({"file": self._file, **self._counts, "seconds": seconds})
            self._all += self._counts
            self._counts = Counter()

    def _append(self, line: dict[str, object]) -> None:
        with self._path.open("a", encoding="utf-8") as summary:
            summary.write(json.dumps({"time": int(time.time()), **line}) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    is_worker = hasattr(config, "workerinput")  # of xdist: the controller hears of every test
    if os.environ.get("OTRTA_LONG") == "1" and not is_worker:
        config.pluginmanager.register(LongSummary(SUMMARY), "long-summary")
