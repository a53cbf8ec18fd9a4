"""Resolves the option ``--data``: simulated machines, a challenge year, a folder or a manifest."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from system import manifest
from system.corpora import delimited
from system.corpora.table import list_table
from system.errors import WheeltapperError
from system.files import read_json, write_json
from system.manifest import Clip
from system.stage import MARKERS

if TYPE_CHECKING:
    from system.corpora.challenge import Year

SYNTHETIC = "synthetic"
CHALLENGE = "dcase"
STARTED = ".0_data.source"  # beside the records of the stages while stage 0 runs, and after it failed: what it read


@dataclass(frozen=True)
class Source:
    """Source of the recordings of a run; they may still have to be made or downloaded.

    Args:
        data: the user's text.
        folder: folder of the recordings; None for a manifest or table.
        manifest: manifest or table of recordings, None for other sources.
        year: challenge year to download, None for other sources.
    """

    data: str
    folder: Path | None = None
    manifest: Path | None = None
    year: "Year | None" = None

    @property
    def synthetic(self) -> bool:
        """Whether the recordings are simulated."""
        return self.data == SYNTHETIC


def is_table(path: Path) -> bool:
    """Whether a path looks like a table."""
    return path.suffix.lower() in delimited.SUFFIXES and not path.is_dir()


def list_source(path: Path, corpus: str = "") -> tuple[list[Clip], list[str]]:
    """Clips of a manifest, or of a table by its columns (``table.list_table``), and the line of each; opens none.

    Args:
        path: the file.
        corpus: name of the corpus for a table that names none.
    """
    return manifest.read_lines(path) if manifest.is_manifest(path) else list_table(path, corpus=corpus)


def find_source(data: str, exp: Path, downloads: Path) -> Source:
    """Resolves the text of ``--data``.

    Args:
        data: ``synthetic``, ``dcase<year>``, a folder, or a manifest or table of recordings.
        exp: experiment folder, in which simulated recordings are written.
        downloads: folder of downloaded challenge years.

    Raises:
        WheeltapperError: none of these (the message suggests the nearest name), or a year whose development and
            evaluation machines cannot be in one run.
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
    """Value of ``--data`` in an earlier run of an experiment; empty if stage 0 was never started.

    Args:
        exp: experiment folder.
        downloads: folder of downloaded challenge years.
    """
    data = ""
    for name in (STARTED, "0_data.json"):
        try:
            record = dict(read_json(exp / MARKERS / name))
            data = data or str(dict(record.get("settings") or {}).get("data", ""))
        except (WheeltapperError, TypeError, ValueError):
            continue
    place = Path(data)
    is_year = re.fullmatch(rf"{CHALLENGE}[0-9]+", place.name) and place == (downloads / place.name).resolve()
    return place.name if is_year else data


def remember(exp: Path, data: str) -> None:
    """Keeps what stage 0 is about to read until it is on record; ``data`` as in the settings of the stage."""
    (exp / MARKERS).mkdir(exist_ok=True)
    write_json(exp / MARKERS / STARTED, {"settings": {"data": data}})


def check(source: Source) -> None:
    """Checks a folder without opening recordings: machine folders and file names. Lists are ``admission.admit``'s.

    Raises:
        WheeltapperError: lists the problems at which stage 0 would stop.
    """
    if source.folder and not source.synthetic and not source.year:
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
            f"{' or '.join(str(folder / part) for part in parts)}; download them with wheeltapper download --year "
            f"{number} --out {folder}"
        )
    return year


def _nearest(data: str) -> str:
    from system.corpora.year_files import known_years

    near = difflib.get_close_matches(data.lower(), [SYNTHETIC, *(f"{CHALLENGE}{year}" for year in known_years())], 1)
    return f"; did you mean {near[0]}?" if near else ""
