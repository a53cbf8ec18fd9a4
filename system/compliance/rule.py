"""A rule of the challenge and the result of its check."""

from dataclasses import dataclass, field

MAX_LISTED = 5  # violations of one kind that are listed


@dataclass
class ComplianceRule:
    """One rule of the challenge, checked on one run.

    Args:
        name: short name, for messages.
        says: the rule.
        checked: what was examined.
        violations: one sentence each.
        notes: remarks, and what could not be checked.
    """

    name: str
    says: str
    checked: str = ""
    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def break_each(self, sentences: list[str]) -> None:
        """Adds many violations of one kind: the first few, and the number of the others."""
        self.violations += sentences[:MAX_LISTED]
        if len(sentences) > MAX_LISTED:
            self.violations.append(f"and {len(sentences) - MAX_LISTED} more like the last")
