"""Adds the official scores of finished runs to a csv file of results."""

import argparse

from system.bin import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    inputs = parser.add_argument_group("inputs")
    options.add_experiments(inputs, "evaluated runs that differ in seed and recordings alone", several=True)
    options.add(inputs, "--system", "the one to note (default: all)")
    inputs.add_argument(
        "--baseline",
        nargs="+",
        default=[],
        metavar=("SYSTEM", "REFERENCES.json"),
        help="reference system to compare with, and what wheeltapper reference wrote for each run",
    )
    texts = parser.add_argument_group("texts of the rows")
    texts.add_argument("--task", required=True, metavar="TEXT", help="what was measured: recordings and machines")
    options.add(texts, "--name", "of the system (default: its name in the run)", default="")
    texts.add_argument(
        "--command",
        default="",
        metavar="TEXT",
        help="command to note, without paths of your own (default: the recorded one)",
    )
    outputs = parser.add_argument_group("outputs")
    options.add(outputs, "--out", "table to which the rows are added", required=True, metavar="CSV")
    options.add_example(
        parser, 'wheeltapper results --exp exp/seed1 exp/seed2 --task "fans in noise" --out results.csv'
    )


def main(args: argparse.Namespace) -> None:
    from system.errors import WheeltapperError
    from system.pipeline import results

    if not args.task.strip():
        raise WheeltapperError("--task: expected a text, found nothing")
    if args.name and not args.system:
        raise WheeltapperError("--name: expected --system K with it, which says whose name it is")
    baseline = results.read_baseline(args.baseline[0], args.baseline[1:]) if args.baseline else None
    runs = [results.read_run(exp) for exp in options.experiments(args)]
    found = results.rows(runs, args.task, args.system, args.name, args.command, baseline)
    results.update(args.out, found)
    for row in found:
        interval = f" ({row['95 % interval low']} to {row['95 % interval high']})" if row["interval by"] else ""
        print(f"{row['score']} %{interval}  {row['task']}: {row['system']}")
        if "+" in row["commit"]:
            print(f"note: commit {row['commit']}: files had been changed since; commit them and run again")
    print(f"wrote {args.out}")
