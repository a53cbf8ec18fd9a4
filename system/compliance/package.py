"""Rules for the submission: the zip, and the embeddings that its scores come from."""

import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from submission.facts import RunFacts
from submission.findings import ERROR
from submission.validate import validate
from system import manifest, windows
from system.compliance.rule import ComplianceRule
from system.embeddings.files import read_rows
from system.experiment import Experiment
from system.manifest import Clip

Embed = Callable[[str, Clip], dict[str, np.ndarray]]


def check_package(run: Experiment, facts: RunFacts) -> ComplianceRule:
    """The zip is valid, agrees with the facts of the run, and contains the scores that the run wrote."""
    rule = ComplianceRule("package", "The package is valid and contains the files that the run wrote.", str(run.zip))
    if not run.zip.is_file() and not any(clip.split == "test" for clip in manifest.read(run.manifest)):
        rule.notes.append("the recordings have no test clips, so there is no package")
        return rule
    if not run.zip.is_file():
        rule.violations.append(f"{run.zip}: expected the package of the run, found nothing")
        return rule
    rule.violations += [str(found) for found in validate(run.zip, facts=facts) if found.level == ERROR]
    changed, count = [], 0
    try:
        with zipfile.ZipFile(run.zip) as archive:
            for name in sorted(archive.namelist()):
                if not name.endswith(".csv"):
                    continue
                count += 1
                source = run.folder / "systems" / Path(name).parent.name / Path(name).name
                if not source.is_file() or source.read_bytes() != archive.read(name):
                    changed.append(f"{name}: expected the content of {source}, found another")
    except (OSError, zipfile.BadZipFile) as error:
        changed.append(f"{run.zip}: expected a readable zip, found {error}")
    rule.break_each(changed)
    rule.checked = f"{run.zip.name}, {count} tables"
    return rule


def check_embeddings(
    run: Experiment, clips: Sequence[Clip], count: int, embed: Embed, folder: Path, slack: float
) -> ComplianceRule:
    """Some test clips, embedded again one at a time from renamed copies, have the stored embeddings.

    Args:
        run: finished run.
        clips: of the manifest.
        count: number of test clips, drawn at random.
        embed: function of (branch, clip) that returns the embeddings (1, D) in every view.
        folder: for the copies.
        slack: largest difference allowed, relative to the largest value of an embedding.
    """
    says = "The embedding of a test clip depends on its sound only, not on its name or on other clips."
    rule = ComplianceRule("embeddings", says)
    tests = [clip for clip in windows.expand(clips, run.config.data) if clip.split == "test"]
    order = np.random.default_rng(run.config.seed).permutation(len(tests))[:count]
    branches = [name for name in run.config.branches if run.index(name).is_file()]
    worst = 0.0
    for number, clip in enumerate(tests[index] for index in order):
        place = folder / str(number)
        place.mkdir(parents=True)
        copy = place / f"{number:08x}{Path(clip.path).suffix}"
        shutil.copyfile(clip.path, copy)
        alone = replace(clip, file=copy.name, path=str(copy), label="", domain="", attributes="", group="")
        for branch in branches:
            again = embed(branch, alone)
            for view in run.views[branch]:
                stored = read_rows(run.index(branch), run.embeddings(branch, view)).get(clip.row)
                if stored is None:
                    rule.violations.append(f"{clip.path}: expected its embedding by {branch}, found none")
                    continue
                found = again[run.column(branch, view)][0]
                difference = float(np.abs(found - stored).max() / max(np.abs(stored).max(), 1e-30))
                worst = max(worst, difference)
                if not difference <= slack:
                    rule.violations.append(
                        f"{clip.path}: branch {branch}, {view}: expected the stored embedding, found one that differs "
                        f"by {difference:.2g} of its largest value"
                    )
    rule.checked = f"{len(order)} test clips embedded again, largest difference {worst:.2g} of the largest value"
    rule.notes += [f"branch {name}: no embeddings" for name in run.config.branches if name not in branches]
    return rule
