"""Markdown tables in the layout of Table 1 of Wang and Liu 2026: machines x (AUC source, AUC target, pAUC) x systems,
of the selected development run and, where the labels of the evaluation machines are at hand, of the final run.

Usage: table.py FROZEN_JSON METRICS_JSON
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from system.errors import WheeltapperError
from system.metrics import harmonic_mean
from system.selection import percent
from system.stage import read_json

MEASURES = {"auc_source": "AUC(source)", "auc_target": "AUC(target)", "pauc": "pAUC"}
Results = Mapping[str, Mapping[str, float]]


def table(systems: Sequence[Results]) -> str:
    """Rows of all machines and their harmonic means, columns of the systems.

    Args:
        systems: for each, machine -> measure (MEASURES) -> percent.
    """
    machines = list(dict.fromkeys(machine for system in systems for machine in system))
    heads = ["Machine", "Metric", *(f"task2_{number}" for number in range(1, len(systems) + 1))]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for machine in machines:
        for number, (key, name) in enumerate(MEASURES.items()):
            cells = [f"{system[machine][key]:.2f}" for system in systems]
            lines.append("| " + " | ".join([machine if number == 0 else "", name, *cells]) + " |")
    for number, (keys, name) in enumerate([*(((key,), name) for key, name in MEASURES.items()), (MEASURES, "all")]):
        means = [harmonic_mean([system[machine][key] for machine in machines for key in keys]) for system in systems]
        cells = [f"{mean:.2f}" for mean in means]
        lines.append("| " + " | ".join(["All (hmean)" if number == 0 else "", name, *cells]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Tables of the selected development run and of the final run.")
    parser.add_argument("frozen", type=Path, metavar="FROZEN_JSON", help="record of wheeltapper select")
    parser.add_argument("metrics", type=Path, metavar="METRICS_JSON", help="of the final run")
    args = parser.parse_args()
    try:
        record, metrics = read_json(args.frozen), read_json(args.metrics)
    except WheeltapperError as error:
        parser.exit(1, f"table: {error}\n")
    print(f"Development machines, {record['selected']}\n\n{table(record['results'])}")
    final = [percent(found) for found in metrics.get("evaluation", {}).values()]
    if final:
        print(f"\nEvaluation machines, labels looked up afterwards\n\n{table(final)}")
    else:
        print("no labels of the evaluation machines here: no table of the final run", file=sys.stderr)


if __name__ == "__main__":
    main()
