"""Table of runs that differ in seed and recordings alone: the score of each branch by itself, and of fusions.

Usage: branch_table.py EXP [EXP ...] [--fuse BRANCH=WEIGHT,BRANCH=WEIGHT ...] [--view VIEW] [--csv FILE]

Prints Markdown. The csv file has the same rows with command, commit, configuration and seeds, as the files in results/.
"""

import argparse
import csv
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from system import config as configuration
from system import fused_scores, manifest, score_tables
from system.config import VIEWS, SystemConfig
from system.corpora.challenge import rule_of_year
from system.errors import WheeltapperError
from system.evaluation import metrics
from system.experiment import Experiment
from system.files import open_atomic
from system.pipeline import results
from system.pipeline.stages.evaluate import measured_clips

SCORE_STAGE = 4  # the last stage that the figures depend on


def measure(run: Experiment, weights: Mapping[str, float], view: str) -> dict[str, Any]:
    """Metrics of a weighted sum of branches, as stages 5 and 6 would give them."""
    branches = {name: score_tables.read_rows(run.scores(name, view)) for name in weights}
    rows, _ = fused_scores.fuse_system(branches, SystemConfig(view=view, weights=dict(weights)), 0.1)
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        if row.split == "test":
            scores.setdefault((row.machine, row.section), {})[row.file] = row.score
    year = run.config.evaluate.year
    return metrics.evaluate(scores, {}, measured_clips(manifest.read(run.manifest), year), rule_of_year(year), 0, 0)


def rows(exps: list[Path], fusions: list[dict[str, float]], view: str, command: str = "") -> list[dict[str, str]]:
    """One row per branch and fusion: official score of each run, mean and deviation, means of the measures, and where
    they come from (``results.provenance``), all as text."""
    runs = [Experiment(exp, configuration.load(exp / "config.yaml")) for exp in exps]
    source = results.provenance([(run.folder, run.config) for run in runs], command, SCORE_STAGE)
    table = []
    for weights in [*({name: 1.0} for name in runs[0].config.branches), *fusions]:
        found = [measure(run, weights, view) for run in runs]
        scores = [100.0 * each["official_score"] for each in found]
        row = {"branch": " + ".join(f"{n} {w:g}" if len(weights) > 1 else n for n, w in weights.items())}
        row |= {exp.name: f"{score:.2f}" for exp, score in zip(exps, scores, strict=True)}
        row["mean"] = f"{statistics.mean(scores):.2f}"
        row["mean sd"] = f"{statistics.stdev(scores):.2f}" if len(scores) > 1 else ""
        for column, name in results.MEASURES.items():
            row[column] = f"{100.0 * statistics.mean(each['harmonic_mean'][name] for each in found):.2f}"
        table.append(row | source)
    return table


def markdown(table: list[dict[str, str]]) -> str:
    """The rows without their last four columns."""
    head = list(table[0])[:-4]
    lines = [head, ["---"] * len(head), *([row[name] for name in head] for row in table)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def read_weights(text: str) -> dict[str, float]:
    """``a=0.5,b=0.5`` to weights of branches."""
    try:
        return {name: float(weight) for name, weight in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise WheeltapperError(f"--fuse: expected BRANCH=WEIGHT,BRANCH=WEIGHT, found {text}") from None


def main() -> None:
    parser = argparse.ArgumentParser(description="Markdown table of what each branch is worth by itself.")
    parser.add_argument("exps", nargs="+", type=Path, metavar="EXP", help="runs, to stage 4 at least")
    parser.add_argument("--fuse", nargs="+", default=[], metavar="WEIGHTS", help="BRANCH=WEIGHT,BRANCH=WEIGHT")
    parser.add_argument("--view", default=VIEWS[0], choices=VIEWS)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="table to write")
    parser.add_argument("--command", default="", metavar="TEXT", help="command to note (default: the recorded one)")
    args = parser.parse_args()
    try:
        table = rows(args.exps, [read_weights(text) for text in args.fuse], args.view, args.command)
        print(markdown(table))
        if args.csv:
            with open_atomic(args.csv) as file:
                writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(table)
    except WheeltapperError as error:
        parser.exit(1, f"branch_table: {error}\n")


if __name__ == "__main__":
    main()
