"""Checks a finished run against the rules of the challenge that a program can check; writes EXP/compliance.json."""

import argparse

from system.bin import options
from system.errors import WheeltapperError
from system.pipeline.session import session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    inputs = parser.add_argument_group("inputs")
    options.add_experiments(inputs, "a run that was packaged")
    inputs.add_argument(
        "--recompute",
        type=int,
        default=0,
        metavar="N",
        help="number of test recordings to embed again, each alone, and to compare (default: 0)",
    )
    options.add_example(
        parser,
        "wheeltapper comply --exp exp/default --recompute 2",
        note="The result is written to compliance.json in the experiment folder. Exit status: 0 no violation, 1 some.",
    )


def main(args: argparse.Namespace) -> None:
    exp, *others = options.experiments(args)
    if others:
        raise WheeltapperError(f"expected one experiment folder, found {exp} and {others[0]}")
    if not (exp / "config.yaml").is_file():
        raise WheeltapperError(f"{exp}: expected the folder of a run, found no config.yaml there")
    if args.recompute < 0:
        raise WheeltapperError(f"--recompute: expected a number from 0 on, found {args.recompute}")
    from system import compliance
    from system.pipeline.compliance_check import check_run

    with session(exp) as run:
        rules = check_run(run, args.recompute)
    print("\n".join(compliance.markdown(rules)))
    broken = compliance.violations(rules)
    if broken:
        raise WheeltapperError(f"{exp}: {len(broken)} violations, all above and in {run.compliance}: {broken[0]}")
