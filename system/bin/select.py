"""Chooses among finished development runs by the official score and freezes the winner's configuration.

The final run takes it: wheeltapper run --conf frozen.yaml --set data.machines=evaluation --set data.frozen=frozen.yaml
"""

import argparse

from system.bin import options
from system.errors import WheeltapperError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    inputs = parser.add_argument_group("inputs")
    options.add_experiments(inputs, "development runs, evaluated", several=True)
    options.add(inputs, "--system", "the one whose official score counts", default=1)
    outputs = parser.add_argument_group("outputs")
    options.add(
        outputs, "--out", "frozen configuration; its record goes beside it, as json", required=True, metavar="YAML"
    )
    options.add_example(parser, "wheeltapper select --exp exp/a exp/b --out frozen.yaml")


def main(args: argparse.Namespace) -> None:
    if args.out.suffix not in (".yaml", ".yml"):
        raise WheeltapperError(f"--out: expected a name that ends in .yaml, found {args.out}")
    from system import selection
    from system.pipeline.development import candidate, score_text

    candidates = [candidate(exp) for exp in options.experiments(args)]
    winner = selection.choose(candidates, args.system)
    for each in candidates:
        print(f"{score_text(each.found(args.system))}  {each.folder}")
    record = selection.freeze(args.out, candidates, winner, args.system)
    interval = winner.found(args.system)["ci95"]
    rivals = [each for each in candidates if each is not winner and interval and each.score(args.system) >= interval[0]]
    if rivals:
        print(
            f"note: {', '.join(str(each.folder) for each in rivals)} within the winner's interval: other test clips "
            "could have decided otherwise"
        )
    print(f"selected {winner.folder} ({record['rule']}); wrote {args.out} and {selection.record_path(args.out)}")
