"""A finished run checked against the rules of the challenge that a program can check."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from system import compliance, manifest
from system.compliance import package as sent
from system.experiment import Experiment
from system.files import read_json
from system.pipeline import resources
from system.pipeline.branches import Rows, clip_embedder
from system.pipeline.stages import package, stages_of
from system.progress import progress_bar

if TYPE_CHECKING:
    from system.compliance.rule import ComplianceRule

SLACK = {"fp32": 1e-4, "bf16": 0.05}  # between one embedding and the same on another machine or in a batch


def check_run(run: Experiment, recompute: int = 0) -> "list[ComplianceRule]":
    """Checks a run and writes ``compliance.json`` into its folder.

    Args:
        run: a run that was packaged.
        recompute: number of test clips to embed again, each alone, and to compare with the stored embeddings.

    Returns:
        The rules, kept or broken, in the order in which they are shown.
    """
    clips, facts = manifest.read(run.manifest), package.run_facts(run)
    rules = compliance.check(run, stages_of(run), facts, package.documents(run))
    rules.append(sent.check_package(run, facts))
    if recompute:
        rules.append(_embed_again(run, clips, recompute))
    try:
        compliance.write(run.compliance, rules)
    except OSError as error:
        if os.access(run.folder, os.W_OK):
            raise
        print(f"note: {run.compliance}: not written ({error.strerror})")
    return rules


def _embed_again(run: Experiment, clips: Sequence[manifest.Clip], count: int) -> "ComplianceRule":
    branches = [name for name in run.config.branches if run.index(name).is_file()]
    resources.prepare_torch(run)
    again = clip_embedder(run, branches)
    exact = {"fp32", "auto"}  # auto: of branches without an encoder, or of a run before precisions were recorded
    files = {path for path in map(run.precision, branches) if path.is_file()}
    used = {read_json(path)["precision"] for path in files} or {run.config.embed.precision}
    slack = SLACK["fp32" if used <= exact else "bf16"]
    total = len(branches) * min(count, sum(clip.split == "test" for clip in clips))
    with tempfile.TemporaryDirectory() as folder, progress_bar(total, "embedding once more") as bar:

        def embed(branch: str, clip: manifest.Clip) -> Rows:
            bar.update(1)
            return again(branch, clip)

        return sent.check_embeddings(run, clips, count, embed, Path(folder), slack)
