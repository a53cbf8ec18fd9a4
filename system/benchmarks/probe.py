"""Frozen encoders compared on labelled recordings: trained weights, random weights, statistics of spectra."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from system import manifest
from system.benchmarks.frozen import READOUTS, compute_readouts, embed_clips, spectral_statistics
from system.benchmarks.labelled import ANOMALIES, SCORERS, choose_task, figures
from system.encoders.base import Encoder
from system.errors import WheeltapperError
from system.files import open_atomic
from system.manifest import Clip
from system.progress import progress_bar
from system.record import run_record
from system.text_table import aligned

TRAINED, RANDOM, BASELINE = "trained", "random", "statistics"

# (weights, read-out) -> (data set, figure) -> one value an encoder, in percent
Figures = dict[tuple[str, str], dict[tuple[str, str], list[float]]]


class Probed(NamedTuple):
    """An encoder, the kind of its weights (``trained`` or ``random``), and what tells it from others of its kind."""

    weights: str
    label: str
    encoder: Encoder


class DataSet(NamedTuple):
    """Labelled recordings: file of the manifest, what its labels allow (``labelled.choose_task``), clips."""

    path: str
    task: str
    clips: list[Clip]


def read_data_set(path: str) -> DataSet:
    """Labelled recordings of a manifest; WheeltapperError, which begins with the path, where nothing can be asked."""
    clips = manifest.read(path)
    try:
        return DataSet(path, *choose_task(clips))
    except WheeltapperError as error:
        raise WheeltapperError(f"{path}: {error}") from error


def random_weights(like: Encoder, seeds: Sequence[int]) -> list[Probed]:
    """Untrained encoders with the sizes and the front end of a given one."""
    return [
        Probed(
            RANDOM,
            f"seed {seed}",
            type(like).untrained(like.config, seed).set_front_end(like.filterbank, like.simam),
        )
        for seed in seeds
    ]


def check_sizes(probed: Sequence[Probed]) -> None:
    """Raises WheeltapperError where encoders that are to be compared have different sizes."""
    for each in probed[1:]:
        if each.encoder.config != probed[0].encoder.config:
            raise WheeltapperError(
                f"{each.label}: expected an encoder of the same sizes as {probed[0].label}, found others"
            )


def measure(
    probed: Sequence[Probed],
    data: Mapping[str, DataSet],
    readouts: Sequence[str] = READOUTS,
    baselines: bool = False,
    workers: int = 1,
) -> Figures:
    """Figures of all encoders on all data sets; every recording is read once.

    Args:
        probed: encoders, on their device.
        data: data sets by name.
        readouts: some of ``frozen.READOUTS``.
        baselines: whether statistics of spectra are measured too.
        workers: recordings read and computed at once.
    """
    found: Figures = {}
    for name, data_set in data.items():
        for key, figure, value in _measure(probed, name, data_set, readouts, baselines, workers):
            found.setdefault(key, {}).setdefault((name, figure), []).append(value)
    return found


def _measure(
    probed: Sequence[Probed], name: str, data: DataSet, readouts: Sequence[str], baselines: bool, workers: int
) -> Iterator[tuple[tuple[str, str], str, float]]:
    """((weights, read-out), figure, value) on one data set."""
    networks: dict[str, Callable] = {
        str(number): partial(compute_readouts, each.encoder) for number, each in enumerate(probed)
    }
    if baselines:
        networks[BASELINE] = spectral_statistics
    with progress_bar(len(data.clips), f"embedding {name}") as bar:
        near = data.task == ANOMALIES
        vectors = embed_clips(data.clips, networks, near=near, workers=workers, progress=bar.update)
    for network, kinds in vectors.items():
        weights = BASELINE if network == BASELINE else probed[int(network)].weights
        for kind, rows in kinds.items():
            if weights == BASELINE or kind in readouts:
                for figure, value in figures(data.clips, data.task, rows).items():
                    yield (weights, kind), figure, value


def document(probed: Sequence[Probed], data: Mapping[str, DataSet], found: Figures, ratio: bool) -> dict[str, Any]:
    """The result as JSON.

    Args:
        ratio: whether trained weights are divided by random ones.
    """
    encoder = probed[0].encoder
    labels: dict[str, list[str]] = {}
    for each in probed:
        labels.setdefault(each.weights, []).append(each.label)
    return {
        "encoder": {
            "family": encoder.family,
            "config": asdict(encoder.config),
            "filterbank": encoder.filterbank,
            "simam": encoder.simam,
        },
        "runs": labels,
        "sets": {
            name: {"manifest": each.path, "task": each.task, "recordings": len(each.clips)}
            for name, each in data.items()
        },
        "figures": rows(found, ratio),
        "record": run_record(),
    }


def rows(found: Figures, ratio: bool) -> list[dict[str, Any]]:
    """One row for each weights, read-out, data set and figure: values, mean, standard deviation, ratio to random."""
    entries = []
    for (weights, kind), values_of in found.items():
        for (name, figure), values in values_of.items():
            entry = {"weights": weights, "readout": kind, "set": name, "figure": figure, **_summary(values)}
            if ratio and weights == TRAINED:
                entry["ratio"] = _ratio(values, found[RANDOM, kind][name, figure])
            entries.append(entry)
    return entries


def table(found: Figures, ratio: bool) -> str:
    """Weights and read-outs down, data sets and their overall figures across: mean, ± deviation of several values."""
    columns = list(dict.fromkeys(column for values in found.values() for column in values if _is_overall(column[1])))
    lines = [["weights", "read-out", *(name for name, _ in columns)], ["", "", *(figure for _, figure in columns)]]
    for (weights, kind), values in found.items():
        lines.append([weights, kind, *(_cell(values[column]) for column in columns)])
    for weights, kind in found if ratio else ():
        if weights == TRAINED:
            ratios = [_ratio(found[weights, kind][column], found[RANDOM, kind][column]) for column in columns]
            lines.append(["ratio", kind, *("-" if value is None else f"{value:.2f}" for value in ratios)])
    return aligned(lines)


def _summary(values: list[float]) -> dict[str, Any]:
    return {
        "values": values,
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
    }


def _ratio(values: list[float], others: list[float]) -> float | None:
    """Of the means; None where there is nothing to divide by."""
    mean = sum(others) / len(others)
    return sum(values) / len(values) / mean if mean else None


def _is_overall(figure: str) -> bool:
    """Whether a figure stands for a whole data set and not for one machine of it."""
    return not any(figure.startswith(f"{name} ") for name in SCORERS)


def _cell(values: list[float]) -> str:
    summary = _summary(values)
    return f"{summary['mean']:.2f}" + ("" if summary["std"] is None else f" ± {summary['std']:.2f}")


def write_csv(path: Path, found: Figures, ratio: bool) -> None:
    """Writes ``rows`` with mean, standard deviation (of several values) and ratio, numbers in percent."""
    names = ["weights", "readout", "set", "figure", "mean", "std", *(["ratio"] if ratio else [])]
    with open_atomic(path) as file:
        writer = csv.DictWriter(file, names, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {key: "" if value is None else value for key, value in row.items()} for row in rows(found, ratio)
        )
