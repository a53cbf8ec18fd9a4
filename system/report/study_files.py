"""What a study left behind, for its page: recordings, parts, embeddings, scores."""

import csv
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from system import config, manifest
from system.errors import WheeltapperError
from system.manifest import Clip
from system.study.data import LABELS, TEST, SplitRow, name_of, read_split
from system.study.results import read_results

KINDS = {"frozen": "frozen", "finetuned": "fine-tuned"}  # of embeddings: as the file and as the page calls them


@dataclass(frozen=True)
class Study:
    """A study's folder: its configuration, its clips by name, the rows of the scopes that it has split."""

    folder: Path
    config: config.Config
    clips: dict[str, Clip]
    scopes: dict[str, list[SplitRow]]

    def model_folder(self, scope: str, model: str) -> Path:
        return self.folder / scope / model


def read_study(folder: str | os.PathLike, scope: str = "") -> Study:
    """Reads a study's folder; one scope of it, or all that were split.

    Raises WheeltapperError where the folder is none of a study's, or a file of it is damaged.
    """
    folder = Path(folder)
    if not (folder / "config.yaml").is_file():
        raise WheeltapperError(f"{folder}: expected the folder of a study with its config.yaml, found none")
    settings = config.load(folder / "config.yaml")
    known = list(settings.study.scopes)
    if scope and scope not in known:
        raise WheeltapperError(f"scope: expected one of {', '.join(known) or 'none'}, found {scope!r}")
    split = [name for name in ([scope] if scope else known) if (folder / name / "split.csv").is_file()]
    if not split:
        raise WheeltapperError(f"{folder}: expected the split.csv of a scope, found none: wheeltapper study writes it")
    clips = {name_of(clip): clip for clip in manifest.read(folder / "manifest.csv")}
    scopes = {name: read_split(folder / name / "split.csv") for name in split}
    for name, rows in scopes.items():
        missing = [row.name for row in rows if row.name not in clips]
        if missing:
            raise WheeltapperError(
                f"{folder / name / 'split.csv'}: expected clips of {folder / 'manifest.csv'}, found {missing[0]}"
            )
    return Study(folder, settings, clips, scopes)


def read_embeddings(path: str | os.PathLike, rows: Sequence[SplitRow]) -> dict[str, np.ndarray]:
    """Embeddings (N, D) of the scope's rows by kind, ``frozen`` and where there are any ``finetuned``.

    Raises WheeltapperError where the file is missing, damaged, or of other clips.
    """
    try:
        with np.load(path) as file:
            names = file["names"].tolist()
            found = {kind: file[kind] for kind in KINDS if kind in file}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise WheeltapperError(f"{path}: expected embeddings (names, frozen, finetuned), found {error!r}") from error
    if names != [row.name for row in rows]:
        raise WheeltapperError(f"{path}: expected the {len(rows)} clips of split.csv in their order, found other ones")
    for kind, values in found.items():
        if values.ndim != 2 or len(values) != len(rows) or not np.isfinite(values).all():
            raise WheeltapperError(f"{path}: {kind}: expected finite numbers ({len(rows)}, D), found {values.shape}")
    return found


def read_scores(path: str | os.PathLike) -> dict[str, float]:
    """The fine-tuned network's score of each clip by name, as ``supervised.csv`` has it.

    Raises WheeltapperError where the file is missing or damaged.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return {line["name"]: float(line["supervised"]) for line in csv.DictReader(file)}
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise WheeltapperError(f"{path}: expected scores (name,part,label,supervised), found {error!r}") from error


def typical(rows: Sequence[SplitRow], scores: Mapping[str, Mapping[str, float]]) -> dict[str, SplitRow]:
    """For each label the test clip in the middle: that of the lower median among its kind by the sum of its ranks by
    the models' scores; of equal ones the first by name.

    Args:
        scores: by model, then by name of the clip. Raises WheeltapperError where one is missing.
    """
    chosen = {}
    for label in LABELS:
        tested = sorted((row for row in rows if row.part == TEST and row.label == label), key=lambda row: row.name)
        ranks = np.zeros(len(tested))
        for model, known in scores.items():
            missing = [row.name for row in tested if row.name not in known]
            if missing:
                raise WheeltapperError(f"{model}: expected a score of every test clip, found none of {missing[0]}")
            ranks += rankdata([known[row.name] for row in tested]) if tested else 0.0
        order = np.argsort(ranks, kind="stable")
        if tested:
            chosen[label] = tested[order[(len(tested) - 1) // 2]]
    return chosen


def results_table(study: Study) -> dict[str, Any] | str:
    """Areas under the ROC curve by row and scope, the best of each scope marked; or why there are none.

    Raises WheeltapperError where results.json is damaged.
    """
    path = study.folder / "results.json"
    if not path.is_file():
        return "The study has no results yet."
    found = read_results([path])
    scopes = [scope for scope in study.scopes if any(scope in row for row in found.values())]
    best = {scope: max(round(row[scope][0], 4) for row in found.values() if scope in row) for scope in scopes}
    rows = []
    for name, row in found.items():
        cells = [
            {
                "text": f"{100 * row[scope][0]:.2f}" if scope in row else "",
                "level": round(max(0.0, 200 * row[scope][0] - 100)) if scope in row else 0,
                "best": scope in row and round(row[scope][0], 4) == best[scope],
                "below": scope in row and row[scope][0] < 0.5,
            }
            for scope in scopes
        ]
        rows.append({"name": name, "cells": cells})
    return {"scopes": scopes, "rows": rows} if scopes else "The study has no results of these scopes."
