"""Stage 9: write the HTML report of a run. With --out: the same page into another file; nothing else is written."""

import argparse

from system.bin import options
from system.errors import WheeltapperError
from system.pipeline.session import run_stage, session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_experiment_arguments(parser)
    outputs = parser.add_argument_group("outputs")
    options.add(
        outputs, "--out", "page, instead of the stage: nothing is written to the experiment folder", metavar="PAGE.html"
    )
    options.add_example(parser, "wheeltapper report --exp exp/default")


def main(args: argparse.Namespace) -> None:
    if args.out:
        return _write(args)
    with session(args.exp, args.conf, args.set) as run:
        run_stage(run, "report")


def _write(args: argparse.Namespace) -> None:
    if args.conf or args.set:
        raise WheeltapperError("--out: expected no --conf and no --set: the page shows the run as it was configured")
    if args.out.suffix != ".html":
        raise WheeltapperError(f"--out: expected a name that ends in .html, found {args.out}")
    from system.progress import progress_bar
    from system.report import write_report

    with progress_bar(0, "drawing") as bar:
        print(f"wrote {write_report(args.exp, bar.to, args.out)}")
