"""The challenge's rules that can be checked on a finished run (Wang and Liu 2026, section 7; rules of the task).

Every check looks at what the run left behind: manifest, records of its stages, embeddings, scores, declarations. None
of them depends on which encoders or scorers a branch is made of.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from submission.facts import RunFacts
from system import manifest
from system.compliance import records, scores
from system.compliance.rule import Rule
from system.experiment import Experiment
from system.files import write_json
from system.record import run_record
from system.stage import Stage

__all__ = ["Rule", "check", "markdown", "violations", "write"]


def check(
    run: Experiment, stages: Mapping[str, Stage], facts: RunFacts, documents: Mapping[str, Mapping[str, Any]]
) -> list[Rule]:
    """All rules that need neither the package's zip nor the networks.

    Args:
        run: scored and evaluated.
        stages: by name, pretrain to evaluate, as the run's configuration wants them.
        facts: of the run, for the declarations. documents: label to content of the meta file.
    """
    clips = manifest.read(run.manifest)
    checks: list[Callable[[], Rule]] = [
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


def violations(rules: Sequence[Rule]) -> list[str]:
    """What was found against the rules, one sentence each, the rule's name first."""
    return [f"{rule.name}: {text}" for rule in rules for text in rule.violations]


def write(path: Path, rules: Sequence[Rule]) -> None:
    """Writes the result as JSON."""
    write_json(path, {"passed": not violations(rules), "rules": [vars(rule) for rule in rules], **run_record()})


def markdown(rules: Sequence[Rule]) -> list[str]:
    """Lines for a read-me: one for each rule, with what was looked at and what was found."""
    broken = sum(bool(rule.violations) for rule in rules)
    lines = [f"Rules checked by the program: {len(rules)}, {broken or 'none'} of them broken.", ""]
    for rule in rules:
        lines.append(f"- {rule.says} ({rule.checked}.)")
        lines += [f"  - broken: {text}" for text in rule.violations]
        lines += [f"  - note: {text}" for text in rule.notes]
    return lines
