"""Files of embeddings for the benchmarks: an npz in which every field has one row per recording or clip.

Fault diagnosis: ``embeddings`` (N, D), ``label`` (class number), ``class_names``, ``file_name``. Some protocols need
``ori`` (the recording that a clip was cut from), ``group`` (a larger unit, such as all channels of one recording) or
``split`` (train or test). ``condition`` of the recording is optional.

Anomaly detection: ``embeddings``, ``file_name``, ``machine``, ``subset`` (dev or eval), ``split``, ``section``,
``domain`` (0 source, 1 target), ``anomaly`` (0 or 1).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from system.corpora.challenge import SUBSETS
from system.embeddings.files import READ_ERRORS
from system.errors import WheeltapperError

SPLITS = ("train", "test")
OPTIONAL = ("ori", "group", "split", "condition")  # optional fields of rows with classes
MAX_LISTED = 3  # rows listed in an error message


@dataclass(frozen=True)
class Labelled:
    """Rows with classes.

    Attributes:
        embeddings: (N, D).
        labels: class numbers, (N,).
        classes: names of the classes.
        files: file names, (N,).
        ori: recording that each row was cut from, (N,).
        group: unit that stays on one side of a split, (N,).
        split: train or test, (N,).
        condition: recording condition, (N,).
    """

    embeddings: np.ndarray
    labels: np.ndarray
    classes: list[str]
    files: np.ndarray
    ori: np.ndarray | None = None
    group: np.ndarray | None = None
    split: np.ndarray | None = None
    condition: np.ndarray | None = None


@dataclass(frozen=True)
class Machines:
    """Clips of machines.

    Attributes:
        embeddings: (N, D).
        files: file names, (N,).
        machine: (N,).
        subset: dev or eval, (N,).
        split: train or test, (N,).
        section: (N,).
        domain: 0 source, 1 target, (N,).
        anomalous: bool (N,).
    """

    embeddings: np.ndarray
    files: np.ndarray
    machine: np.ndarray
    subset: np.ndarray
    split: np.ndarray
    section: np.ndarray
    domain: np.ndarray
    anomalous: np.ndarray


def read_labelled(path: str | os.PathLike, field: str = "embeddings", needed: Sequence[str] = ()) -> Labelled:
    """Reads rows with classes.

    Args:
        path: npz file.
        field: name of the field of embeddings.
        needed: names among ``OPTIONAL`` that are required.

    Raises:
        WheeltapperError: a field is missing or has a wrong shape, an embedding is not finite or all zeros, a file name
            is repeated, a class has no rows, or a row has no class.
    """
    optional = [name for name in OPTIONAL if name not in needed]
    fields = _read(path, [field, "label", "class_names", "file_name", *needed], optional)
    names = fields.pop("class_names")
    _check(path, fields, field)
    labels = _whole(path, fields, "label")
    if names.ndim != 1 or len(set(names.tolist())) != len(names):
        raise WheeltapperError(f"{path}: class_names: expected distinct names, found {_some(names.ravel())}")
    bad = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(bad):
        found = f"{labels[bad[0]]} in {_rows(bad[:1], fields['file_name'])}"
        raise WheeltapperError(f"{path}: label: expected 0 to {len(names) - 1}, a row of class_names, found {found}")
    empty = np.flatnonzero(np.bincount(labels, minlength=len(names)) == 0)
    if len(empty):
        raise WheeltapperError(f"{path}: expected rows of every class, found none of {_some(names[empty])}")
    if len(names) < 2:
        raise WheeltapperError(f"{path}: expected at least 2 classes, found {_some(names)}")
    text = {name: fields[name].astype(str) for name in OPTIONAL if name in fields}
    if "split" in text:
        _choice(path, text["split"], "split", SPLITS, fields)
    return Labelled(fields[field], labels, [str(name) for name in names], fields["file_name"].astype(str), **text)


def read_machines(path: str | os.PathLike, field: str = "embeddings") -> Machines:
    """Reads clips of machines.

    Args:
        path: npz file.
        field: name of the field of embeddings.

    Raises:
        WheeltapperError: as for ``read_labelled``, or a training clip is anomalous.
    """
    text = ("machine", "subset", "split", "section")
    fields = _read(path, [field, "file_name", *text, "domain", "anomaly"])
    _check(path, fields, field)
    found = {name: fields[name].astype(str) for name in text}
    _choice(path, found["subset"], "subset", SUBSETS, fields)
    _choice(path, found["split"], "split", SPLITS, fields)
    for name in ("domain", "anomaly"):
        _choice(path, _whole(path, fields, name), name, (0, 1), fields)
    anomalous = fields["anomaly"] == 1
    bad = np.flatnonzero(anomalous & (found["split"] == "train"))
    if len(bad):
        raise WheeltapperError(
            f"{path}: expected normal training clips, found an anomalous one: {_rows(bad, fields['file_name'])}"
        )
    files = fields["file_name"].astype(str)
    return Machines(fields[field], files, **found, domain=_whole(path, fields, "domain"), anomalous=anomalous)


def _read(path: str | os.PathLike, needed: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The fields by name; those of ``optional`` if present."""
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise ValueError("a single array")
        with file:
            for name in needed:
                if name not in file.files:
                    found = ", ".join(file.files) or "none"
                    raise WheeltapperError(f"{path}: expected a field {name}, found the fields {found}")
            return {name: file[name] for name in (*needed, *optional) if name in file.files}
    except FileNotFoundError as error:
        raise WheeltapperError(f"{path}: expected an npz file with embeddings, found nothing") from error
    except READ_ERRORS as error:
        raise WheeltapperError(f"{path}: expected an npz file of plain arrays, found {error}") from error


