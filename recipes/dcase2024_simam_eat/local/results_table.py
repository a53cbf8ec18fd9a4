"""Markdown table of the recipe's experiments from the metrics of each variant and seed.

Usage: results_table.py EXP SEED [SEED ...] [--out FILE]
"""

import argparse
import statistics
from pathlib import Path

from system.errors import WheeltapperError
from system.files import open_atomic, read_json

MEASURES = ("AUC (source)", "AUC (target)", "pAUC")
PARTS = {"systems": "", "evaluation": " (evaluation machines)"}


def read_results(place: Path) -> dict[tuple[str, str], dict[str, float]]:
    """Official score and harmonic means in percent by (experiment, variant) of one seed's results/*.json."""
    found = {}
    for path in sorted((place / "results").glob("*.json")):
        experiment, _, variant = path.stem.partition(".")
        metrics = read_json(path)
        for part, note in PARTS.items():
            for result in list(metrics.get(part, {}).values())[:1]:
                values = {"official": result["official_score"]}
                values |= {name: result["harmonic_mean"][name] for name in MEASURES}
                found[experiment, variant + note] = {name: 100.0 * value for name, value in values.items()}
    return found


def table(exp: Path, seeds: list[str]) -> str:
    """Rows: variants of the experiments that all seeds have; columns: official score of each seed and its mean, then
    the means of the three measures. WheeltapperError where there is nothing to show."""
    by_seed = [read_results(exp / f"seed{seed}") for seed in seeds]
    keys = [key for key in by_seed[0] if all(key in found for found in by_seed)]
    if not keys:
        raise WheeltapperError(f"{exp}: expected results of seeds {', '.join(seeds)}, found none that all have")
    head = ["experiment", "variant", *(f"seed {seed}" for seed in seeds), "mean", "AUC source", "AUC target", "pAUC"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for key in keys:
        scores = [found[key]["official"] for found in by_seed]
        means = [
            statistics.mean(scores),
            *(statistics.mean(found[key][name] for found in by_seed) for name in MEASURES),
        ]
        lines.append("| " + " | ".join([*key, *(f"{value:.2f}" for value in (*scores, *means))]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Markdown table of the recipe's experiments.")
    parser.add_argument("exp", type=Path, metavar="EXP")
    parser.add_argument("seeds", nargs="+", metavar="SEED")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also written there")
    args = parser.parse_args()
    try:
        text = table(args.exp, args.seeds)
    except WheeltapperError as error:
        parser.exit(1, f"results_table: {error}\n")
    print(text, end="")
    if args.out:
        with open_atomic(args.out) as file:
            file.write(text)


if __name__ == "__main__":
    main()
