"""The data sets of RMIS and SIREN: how each is embedded, and the task on it.

A prepared data set is a folder of its name with a ``manifest.csv`` of ``wheeltapper prepare``.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypedDict

import numpy as np

from system import manifest
from system.benchmarks import embedders
from system.benchmarks.anomaly import YEARS, check_year
from system.benchmarks.embedders import Embedder
from system.benchmarks.embedding_tables import Labelled, Machines, check_rows
from system.benchmarks.tasks import Options
from system.corpora import faults
from system.corpora.benchmark_years import subset_of
from system.corpora.challenge import SUBSETS, load_year
from system.corpora.faults.base import RECORDING
from system.corpora.faults.convert import CLAIM, MANIFEST
from system.corpora.names import attribute_pairs
from system.corpora.table import class_of
from system.encoders.base import Encoder
from system.errors import WheeltapperError
from system.evaluation.truth import DOMAINS
from system.files import read_json
from system.manifest import Clip

CHALLENGE = "dcase"
CHALLENGE_RATE = 16000  # Hz, to which RMIS resamples the clips of the challenge
SECONDS = 10.0  # default length of a segment (RMIS)


class Settings(TypedDict, total=False):
    """Fields of ``tasks.Options`` that differ between data sets."""

    test_size: float
    channels: int
    year: int


@dataclass(frozen=True)
class DatasetPlan:
    """What a benchmark does with one data set.

    Args:
        name: of the data set and its folder.
        task: name in ``tasks.TASKS``.
        view: benchmark for which the set is prepared.
        settings: options of the task for this data set.
        seconds: length of a segment (RMIS).
        each: embed every channel (SIREN).
        shown: whether the table of the benchmark has a column for it.
        clips: number of clips, 0 if unknown.
    """

    name: str
    task: str
    view: str
    settings: Settings = field(default_factory=Settings)
    seconds: float = SECONDS
    each: bool = False
    shown: bool = True
    clips: int = 0

    @property
    def year(self) -> int | None:
        """Year of a set of the challenge, otherwise None."""
        return int(self.name.removeprefix(CHALLENGE)) if self.name.startswith(CHALLENGE) else None

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of the data set in the benchmark's order; empty for sets of the challenge."""
        return () if self.year else faults.find_corpus(self.name).view(self.view)[1].classes

    def raw(self, root: str | os.PathLike) -> Path:
        """Where the publisher's files lie below a folder: those of one publisher together."""
        return Path(root) / (self.name if self.year else self.name.split("_")[0])

    def embedder(self, encoder: Encoder | str) -> Embedder:
        """The embedder for the recordings of the set; an encoder given by name is one of ``embedders.STATISTICS``."""
        if isinstance(encoder, str):
            return embedders.statistics(encoder, self.each)
        if self.task.startswith("siren"):
            return embedders.siren(encoder, self.each)
        return embedders.rmis(encoder, self.seconds, CHALLENGE_RATE if self.year else 0)

    def options(self, options: Options) -> Options:
        """The options, with this data set's own settings."""
        return replace(options, **self.settings)


def _years(task: str) -> list[DatasetPlan]:
    return [DatasetPlan(f"{CHALLENGE}{year}", task, "", {"year": year}) for year in YEARS]


# Segments and test sizes: FISHER paper, section 4, and RMIS's code.
_RMIS = [
    *_years("rmis-ad"),
    DatasetPlan("iica", "rmis-fixed", "rmis"),
    DatasetPlan("iiee", "rmis-official", "rmis", seconds=3.0),
    DatasetPlan("wtpg", "rmis-fixed", "rmis"),
    DatasetPlan("mafaulda_sound", "rmis-fixed", "rmis", seconds=5.0, clips=1951),
    DatasetPlan("mafaulda_vib", "rmis-fixed", "rmis", seconds=5.0, clips=6 * 1951),
    *(DatasetPlan(f"sdust_{kind}", "rmis-fixed", "rmis") for kind in ("bearing", "gear")),
    *(
        DatasetPlan(f"umged_{kind}", "rmis-fixed", "rmis", {"test_size": 0.2})
        for kind in ("sound", "vib", "vol", "cur")
    ),
    *(DatasetPlan(f"pu_{kind}", "rmis-fixed", "rmis", seconds=4.0) for kind in ("vib", "cur")),
]
# Vibration of MaFaulDa: six accelerometers and the tachometer. MFPT is not part of either benchmark.
_SIREN = [
    *_years("siren-ad"),
    DatasetPlan("iiee", "siren-official", "siren"),
    DatasetPlan("iica", "siren-kfold", "siren"),
    DatasetPlan("cwru", "siren-loocv", "siren", clips=105),
    DatasetPlan("mafaulda_vib", "siren-loocv", "siren", {"channels": 7}, each=True, clips=1951),
    DatasetPlan("mafaulda_sound", "siren-loocv", "siren", {"channels": 1}, clips=1951),
    DatasetPlan("mfpt", "siren-loocv", "own", shown=False),
]
SUITES: dict[str, list[DatasetPlan]] = {
    "rmis": _RMIS,
    "rmis-multisplit": [replace(plan, task="rmis-multisplit") for plan in _RMIS if plan.task == "rmis-fixed"],
    "siren": _SIREN,
}


