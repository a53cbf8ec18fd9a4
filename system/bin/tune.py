"""Chooses view, scorers and fusion weights by the labels of development runs (stages 0 to 3 complete), one
configuration for all machines, and says what the choice is worth on machines that had no part in it. tuned.yaml is
written only where it is worth more there than the untuned configuration.

The same command, here or elsewhere with the same folder, helps one that is at work and goes on with one that was
interrupted.
"""

import argparse
from pathlib import Path

from system.bin import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    inputs = parser.add_argument_group("inputs")
    options.add_experiments(inputs, "development runs whose stages up to 3 are complete", several=True)
    options.add(inputs, "--conf", "a yaml file whose tune section counts (default: that of the first run)", type=Path)
    options.add(inputs, "--set", action="append", default=[])
    inputs.add_argument("--trials", type=_positive, metavar="N", help="trials of a study (default: tune.trials)")
    inputs.add_argument(
        "--per-machine",
        action="store_true",
        help="only say what a choice for each machine by its own labels would reach in-sample; against the rules",
    )
    outputs = parser.add_argument_group("outputs")
    options.add(outputs, "--out", "folder for scores, trials, tuned.yaml, tune.json and tune.html", required=True)
    outputs.add_argument(
        "--anyway", action="store_true", help="write tuned.yaml even where it is no better on machines left out"
    )
    computing = parser.add_argument_group("computing")
    options.add(computing, "--processes", type=_positive, default=1)
    options.add_example(parser, "wheeltapper tune --exp exp/a exp/b --out exp/tuned --processes 2")


def main(args: argparse.Namespace) -> None:
    from system.tuning import tune

    exps = options.experiments(args)
    conf = args.conf or exps[0] / "config.yaml"
    settings = tune.read_settings(conf, args.set, args.trials or 0, args.per_machine)
    tuning = tune.tune(exps, settings, args.out, args.processes)
    if args.per_machine:
        figures = tune.measure_per_machine(tuning)
        print(
            f"a choice for each machine by its own labels would reach {tune.score_text(figures)} in-sample. The rules "
            f"allow one configuration for all machines: none is written. Wrote {args.out / 'per_machine.json'}"
        )
        return
    tuned, config = tune.conclude(tuning, args.anyway)
    print("\n".join(tune.summary(tuned, config)))
    if not (tuned.is_better or args.anyway):
        print(f"{args.out / 'tuned.yaml'} is not written (--anyway writes it)")
    names = ["tuned.yaml"] * (tuned.is_better or args.anyway) + ["tune.json", "tune.html"]
    print(f"wrote {', '.join(str(args.out / name) for name in names)}")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, found {text!r}")
    return int(text)
