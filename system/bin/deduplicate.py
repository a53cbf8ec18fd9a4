"""Removes near-identical stationary recordings from a manifest.

Beside the new manifest a JSON of the same name says which were left out, and for which others. With that of an earlier
call for the same clips and thresholds there is nothing to do.
"""

import argparse
from pathlib import Path

from system.bin import options
from system.errors import WheeltapperError
from system.machine import threads


def add_arguments(parser: argparse.ArgumentParser) -> None:
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument("manifest", type=Path, metavar="MANIFEST", help="manifest of normal training recordings")
    inputs.add_argument(
        "--threshold",
        type=float,
        default=1.0,
        metavar="DB",
        help="two recordings count as the same up to this difference of their long-term spectra, in dB: root mean "
        "square over bands of 100 Hz (default: %(default)g)",
    )
    inputs.add_argument(
        "--stationary",
        type=float,
        default=2.0,
        metavar="DB",
        help="a recording may be left out up to this variation over time, in dB (default: %(default)g)",
    )
    outputs = parser.add_argument_group("outputs")
    options.add(outputs, "--out", "manifest; what was left out goes beside it, as json", required=True, metavar="CSV")
    options.add_workers(parser.add_argument_group("computing"))
    options.add_example(parser, "wheeltapper deduplicate manifest.csv --out distinct.csv")


def main(args: argparse.Namespace) -> None:
    if not (args.threshold > 0 and args.stationary > 0 and args.workers >= 0):
        raise WheeltapperError("--threshold, --stationary: expected more than 0 dB; --workers: expected 0 or more")
    from system.pretraining.duplicates import deduplicate

    workers = threads(args.workers)
    record, known = deduplicate(args.manifest, args.out, args.threshold, args.stationary, workers)
    summary = (
        f"{record['kept']} of {record['clips']} clips kept; of {record['stationary']} stationary ones "
        f"{len(record['dropped'])} are like another"
    )
    if known:
        print(f"{args.out}: complete, nothing to do; {summary}")
    else:
        print(f"{args.out}: {summary}; which for which: {args.out.with_suffix('.json')}")
