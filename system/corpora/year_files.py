"""Which years of the challenge are known, without reading their files.

A year is a file ``<year>.yaml`` (see ``challenge.Year``): one more file is all that a new year needs.
"""

from pathlib import Path

YEARS = Path(__file__).parent / "years"  # looked up at every call, so that a test can put another folder here


def known_years() -> list[int]:
    """Years with a file."""
    return sorted(int(path.stem) for path in YEARS.glob("*.yaml") if path.stem.isdigit())


def latest_year() -> int:
    """The newest of them."""
    return known_years()[-1]


def span() -> str:
    """The years in words, for help texts."""
    return f"{known_years()[0]} to {latest_year()}"


def year_path(year: int) -> Path:
    """Where the file of a year is, whether it exists or not."""
    return YEARS / f"{year}.yaml"
