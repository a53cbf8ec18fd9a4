"""Which years of the challenge are known, without reading their files."""

from pathlib import Path

YEARS = Path(__file__).parent / "years"


def known_years() -> list[int]:
    """Years with a file."""
    return sorted(int(path.stem) for path in YEARS.glob("*.yaml") if path.stem.isdigit())
