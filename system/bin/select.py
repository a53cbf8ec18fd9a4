"""Chooses among finished development runs by the official score and freezes the winner's configuration.

The final run takes it: wheeltapper run --conf frozen.yaml --set data.machines=evaluation --set data.frozen=frozen.yaml
"""

import argparse
from pathlib import Path

from system import config as configuration
from system import manifest, selection
from system.corpora.challenge import rule_of_year
from system.errors import WheeltapperError
from system.evaluation.folder import evaluate_folder
from system.experiment import Experiment
from system.pipeline.stages import first_incomplete
from system.pipeline.stages.evaluate import measured_clips
from system.selection import Candidate

ROUNDING = 1e-9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("exps", nargs="+", type=Path, metavar="EXP", help="folder of a development run, evaluated")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="YAML", help="configuration to write; json beside it"
    )
    parser.add_argument(
        "--system", type=int, default=1, metavar="K", help="number of the system whose score counts (default 1)"
    )


def main(args: argparse.Namespace) -> None:
    if args.out.suffix not in (".yaml", ".yml"):
        raise WheeltapperError(f"--out: expected a name that ends in .yaml, found {args.out}")
    candidates = [_candidate(exp) for exp in args.exps]
    winner = selection.choose(candidates, args.system)
    for candidate in candidates:
        print(f"{_percent(candidate, args.system)}  {candidate.folder}")
    record = selection.freeze(args.out, candidates, winner, args.system)
    interval = winner.found(args.system)["ci95"]
    rivals = [c for c in candidates if c is not winner and interval and c.score(args.system) >= interval[0]]
    if rivals:
        print(
            f"note: {', '.join(str(c.folder) for c in rivals)} within the winner's interval: other test clips could "
            "have decided otherwise"
        )
    print(f"selected {winner.folder} ({record['rule']}); wrote {args.out} and {selection.record_path(args.out)}")


def _candidate(exp: Path) -> Candidate:
    """A development run, every stage of it complete with the settings and inputs it has now, its score recomputed."""
    run = Experiment(exp, configuration.load(exp / "config.yaml"))
    selection.check_development(manifest.read(run.manifest), run.manifest)
    if stage := first_incomplete(run):
        raise WheeltapperError(
            f"{exp}: expected a finished development run, found stage {stage.number} {stage.name} incomplete with "
            "its configuration: run it to stage 6"
        )
    candidate = selection.read_candidate(exp)
    kept = measured_clips(candidate.clips, candidate.config.evaluate.year)
    for label, found in candidate.metrics["systems"].items():
        again, _ = evaluate_folder(run.system(label), kept, rule_of_year(candidate.config.evaluate.year), 0, 0)
        if abs(again["official_score"] - found["official_score"]) > ROUNDING:
            raise WheeltapperError(
                f"{run.metrics}: {label}: expected an official score of {again['official_score']:.6f} as recomputed, "
                f"found {found['official_score']:.6f}"
            )
    return candidate


def _percent(candidate: Candidate, system: int) -> str:
    interval = candidate.found(system)["ci95"]
    text = f" ({100 * interval[0]:.2f} to {100 * interval[1]:.2f})" if interval else ""
    return f"{100 * candidate.score(system):6.2f} %{text}"
