"""What ``--data`` of a recipe names: simulated machines, a year of the challenge, a folder or a manifest."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from system import manifest
from system.errors import WheeltapperError
from system.files import read_json
from system.stage import MARKERS

if TYPE_CHECKING:
    from system.corpora.challenge import Year

SYNTHETIC = "synthetic"
CHALLENGE = "dcase"


@dataclass(frozen=True)
class Source:
    """Recordings, there or to come.

    Args:
        data: as the user says it.
        folder: where the recordings are or will be; None where a manifest tells.
        manifest: None for any other source.
        year: of the challenge, to be downloaded.
    """

    data: str
    folder: Path | None = None
    manifest: Path | None = None
    year: "Year | None" = None

    @property
    def synthetic(self) -> bool:
        """Whether the recordings are to be simulated."""
        return self.data == SYNTHETIC


def is_table(path: Path) -> bool:
    """Whether a path is meant as a csv file."""
    return path.suffix.lower() == ".csv" and not path.is_dir()


def find(data: str, exp: Path, downloads: Path) -> Source:
    """The source of a name.

    Args:
        data: ``synthetic``, ``dcase<year>``, a folder, or a manifest.csv.
        exp: experiment folder, below which simulated recordings go. downloads: where a year of the challenge goes.

    Raises WheeltapperError, with the nearest name, where it is none of these, or a year whose development and
    evaluation machines cannot be one run.
    """
    if data == SYNTHETIC:
        return Source(data, exp / "data")
    if is_table(Path(data)):
        return Source(data, manifest=Path(data))
    if match := re.fullmatch(rf"{CHALLENGE}([0-9]+)", data):
        return Source(data, downloads / data, year=_year(data, int(match[1]), downloads / data))
    if not Path(data).is_dir():
        found = "a file" if Path(data).exists() else "no such folder"
        raise WheeltapperError(
            f"--data {data}: expected synthetic, dcase<year>, a folder or a manifest.csv, found {found}{_nearest(data)}"
        )
    return Source(data, Path(data))


def remembered(exp: Path, downloads: Path) -> str:
    """What --data named in an earlier run in an experiment folder; empty where stage 0 was never complete."""
    try:
        record = dict(read_json(exp / MARKERS / "0_data.json"))
    except (WheeltapperError, TypeError, ValueError):
        return ""
    data = str(dict(record.get("settings") or {}).get("data", ""))
    place = Path(data)
    is_year = re.fullmatch(rf"{CHALLENGE}[0-9]+", place.name) and place == (downloads / place.name).resolve()
    return place.name if is_year else data


def check(source: Source) -> None:
    """Looks at what is there: the machines of a folder, the names of their recordings, the header of a manifest.

    Raises WheeltapperError that lists what stage 0 would stop at; a recording itself is not opened.
    """
    if source.manifest:
        manifest.check_header(source.manifest)
    elif source.folder and not source.synthetic and not source.year:
        from system.corpora import dcase

        dcase.check_layout(source.folder)


def _year(data: str, number: int, folder: Path) -> "Year":
    from system.corpora.challenge import load_year
    from system.corpora.year_files import known_years

    if number not in known_years():
        years = ", ".join(f"{CHALLENGE}{year}" for year in known_years())
        raise WheeltapperError(f"--data {data}: expected one of {years}")
    year = load_year(number)
    parts = list(dict.fromkeys(part.folder for part in year.archives.values()))
    if len(parts) > 1:
        raise WheeltapperError(
            f"--data {data}: development and evaluation share machine names in {number}: give one of them as --data, "
            f"{' or '.join(str(folder / part) for part in parts)}, which wheeltapper download --year {number} --out "
            f"{folder} fetches"
        )
    return year


def _nearest(data: str) -> str:
    from system.corpora.year_files import known_years

    near = difflib.get_close_matches(data.lower(), [SYNTHETIC, *(f"{CHALLENGE}{year}" for year in known_years())], 1)
    return f"; did you mean {near[0]}?" if near else ""
