"""Checks of a finished run against the rules of the challenge (Wang and Liu 2026, section 7; rules of the task).

The checks use the files of the run: manifest, records of the stages, embeddings, scores, declarations. They do not
depend on the encoders or scorers of the branches.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from submission.facts import RunFacts
from system import manifest
from system.compliance import records, scores
from system.compliance.rule import ComplianceRule
from system.experiment import Experiment
from system.files import write_json
from system.record import run_record
from system.stage import Stage

__all__ = ["ComplianceRule", "check", "markdown", "violations", "write"]


def check(
    run: Experiment, stages: Mapping[str, Stage], facts: RunFacts, documents: Mapping[str, Mapping[str, Any]]
) -> list[ComplianceRule]:
    """Checks all rules that need neither the package's zip nor the networks.

    Args:
        run: scored and evaluated run.
        stages: the stages pretrain to evaluate by name, as the configuration of the run defines them.
        facts: of the run, for the declarations.
        documents: content of the meta file of each system, by label.
    """
    clips = manifest.read(run.manifest)
    checks: list[Callable[[], ComplianceRule]] = [
        lambda: records.check_training(run, clips),
        lambda: records.check_overlap(run, clips),
        lambda: records.check_learned(run, clips, stages),
        lambda: records.check_files(run),
        lambda: records.check_recordings(run, clips),
        lambda: records.check_machines(run, clips),
        lambda: scores.check_distances(run, clips),
        lambda: scores.check_fusion(run),
        lambda: scores.check_anonymous(run, clips),
        lambda: records.check_labels(run),
        lambda: records.check_declared(run, facts, documents),
        lambda: records.check_frozen(run, facts),
        lambda: records.check_one_setting(facts),
    ]
    return [each() for each in checks]


def violations(rules: Sequence[ComplianceRule]) -> list[str]:
    """All violations, one sentence each, starting with the name of the rule."""
    return [f"{rule.name}: {text}" for rule in rules for text in rule.violations]


def write(path: Path, rules: Sequence[ComplianceRule]) -> None:
    """Writes the result as JSON."""
    write_json(path, {"passed": not violations(rules), "rules": [vars(rule) for rule in rules], **run_record()})


def markdown(rules: Sequence[ComplianceRule]) -> list[str]:
    """Lines for a README: for each rule what was checked and what was found."""
    broken = sum(bool(rule.violations) for rule in rules)
    lines = [f"Rules checked by the program: {len(rules)}, {broken or 'none'} of them broken.", ""]
    for rule in rules:
        lines.append(f"- {rule.says} ({rule.checked}.)")
        lines += [f"  - broken: {text}" for text in rule.violations]
        lines += [f"  - note: {text}" for text in rule.notes]
    return lines
