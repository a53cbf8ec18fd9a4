"""``wheeltapper study``: autoencoder, frozen and fine-tuned encoders on normal and anomalous recordings (MIMII paper).

Stages: 0 split, 1 spectrograms, 2 frozen embeddings, 3 autoencoder, 4 local outlier factor, 5 fine-tuning, 6 table, 7
figures (study.html). One experiment is one seed; --combine puts the tables of several into one.
"""

import argparse
from pathlib import Path

from system.bin import options
from system.bin.parsing import only_with
from system.errors import WheeltapperError
from system.pipeline.session import session

LAST = 7  # number of the last stage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_experiment_arguments(parser, required=False)
    inputs = parser.add_argument_group("inputs")
    options.add(
        inputs, "--data", "manifest.csv of wheeltapper prepare, or a table as emulate reads it (stage 0)", metavar="CSV"
    )
    options.add(inputs, "--store", "and spectrograms; several studies may share it (default: EXP/store)")
    options.add_stages(parser, LAST)
    combine = parser.add_argument_group("one table of several studies, instead of --exp")
    combine.add_argument("--combine", nargs="+", metavar="DIR", help="experiment folders of studies of different seeds")
    options.add(combine, "--out", "folder for table.csv and table.md", metavar="DIR", type=str)
    only_with(combine, "combine", "--combine DIR ...")
    options.add_example(
        parser, "wheeltapper study --exp exp/study --conf recipes/mimii_ast_cnn/conf/toy.yaml --data manifest.csv"
    )


def main(args: argparse.Namespace) -> None:
    if args.combine:
        return _combine(args)
    if not args.exp:
        raise WheeltapperError("expected --exp DIR, or --combine DIR ... --out DIR")
    for number in (args.stage, args.stop_stage):
        if not 0 <= number <= LAST:
            raise WheeltapperError(f"--stage, --stop-stage: expected 0 to {LAST}, found {number}")
    if args.stop_stage < args.stage:
        raise WheeltapperError(f"--stop-stage: expected at least {args.stage} (--stage), found {args.stop_stage}")
    from system.study import stages

    with session(args.exp, args.conf, args.set) as run:
        stages.run_stages(run, range(args.stage, args.stop_stage + 1), args.data or "", args.store or "")


def _combine(args: argparse.Namespace) -> None:
    from system.study import results

    if args.exp or not args.out:
        raise WheeltapperError("--combine DIR ...: expected --out DIR and no --exp")
    table = results.read_results([Path(exp) / "results.json" for exp in args.combine])
    for path in results.write_table(args.out, table):
        print(f"wrote {path}")
