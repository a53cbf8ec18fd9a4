"""Checks a finished run against the rules of the challenge that a program can check; writes EXP/compliance.json."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from system import manifest
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.pipeline import resources
from system.pipeline.branches import clip_embedder
from system.pipeline.session import session
from system.pipeline.stages import package, stages_of
from system.progress import progress_bar

if TYPE_CHECKING:
    import numpy as np

    from system.compliance.rule import ComplianceRule

SLACK = {"fp32": 1e-4, "bf16": 0.05}  # between one embedding and the same on another machine or in a batch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("exp", help="folder of a run that was packaged")
    parser.add_argument(
        "--recompute", type=int, default=0, metavar="N", help="embed N test clips once more, each alone (default 0)"
    )


def main(args: argparse.Namespace) -> None:
    if not (Path(args.exp) / "config.yaml").is_file():
        raise WheeltapperError(f"{args.exp}: expected the folder of a run, found no config.yaml there")
    if args.recompute < 0:
        raise WheeltapperError(f"--recompute: expected a number from 0 on, found {args.recompute}")
    with session(args.exp) as run:
        broken = _check(run, args.recompute)
    if broken:
        raise WheeltapperError(f"{args.exp}: {len(broken)} violations, all above and in {run.compliance}: {broken[0]}")


def _check(run: Experiment, recompute: int) -> list[str]:
    """Checks, prints and writes; returns what was found against the rules."""
    from system import compliance
    from system.compliance import package as sent

    clips, facts = manifest.read(run.manifest), package.run_facts(run)
    rules = compliance.check(run, stages_of(run), facts, package.documents(run))
    rules.append(sent.check_package(run, facts))
    if recompute:
        rules.append(_embed_again(run, clips, recompute))
    compliance.write(run.compliance, rules)
    print("\n".join(compliance.markdown(rules)))
    return compliance.violations(rules)


def _embed_again(run: Experiment, clips: Sequence[manifest.Clip], count: int) -> "ComplianceRule":
    from system.compliance import package as sent

    branches = [name for name in run.config.branches if run.index(name).is_file()]
    resources.prepare_torch(run)
    again = clip_embedder(run, branches)
    slack = SLACK["fp32" if run.config.embed.precision == "fp32" else "bf16"]
    total = len(branches) * min(count, sum(clip.split == "test" for clip in clips))
    with tempfile.TemporaryDirectory() as folder, progress_bar(total, "embedding once more") as bar:

        def embed(branch: str, clip: manifest.Clip) -> "dict[str, np.ndarray]":
            bar.update(1)
            return again(branch, clip)

        return sent.check_embeddings(run, clips, count, embed, Path(folder), slack)
