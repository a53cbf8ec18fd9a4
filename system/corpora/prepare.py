"""Recordings of any kind to the clips of a manifest: a folder, a table of files, or a year of the challenge."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from system.corpora.benchmark_years import prepare_year
from system.corpora.dcase import prepare_dcase
from system.corpora.source import is_table
from system.corpora.table import prepare_files, prepare_table
from system.errors import WheeltapperError
from system.manifest import Clip

COLUMNS = ("file", "class", "fold", "group")  # of a table, that options name

Progress = Callable[[int, int], None]


def prepare_source(
    source: Path,
    corpus: str = "",
    *,
    layout: str = "dcase",
    normal: bool = False,
    year: int | None = None,
    truth: Path | None = None,
    corrected: bool = False,
    root: Path | None = None,
    columns: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
    others: str = "refuse",
    progress: Progress | None = None,
) -> list[Clip]:
    """Reads recordings and what is known about them.

    Args:
        source: folder in the challenge's layout, any folder of sound files, or a CSV table of files.
        corpus: name of the corpus; empty for ``dcase``, or the name of the folder.
        layout: of a folder: ``dcase``, or ``files`` for every sound file below it as a training clip.
        normal: whether files of a table or of ``layout="files"`` are labelled normal; otherwise they have no label.
        year: challenge year of a folder that ``wheeltapper download --year`` left, both phases in one manifest.
        truth: CSV with the published labels of the year's evaluation machines.
        corrected: whether the labels of a ``truth`` that is known to be wrong were corrected.
        root: folder to which a table's paths are relative; None for the table's own.
        columns: names of a table's columns, by ``COLUMNS``; empty for the usual name, or none.
        where: conditions ``column=value`` or ``column~regex`` for the rows of a table that are kept.
        others: what becomes of a table's columns that a manifest does not know, of ``table.OTHERS``.
        progress: called with the number of recordings read and the number of all.

    Raises:
        WheeltapperError: an argument does not go with the kind of source, or a recording cannot be read.
    """
    if truth and year is None:
        raise WheeltapperError("--truth: expected --year")
    if corrected and not truth:
        raise WheeltapperError("--corrected: expected --truth")
    if year is not None:
        return prepare_year(year, source, truth, corrected, progress)
    if is_table(source):
        if layout != "dcase":
            raise WheeltapperError(f"--layout {layout}: expected a folder, found the table {source}")
        named: dict[str, Any] = {f"{name}_column": column for name, column in (columns or {}).items()}
        return prepare_table(
            source, root, **named, where=where, corpus=corpus, normal=normal, others=others, progress=progress
        )
    given = [f"--{name}-column" for name, column in (columns or {}).items() if column]
    given += [f"--{name}" for name, value in (("root", root), ("where", where)) if value]
    given += ["--other-columns"] * (others != "refuse")
    if given:
        raise WheeltapperError(f"{given[0]}: expected a TABLE.csv of files, found the folder {source}")
    if layout == "files":
        return prepare_files(source, corpus, normal, progress=progress)
    if normal:
        raise WheeltapperError("--normal: expected a TABLE.csv or --layout files; DCASE names say it themselves")
    return prepare_dcase(source, corpus or "dcase", progress=progress)
