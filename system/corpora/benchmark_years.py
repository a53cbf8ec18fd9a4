"""A year of DCASE Task 2 as RMIS and SIREN ask for it: development and evaluation in one, all test clips labelled."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from system.corpora.challenge import SUBSETS, Year, load_year
from system.corpora.dcase import prepare_dcase
from system.corpora.truth import read_truth
from system.errors import WheeltapperError
from system.evaluation.truth import Truth
from system.manifest import Clip


def prepare_year(
    year: int | Year,
    folder: str | os.PathLike,
    truth: str | os.PathLike | None = None,
    corrected: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Clip]:
    """The clips of a year as ``download_dcase`` leaves it: ``dev/`` and ``eval/`` (to 2022) or ``raw/``.

    Args:
        truth: of the evaluation machines, see ``read_truth``; None leaves their test clips without label.
        corrected: see ``read_truth``. progress: called with (done, total) of each folder.

    Returns:
        clips of the corpus ``dcase<year>``, sorted by machine, section, split and file; what is missing is left out.

    Raises WheeltapperError for a folder without any of these, a machine or section of another year, a test clip that
    the truth does not know, and what ``prepare_dcase`` raises.
    """
    year = load_year(year) if isinstance(year, int) else year
    folder = Path(folder)
    names = list(dict.fromkeys(part.folder for part in year.archives.values()))
    places = [folder / name for name in names if (folder / name).is_dir()]
    if not places:
        raise WheeltapperError(f"{folder}: expected {' and '.join(f'{name}/' for name in names)} of {year.year}")
    clips = [clip for place in places for clip in prepare_dcase(place, f"dcase{year.year}", progress=progress)]
    for clip in clips:
        subset_of(clip, year)
    if truth is not None:
        rows = {(row.machine, row.section, row.file): row for row in read_truth(truth, year, corrected)}
        clips = [_labelled(clip, rows, truth) for clip in clips]
    return sorted(clips, key=lambda clip: clip.key)


def subset_of(clip: Clip, year: int | Year) -> str:
    """``dev`` or ``eval``: where the year has the clip's machine and section; WheeltapperError where it has not."""
    year = load_year(year) if isinstance(year, int) else year
    for subset in SUBSETS:
        machine = year.machines[subset].get(clip.machine)
        if machine and clip.section in machine.sections:
            return subset
    raise WheeltapperError(
        f"{clip.path}: expected a machine and section of {year.year}, found {clip.machine} section {clip.section}"
    )


def _labelled(clip: Clip, rows: dict[tuple[str, str, str], Truth], truth: str | os.PathLike) -> Clip:
    if clip.split != "test" or clip.label:
        return clip
    row = rows.get((clip.machine, clip.section, clip.file))
    if row is None:
        raise WheeltapperError(f"{truth}: expected the truth of {clip.path}, found none")
    return replace(clip, label=row.label, domain=row.domain)
