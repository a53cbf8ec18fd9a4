"""A rule and what a check of it found."""

from dataclasses import dataclass, field

SHOWN = 5  # of many findings of one kind


@dataclass
class Rule:
    """One rule of the challenge on one run.

    Args:
        name: short, for messages. says: the rule. checked: what was looked at.
        violations: what breaks it, one sentence each. notes: what is odd, or could not be checked.
    """

    name: str
    says: str
    checked: str = ""
    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def break_each(self, sentences: list[str]) -> None:
        """Takes many violations of one kind: the first few and how many there are more."""
        self.violations += sentences[:SHOWN]
        if len(sentences) > SHOWN:
            self.violations.append(f"and {len(sentences) - SHOWN} more like the last")