def _check(path: str | os.PathLike, fields: dict[str, np.ndarray], field: str) -> None:
    """Checks shapes, the values of the embeddings, and that file names are unique."""
    rows = fields[field]
    if rows.ndim != 2 or not rows.size or not np.issubdtype(rows.dtype, np.floating):
        raise WheeltapperError(f"{path}: {field}: expected floats (N, D), found {rows.dtype} {rows.shape}")
    for name, values in fields.items():
        if name != field and values.shape != (len(rows),):
            raise WheeltapperError(
                f"{path}: {name}: expected one value for each of the {len(rows)} rows of {field}, found {values.shape}"
            )
    check_rows(path, rows, fields["file_name"], field)


def check_rows(where: str | os.PathLike, rows: np.ndarray, files: np.ndarray, field: str = "embeddings") -> None:
    """Raises WheeltapperError for embeddings that cannot be compared.

    Rows must be finite, not all zeros, and not all equal, and file names must be unique.

    Args:
        where: file or folder, for the message.
        rows: (N, D).
        files: file names, (N,).
        field: name of the field, for the message.
    """
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        found = _rows(bad, files)
        raise WheeltapperError(f"{where}: {field}: expected finite values, found NaN or infinity in {found}")
    bad = np.flatnonzero(~rows.any(axis=1))
    if len(bad):  # typical of recordings that could not be read; a zero vector has no direction
        found = _rows(bad, files)
        raise WheeltapperError(f"{where}: {field}: expected values other than 0, found only 0 in {found}")
    if len(rows) > 1 and not (rows != rows[0]).any():
        raise WheeltapperError(f"{where}: {field}: expected rows that differ, found {len(rows)} times the same")
    names, counts = np.unique(files, return_counts=True)
    if len(names) < len(files):
        raise WheeltapperError(f"{where}: file_name: expected each file once, found again {_some(names[counts > 1])}")


def _whole(path: str | os.PathLike, fields: dict[str, np.ndarray], name: str) -> np.ndarray:
    if not (np.issubdtype(fields[name].dtype, np.integer) or fields[name].dtype == bool):
        raise WheeltapperError(f"{path}: {name}: expected whole numbers, found {fields[name].dtype}")
    return fields[name].astype(np.int64)


def _choice(path: str | os.PathLike, values: np.ndarray, name: str, allowed: Sequence, fields: dict) -> None:
    bad = np.flatnonzero(~np.isin(values, allowed))
    if len(bad):
        expected = " or ".join(str(value) for value in allowed)
        raise WheeltapperError(
            f"{path}: {name}: expected {expected}, found {values[bad[0]]} in {_rows(bad, fields['file_name'])}"
        )


def _rows(bad: np.ndarray, files: np.ndarray) -> str:
    """Rows for a message: indices from 0, and file names."""
    named = ", ".join(f"row {row} ({files[row]})" for row in bad[:MAX_LISTED])
    return named if len(bad) <= MAX_LISTED else f"{named} and {len(bad) - MAX_LISTED} more"


def _some(names: Sequence | np.ndarray) -> str:
    named = ", ".join(str(name) for name in names[:MAX_LISTED])
    return named if len(names) <= MAX_LISTED else f"{named} and {len(names) - MAX_LISTED} more"
