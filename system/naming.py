"""Names that machines, sections and recordings may have: those that file systems, a zip and the challenge's CSVs hold.

A machine's name is part of the names of files (weights, scores, decisions), and a recording's name stands in the
challenge's CSVs, which know no quotes. Each function returns what is wrong, as "expected ..., found ...", or nothing.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

LONGEST_MACHINE = 100  # bytes in UTF-8; a file name of 255 bytes also has to hold kind, section, fold and process id
LONGEST_FILE = 255  # bytes of each part of a recording's name
SECTION = re.compile(r"[0-9]{2}")
SEPARATORS = "/\\"
REFUSED = '/\\:*?"<>|'  # separators of folders, and what Windows refuses
NOT_IN_CSV = ',"/\\'  # in the names of recordings in the challenge's CSVs
FORMULA = "=+@"  # first letters of what spreadsheets calculate when they open a table of results
# On Windows, with any extension.
RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)


def machine_problem(name: str) -> str:
    """What is wrong with the name of a machine."""
    return _text_problem(name) or _portable_problem(name, "a machine's name")


def machine_problems(names: Sequence[str], places: Sequence[str]) -> list[str]:
    """What is wrong with the machines of recordings, each with the place of the first that has it.

    Args:
        names: of the machine of each recording.
        places: where each recording is listed.
    """
    first: dict[str, str] = {}
    for name, place in zip(names, places, strict=True):
        first.setdefault(name, place)
    found = [f"{place}: machine: {problem}" for name, place in first.items() if (problem := machine_problem(name))]
    return found + [
        f"{first[other]}: machine: expected names that differ in more than case, found {shown(one)}, {shown(other)}"
        for one, other in collisions(first)
    ]


def section_problem(section: str) -> str:
    """What is wrong with a section."""
    return "" if SECTION.fullmatch(section) else f"expected a section of two digits, found {shown(section)}"


def file_problem(name: str) -> str:
    """What is wrong with the name of a recording, which may hold folders, separated by /."""
    problem = _text_problem(name)
    if problem:
        return problem
    parts = name.split("/")
    if "\\" in name:
        return f"expected a name without \\, found {shown(name)}"
    if "" in parts or "." in parts or ".." in parts:
        return f"expected a name below a folder, without .., found {shown(name)}"
    if any(len(part.encode()) > LONGEST_FILE for part in parts):
        return f"expected names of at most {LONGEST_FILE} bytes, found {shown(name)}"
    return ""


def bare_file_problem(name: str) -> str:
    """What is wrong with the name of a recording in the challenge's CSVs."""
    if _text_problem(name) or set(name) & set(NOT_IN_CSV):
        return f"expected bare file names without commas or quotes, found {shown(name)}"
    return ""


def bare_file(name: str) -> str:
    """The name of a recording as the challenge's CSVs can hold it: _ for folders, commas and quotes."""
    return re.sub(f"[{re.escape(NOT_IN_CSV)}]", "_", name)


def text_problem(text: str) -> str:
    """What is wrong with text that may be empty: attributes, groups, names of corpora."""
    return _text_problem(text) if text else ""


def collisions(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of different names that some file systems take for one: they differ in case or in the form of accents."""
    seen: dict[str, str] = {}
    pairs = []
    for name in dict.fromkeys(names):
        other = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            pairs.append((other, name))
    return pairs


def shown(text: str, limit: int = 60) -> str:
    """Text for a message: quoted, with escapes, and cut."""
    return ascii(text) if len(text) <= limit else f"{text[:limit]!a}... ({len(text)} characters)"


def _text_problem(text: str) -> str:
    if not text.strip():
        return "expected text, found nothing"
    if not text.isprintable():
        odd = next(letter for letter in text if not letter.isprintable())
        name = unicodedata.name(odd, f"U+{ord(odd):04X}")
        return f"expected printable text, found {name} in {shown(text)}"
    if text != text.strip():
        return f"expected no spaces at the ends, found {shown(text)}"
    return ""


def _portable_problem(name: str, what: str) -> str:
    """What some file system refuses in a name of its own."""
    if odd := [letter for letter in name if letter in REFUSED]:
        return f"expected {what} without {odd[0]}, found {shown(name)}"
    if name[0] in FORMULA:
        return f"expected {what} without {name[0]} before it, which begins a formula, found {shown(name)}"
    if name[0] == "." or name[-1] == ".":
        return f"expected {what} without a dot at an end, found {shown(name)}"
    if RESERVED.fullmatch(name):
        return f"expected {what}, found {shown(name)}, which Windows reserves for a device"
    if len(name.encode()) > LONGEST_MACHINE:
        return f"expected {what} of at most {LONGEST_MACHINE} bytes, found {len(name.encode())} in {shown(name)}"
    return ""
