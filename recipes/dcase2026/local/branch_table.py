"""Markdown table of runs that differ only in their recordings: results of each branch alone, and of fusions.

Usage: branch_table.py EXP [EXP ...] [--fuse BRANCH=WEIGHT,BRANCH=WEIGHT ...] [--view VIEW]
"""

import argparse
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from system import config as configuration
from system import manifest, score_tables
from system.bin.evaluate import measured_clips
from system.config import VIEWS, SystemConfig
from system.errors import WheeltapperError
from system.evaluation import metrics
from system.experiment import Experiment

MEASURES = ("AUC (source)", "AUC (target)", "pAUC")


def measure(run: Experiment, weights: Mapping[str, float], view: str) -> dict[str, Any]:
    """Metrics of a weighted sum of branches, as stages 5 and 6 would give them."""
    branches = {name: score_tables.read_rows(run.scores(name, view)) for name in weights}
    rows, _ = score_tables.fuse_system(branches, SystemConfig(view=view, weights=dict(weights)), 0.1)
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        if row.split == "test":
            scores.setdefault((row.machine, row.section), {})[row.file] = row.score
    year = run.config.evaluate.year
    return metrics.evaluate(
        scores, {}, measured_clips(manifest.read(run.manifest), year), metrics.rule_of_year(year), 0, 0
    )


def table(exps: list[Path], fusions: list[dict[str, float]], view: str) -> str:
    """Rows: branches and fusions; columns: official score of each run, mean and deviation, means of the measures."""
    runs = [Experiment(exp, configuration.load(exp / "config.yaml", packaged=False)) for exp in exps]
    systems = [{name: 1.0} for name in runs[0].config.branches] + fusions
    head = ["branch", *(exp.name for exp in exps), "mean", "s.d.", *MEASURES]
    lines = [head, ["---"] * len(head)]
    for weights in systems:
        found = [measure(run, weights, view) for run in runs]
        scores = [100.0 * each["official_score"] for each in found]
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        means = [100.0 * statistics.mean(each["harmonic_mean"][name] for each in found) for name in MEASURES]
        name = " + ".join(f"{n} {w:g}" if len(weights) > 1 else n for n, w in weights.items())
        lines.append([name, *(f"{value:.2f}" for value in (*scores, statistics.mean(scores), spread, *means))])
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
    args = parser.parse_args()
    try:
        print(table(args.exps, [read_weights(text) for text in args.fuse], args.view))
    except WheeltapperError as error:
        parser.exit(1, f"branch_table: {error}\n")


if __name__ == "__main__":
    main()
