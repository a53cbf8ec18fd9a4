"""The report of a run, for people who would rather look than read."""

from system.report.page import write_report

__all__ = ["write_report"]
