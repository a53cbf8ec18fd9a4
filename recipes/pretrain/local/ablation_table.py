"""Table of the runs of ablation.sh: 1-NN accuracy of CLS and mean tokens, averaged over the emulated sets.

Usage: ablation_table.py EXP ROW ...
"""

import argparse
import statistics
from pathlib import Path

from system.files import read_json

FIGURES = {"esc50": "1-NN", "cwru": "clean", "propeller": "1-NN"}
READOUTS = ("cls", "tokens")


def cells(path: Path) -> list[str]:
    """Figures of one row, mean and spread over its seeds; a set that was not judged is a dash."""
    found: dict[tuple[str, str], list[list[float]]] = {}
    for entry in read_json(path)["figures"]:
        name = entry["set"].rstrip("0123456789") if entry["set"].startswith("propeller") else entry["set"]
        if entry["weights"] == "trained" and FIGURES.get(name) == entry["figure"]:
            found.setdefault((entry["readout"], name), []).append(entry["values"])
    row = []
    for readout in READOUTS:
        for name in FIGURES:
            seeds = [statistics.mean(values) for values in zip(*found.get((readout, name), []), strict=True)]
            row.append(_text(seeds))
    return row


def _text(seeds: list[float]) -> str:
    if not seeds:
        return "-"
    spread = f" ± {statistics.stdev(seeds):.1f}" if len(seeds) > 1 else ""
    return f"{statistics.mean(seeds):.1f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Table of the runs of ablation.sh.")
    parser.add_argument("exp", type=Path)
    parser.add_argument("rows", nargs="+")
    args = parser.parse_args()
    names = [f"{readout}: {name}" for readout in ("CLS", "tokens") for name in FIGURES]
    print(f"| row | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
    for row in args.rows:
        print(f"| {row} | {' | '.join(cells(args.exp / f'{row}.json'))} |")


if __name__ == "__main__":
    main()
