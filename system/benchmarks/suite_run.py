"""RMIS or SIREN whole: an encoder over all data sets that are there, each recording embedded once."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from system import processes
from system.benchmarks import results, suites, tasks
from system.benchmarks.embedding_tables import Labelled
from system.benchmarks.suites import DatasetPlan
from system.benchmarks.tasks import TASKS, Options
from system.embeddings.store import EmbeddingStore
from system.encoders.base import Encoder
from system.errors import WheeltapperError
from system.files import write_json
from system.machine import one_thread_each
from system.manifest import Clip
from system.progress import progress_bar
from system.record import run_record

Row = dict[str, Any]


@dataclass
class SuiteResult:
    """What an encoder reached.

    Args:
        suite: key of ``suites.SUITES``.
        name: of the encoder in tables.
        options: with which the tasks ran.
        found: by data set what ``tasks.measure`` found, with what the data set lacks and where its embeddings are.
        failed: by data set why it has no figure.
        missing: data sets that are not there.
    """

    suite: str
    name: str
    options: Options
    found: dict[str, Row] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def figures(self) -> dict[str, float]:
        """Data set -> figure in percent."""
        every = {name: row[TASKS[row["task"]].score] for name, row in self.found.items()}
        return {name: value for name, value in every.items() if value is not None}

    @property
    def scores(self) -> dict[str, float]:
        """The figures that may stand beside published ones: of whole data sets that the benchmark's table has."""
        shown = {plan.name for plan in suites.SUITES[self.suite] if plan.shown}
        return {name: value for name, value in self.figures.items() if name in shown and not self.found[name]["lacks"]}

    def table(self) -> str:
        """Data sets and figures for the terminal."""
        if not self.figures:
            return f"{self.name}: no figure"
        rows: list[list[Any]] = [["data set", "figure", "%"]]
        for name, value in self.figures.items():
            task = self.found[name]["task"]
            note = "" if name in self.scores else " (not for the table)"
            rows.append([name, f"{task}, {TASKS[task].score}{note}", value])
        return f"{self.name}, {self.suite}, protocol {self.options.protocol}\n\n{results.table(rows)}\n"

    def write(self, path: Path) -> None:
        """Writes the result as JSON, which ``wheeltapper leaderboard`` reads."""
        scores = self.scores
        value = {
            "benchmark": self.suite,
            "encoder": self.name,
            "protocol": self.options.protocol,
            "sealed": self.options.sealed,
            "scores": scores,
            "beside": {name: figure for name, figure in self.figures.items() if name not in scores},
            "missing": self.missing,
            "failed": self.failed,
            "sets": self.found,
        }
        write_json(path, value | {"record": run_record()})


def run_suite(
    suite: str,
    root: Path,
    encoder: Encoder | str,
    name: str,
    options: Options,
    store: Path,
    sets: Sequence[str] | None = None,
    workers: int = 0,
) -> SuiteResult:
    """Embeds and measures the data sets of a benchmark, and prints the result of each.

    Args:
        suite: key of ``suites.SUITES``.
        root: folder with ``<data set>/manifest.csv``.
        encoder: on its device, or the name of one of ``protocols.STATISTICS``.
        name: of the encoder in tables.
        options: of the tasks.
        store: folder in which embeddings are kept.
        sets: names of the data sets to run; None for all.
        workers: recordings read and computed at once; 0 for one per CPU core.

    Raises:
        WheeltapperError: no data set is there. One that fails leaves the others alone.
    """
    result = SuiteResult(suite, name, options)
    # The years of the challenge may be named with every suite, though rmis-multisplit has none of them.
    chosen = {plan.name for plan in suites.choose(suite.removesuffix("-multisplit"), sets)}
    plans = [plan for plan in suites.SUITES[suite] if plan.name in chosen]
    for plan in plans:
        try:
            clips = suites.read_clips(plan, root)
            if clips is None:
                result.missing.append(plan.name)
            else:
                row = _run(plan, clips, encoder, options, root, store, workers)
                if row is not None:
                    result.found[plan.name] = row
        except WheeltapperError as error:  # the other data sets have their figures all the same
            result.failed[plan.name] = str(error)
            if processes.is_main():
                print(f"{plan.name}: failed\n", flush=True)
    if len(result.missing) == len(plans):
        raise WheeltapperError(
            f"{root}: expected data sets prepared for {suite}, found none of {', '.join(result.missing)}"
        )
    return result


def _run(
    plan: DatasetPlan,
    clips: list[Clip],
    encoder: Encoder | str,
    options: Options,
    root: Path,
    folder: Path,
    workers: int,
) -> Row | None:
    """Embeds a data set and measures it; None in the processes that only help to embed."""
    embedder = plan.embedder(encoder)
    store = EmbeddingStore(folder, plan.name, embedder.facts, clips)
    share = (int(os.environ.get("RANK", "0")), processes.count())
    if store.read() is None:
        with progress_bar(store.missing(), f"embedding {plan.name}") as bar:
            store.fill(embedder, one_thread_each(workers), share, lambda done: bar.update(done * share[1]))
    if not processes.is_main():
        return None
    store.wait()
    rows = suites.rows_of(plan, clips, np.asarray(store.finish()), f"{root / plan.name}")
    result, text = tasks.measure(plan.task, rows, plan.options(options))
    copies, lacking = suites.duplicates(clips), suites.lacks(plan, clips)
    print(f"{plan.name}, {plan.task}, protocol {options.protocol}: {result['rows']} rows x {result['dimensions']}\n")
    print(text)
    for change in result["changes"]:
        print(f"changed: {change}")
    if isinstance(rows, Labelled) and len(rows.classes) < len(plan.classes):
        print(f"note: {len(rows.classes)} of {len(plan.classes)} classes are there: {', '.join(rows.classes)}")
    if lacking:
        print(f"note: the data set lacks {lacking}; its figure has no place in the table")
    if copies:
        print(f"note: {copies} recordings are copies of others, which makes a figure too good")
    print(flush=True)
    return {"task": plan.task, "lacks": lacking, "copies": copies, "embeddings": str(store.array), **result}
