"""HTML reports of runs, studies, tunings and benchmarks."""

from system.report.page import write_report

__all__ = ["write_report"]
