"""Findings of the checks of a package, one line each."""

from dataclasses import dataclass, field

ERROR = "error"
WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One error or warning.

    Args:
        level: ``ERROR`` or ``WARNING``.
        where: path inside the package.
        line: line number from 1, or 0 if there is none.
        message: what was expected and what was found.
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
    """Collects findings, so that checks continue after the first one."""

    findings: list[Finding] = field(default_factory=list)

    def error(self, where: str, message: str, line: int = 0) -> None:
        self.findings.append(Finding(ERROR, where, line, message))

    def warning(self, where: str, message: str, line: int = 0) -> None:
        self.findings.append(Finding(WARNING, where, line, message))

    def sorted(self) -> list[Finding]:
        """Errors, then warnings, sorted by file and line, without duplicates."""
        unique = dict.fromkeys(self.findings)
        return sorted(unique, key=lambda found: (found.level != ERROR, found.where, found.line))


def printable(text: str) -> str:
    """Escapes control characters and lone surrogates, so that the text is one printable line."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def shorten(value: object, limit: int = 60) -> str:
    """Formats a value for a message: text is quoted, and nothing is longer than ``limit`` characters."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    # Python refuses str() of numbers with many digits.
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return "a number of more than 60 digits"
    text = repr(value[: limit + 1]) if isinstance(value, str) else str(value)
    return text if len(text) <= limit + 2 else text[: limit - 3] + "..." + (text[0] if isinstance(value, str) else "")


def listing(names: list[str], limit: int = 5) -> str:
    """The first names of a list, and the number of further ones."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
