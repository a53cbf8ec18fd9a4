"""Findings: what a check of a package has to say, one line each."""

from dataclasses import dataclass, field

ERROR = "error"
WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (error) or odd (warning).

    ``where`` is a path inside the package, ``line`` counts from 1 (0 where a line makes no sense), ``message`` says
    what was expected and what was found.
    """

    level: str
    where: str
    line: int
    message: str

    def __str__(self) -> str:
        place = f"{self.where}:{self.line}" if self.line else self.where
        return printable(f"{self.level}: {place}: {self.message}")


@dataclass
class Collector:
    """Gathers findings, so that a check can go on after the first."""

    findings: list[Finding] = field(default_factory=list)

    def error(self, where: str, message: str, line: int = 0) -> None:
        self.findings.append(Finding(ERROR, where, line, message))

    def warning(self, where: str, message: str, line: int = 0) -> None:
        self.findings.append(Finding(WARNING, where, line, message))

    def sorted(self) -> list[Finding]:
        """Errors before warnings, each by place; a finding that was made twice is listed once."""
        unique = dict.fromkeys(self.findings)
        return sorted(unique, key=lambda found: (found.level != ERROR, found.where, found.line))


def printable(text: str) -> str:
    """Text of one line that any terminal can show: control characters and lone surrogates as escapes."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def shorten(value: object, limit: int = 60) -> str:
    """A value as it may stand in a message: quoted when text, never longer than ``limit`` characters."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    # Not str() of the whole: a number of a million digits is refused by Python, and of no use to a reader.
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return "a number of more than 60 digits"
    text = repr(value[: limit + 1]) if isinstance(value, str) else str(value)
    return text if len(text) <= limit + 2 else text[: limit - 3] + "..." + (text[0] if isinstance(value, str) else "")


def listing(names: list[str], limit: int = 5) -> str:
    """The first names of a list and how many there are more."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