def choose(suite: str, names: Iterable[str] | None = None) -> list[DatasetPlan]:
    """The plans of a suite, or those of the named data sets; WheeltapperError for an unknown name."""
    plans = {plan.name: plan for plan in SUITES[suite]}
    unknown = [name for name in names or () if name not in plans]
    if unknown:
        raise WheeltapperError(f"{suite}: expected some of {', '.join(plans)}, found {unknown[0]!r}")
    return [plan for plan in plans.values() if not names or plan.name in set(names)]


def read_clips(plan: DatasetPlan, root: str | os.PathLike) -> list[Clip] | None:
    """The clips of a data set from ``root/<name>/manifest.csv``; None if there is no such file.

    Raises:
        WheeltapperError: the set was prepared for another benchmark, or has no clips for this one.
    """
    folder = Path(root) / plan.name
    path = folder / MANIFEST
    if not path.is_file():
        return None
    if plan.view and (folder / CLAIM).is_file():
        purpose = read_json(folder / CLAIM)
        expected = {"corpus": plan.name, "view": plan.view}
        if purpose != expected:
            raise WheeltapperError(
                f"{folder}: expected a data set prepared for {expected}, found {purpose} (wheeltapper prepare --corpus "
                f"{plan.name} --view {plan.view})"
            )
    found = manifest.read(path)
    if plan.year:
        clips = [clip for clip in found if clip.split == "train" or (clip.split == "test" and clip.label)]
    else:
        clips = [clip for clip in found if class_of(clip)]
    if not clips:
        kind = "labelled clips" if plan.year else "clips with classes"
        raise WheeltapperError(f"{path}: expected {kind}, found none among {len(found)}")
    return clips


def lacks(plan: DatasetPlan, clips: Iterable[Clip]) -> str:
    """What a data set lacks to be comparable with published results; empty if nothing is known to be missing.

    For a set of the challenge these are sections of machines, for others clips, if their number is known.
    """
    clips = list(clips)
    if plan.year:
        year = load_year(plan.year)
        needed = [
            (machine, section, split)
            for subset in SUBSETS
            for machine, about in year.machines[subset].items()
            for section in about.sections
            for split in ("train", "test")
        ]
        there = {(clip.machine, clip.section, clip.split) for clip in clips}
        absent = [key for key in needed if key not in there]
        if not absent:
            return ""
        machine, section, split = absent[0]
        return f"{len(absent)} of {len(needed)} parts, such as {machine} section {section} {split} with its labels"
    return f"{plan.clips - len(clips)} of {plan.clips} clips" if 0 < len(clips) < plan.clips else ""


def duplicates(clips: Iterable[Clip]) -> int:
    """Number of clips with the content of an earlier clip."""
    digests = [clip.digest for clip in clips]
    return len(digests) - len(set(digests))


def rows_of(plan: DatasetPlan, clips: list[Clip], embeddings: np.ndarray, where: str) -> Labelled | Machines:
    """The rows of a benchmark: embeddings of the clips with their labels.

    Args:
        plan: data set.
        clips: of the data set.
        embeddings: of the clips, (N, D).
        where: file or folder, for messages.

    Raises:
        WheeltapperError: embeddings cannot be compared, a class has no clips, or a set outside the tables has fewer
            than two classes.
    """
    files = np.array([clip.file for clip in clips])
    if plan.year:
        machines = Machines(
            embeddings,
            np.array(["/".join(clip.key) for clip in clips]),
            machine=np.array([clip.machine for clip in clips]),
            subset=np.array([subset_of(clip, plan.year) for clip in clips]),
            split=np.array([clip.split for clip in clips]),
            section=np.array([clip.section for clip in clips]),
            domain=np.array([_domain(clip, plan.year) for clip in clips]),
            anomalous=np.array([clip.label == "anomaly" for clip in clips]),
        )
        check_rows(where, embeddings, machines.files)
        return machines
    check_rows(where, embeddings, np.array([f"{clip.split}/{clip.file}" for clip in clips]))
    facts = [dict(attribute_pairs(clip.attributes)) for clip in clips]
    classes = list(plan.classes)
    named = [class_of(clip) for clip in clips]
    for clip, name in zip(clips, named, strict=True):
        if name not in classes:
            raise WheeltapperError(f"{clip.path}: expected a class {', '.join(classes)}, found {name}")
    absent = [name for name in classes if name not in set(named)]
    if absent and (plan.shown or len(absent) > len(classes) - 2):
        raise WheeltapperError(f"{where}: expected clips of every class, found none of {', '.join(absent)}")
    classes = [name for name in classes if name not in absent]
    groups = [clip.group or clip.file for clip in clips]
    return Labelled(
        embeddings,
        np.array([classes.index(name) for name in named]),
        classes,
        files,
        ori=np.array(groups),
        group=np.array([fact.get(RECORDING, own) for fact, own in zip(facts, groups, strict=True)]),
        split=np.array([clip.split for clip in clips]),
        condition=np.array([fact["condition"] for fact in facts])
        if all("condition" in fact for fact in facts)
        else None,
    )


def _domain(clip: Clip, year: int) -> int:
    """0 source, 1 target; in years without domains all clips are source."""
    if not clip.domain and check_year(year).domains:
        raise WheeltapperError(f"{clip.path}: expected its domain, source or target, found none")
    return DOMAINS.index(clip.domain) if clip.domain else 0
