"""Runs every bad input of the tests through the command line and counts: ``python tools/bad_input_matrix.py``."""

import sys
from collections import Counter
from pathlib import Path

import pytest

# Tests beside the table of bad inputs, by a part of their names.
OTHERS = {
    "process_of_its_own": "in a process of its own",
    "odd_but_good": "odd but good, taken",
    "takes_no_files": "nowhere to write",
}
ROOT = Path(__file__).resolve().parent.parent


class Count:
    """What pytest says of each case, by group."""

    def __init__(self) -> None:
        self.tried: Counter[str] = Counter()
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        _, bracket, name = report.nodeid.rstrip("]").partition("[")
        if bracket and report.when == "call":
            group = next((text for part, text in OTHERS.items() if part in report.nodeid), name.partition(": ")[0])
            self.tried[group] += 1
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


def main() -> int:
    count = Count()
    status = pytest.main(
        ["-q", "--no-header", "-p", "no:cacheprovider", str(ROOT / "tests/test_bad_input_matrix.py")], [count]
    )
    for group, tried in count.tried.items():
        print(f"{group:<24} {tried:>4}")
    print(f"bad inputs: {sum(count.tried.values())} tried, {len(count.failed)} failures")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
