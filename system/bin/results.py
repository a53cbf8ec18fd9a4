"""Adds the official scores of finished runs to a csv file of results.

wheeltapper results exp/seed1 exp/seed2 exp/seed3 --task "propellers in noise" --out results/headline.csv
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "exps", nargs="+", type=Path, metavar="EXP", help="evaluated runs that differ in seed and recordings alone"
    )
    parser.add_argument("--task", required=True, metavar="TEXT", help="what was measured: recordings and machines")
    parser.add_argument("--out", type=Path, required=True, metavar="CSV", help="table to add the rows to")
    parser.add_argument("--system", type=int, metavar="K", help="number of the system, from 1 (default: all systems)")
    parser.add_argument("--name", default="", metavar="TEXT", help="name of the system (default: its name in the run)")
    parser.add_argument(
        "--command",
        default="",
        metavar="TEXT",
        help="command to note, without paths of your own (default: the recorded one)",
    )
    parser.add_argument(
        "--baseline",
        nargs="+",
        default=[],
        metavar=("SYSTEM", "REFERENCES.json"),
        help="reference system to compare with, and what wheeltapper reference wrote for each run",
    )


def main(args: argparse.Namespace) -> None:
    from system.errors import WheeltapperError
    from system.pipeline import results

    if args.name and not args.system:
        raise WheeltapperError("--name: expected --system K with it, which says whose name it is")
    baseline = results.read_baseline(args.baseline[0], args.baseline[1:]) if args.baseline else None
    runs = [results.read_run(exp) for exp in args.exps]
    found = results.rows(runs, args.task, args.system, args.name, args.command, baseline)
    results.update(args.out, found)
    for row in found:
        interval = f" ({row['95 % interval low']} to {row['95 % interval high']})" if row["interval by"] else ""
        print(f"{row['score']} %{interval}  {row['task']}: {row['system']}")
        if "+" in row["commit"]:
            print(f"note: commit {row['commit']}: files had been changed since; commit them and run again")
    print(f"wrote {args.out}")
