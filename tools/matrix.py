"""Runs tests that represent a table of cases and counts the results; shared by the matrix tools."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


class Count:
    """What pytest says of each case, by group."""

    def __init__(self, group_of: Callable[[str], str]) -> None:
        self.group_of = group_of
        self.tried: Counter[str] = Counter()
        self.skipped: dict[str, str] = {}
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            self.skipped[report.nodeid] = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        elif report.when == "call" and (group := self.group_of(report.nodeid)):
            self.tried[group] += 1
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


def by_test(nodeid: str) -> str:
    """The name of a test in words, whatever its parameters."""
    return nodeid.rpartition("::")[2].partition("[")[0].removeprefix("test_").replace("_", " ")


def run(title: str, tests: list[str], group_of: Callable[[str], str] = by_test, more: tuple[str, ...] = ()) -> int:
    """Runs tests of the suite, those marked ``matrix`` too, prints cases by group and failures; the exit status.

    Args:
        title: of the last line. tests: files or tests below the project's folder. group_of: the group of a test's
            name, empty for one that is no case. more: options of pytest.
    """
    count = Count(group_of)
    options = ["-q", "--no-header", "-p", "no:cacheprovider", "-m", "", *more]
    status = pytest.main([*options, *(str(ROOT / test) for test in tests)], [count])
    width = max([24, *(len(group) for group in count.tried)])
    for group, tried in count.tried.items():
        print(f"{group:<{width}} {tried:>4}")
    for nodeid, reason in count.skipped.items():
        print(f"not tried: {nodeid.rpartition('::')[2]}: {reason.removeprefix('Skipped: ')}")
    print(f"{title}: {count.tried.total()} tried, {len(count.failed)} failures, {len(count.skipped)} not tried")
    return int(status)
