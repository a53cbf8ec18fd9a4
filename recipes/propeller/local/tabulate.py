"""Markdown table of a propeller experiment: official score of every system and reference on every seed.

Usage: tabulate.py EXP SEED [SEED ...]
"""

import argparse
import statistics
from pathlib import Path

from system.files import read_json


def read_scores(place: Path) -> dict[str, dict[str, float]]:
    """Metrics per system of one seed: {"system 1": {"official", "AUC (source)", "AUC (target)", "pAUC"}}, percent."""
    found = {}
    for kind, path in (
        ("reference", place / "references" / "references.json"),
        ("", place / "system" / "metrics.json"),
    ):
        if not path.is_file():
            continue
        for name, result in read_json(path)["systems"].items():
            measures = result["harmonic_mean"]
            values = {"official": result["official_score"]}
            values |= {key: measures[key] for key in ("AUC (source)", "AUC (target)", "pAUC")}
            label = f"{kind} {name}".strip()
            found[label] = {key: 100.0 * value for key, value in values.items()}
    return found


def table(exp: Path, seeds: list[str]) -> str:
    """Rows: systems; columns: official score per seed and its mean, then the means of the three measures."""
    by_seed = [read_scores(exp / f"seed{seed}") for seed in seeds]
    names = [name for name in by_seed[0] if all(name in found for found in by_seed)]
    head = ["system", *(f"seed {seed}" for seed in seeds), "mean", "AUC source", "AUC target", "pAUC"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in names:
        scores = [found[name]["official"] for found in by_seed]
        means = [
            statistics.mean(found[name][key] for found in by_seed) for key in ("AUC (source)", "AUC (target)", "pAUC")
        ]
        cells = [name, *(f"{value:.2f}" for value in (*scores, statistics.mean(scores), *means))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Markdown table of a propeller experiment.")
    parser.add_argument("exp", type=Path, metavar="EXP")
    parser.add_argument("seeds", nargs="+", metavar="SEED")
    args = parser.parse_args()
    print(table(args.exp, args.seeds))


if __name__ == "__main__":
    main()
