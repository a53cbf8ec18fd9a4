"""Stage 7: the submission package, with figures taken from the run."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from submission import texts
from submission.entry import SystemEntry
from submission.facts import RunFacts
from submission.package import make_meta, official_machines, write_package
from submission.technical_report import ReportFacts
from submission.texts import BranchText
from system import compliance, manifest, selection
from system.config import SystemConfig
from system.config.package import PackageConfig
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.files import read_json
from system.pipeline.branches import network_branch
from system.pipeline.stages import stages_of
from system.stage import COMPUTED_ON, Stage

NO_TESTS = "a package holds scores of test clips, and the recordings have none"


def stage(run: Experiment) -> Stage:
    """The stage as it stands in an experiment."""
    reads = [run.manifest, run.metrics, *(run.card(name) for name in run.config.branches)]
    frozen = run.config.data.frozen
    given = {"frozen": lambda: Path(frozen), "choice": lambda: selection.record_path(frozen)} if frozen else {}
    for label in run.labels:
        reads += sorted(run.system(label).glob("*_test.csv"))
    owns = ["package", run.zip.name, run.compliance.name]
    settings = {name: value for name, value in asdict(run.config).items() if name not in COMPUTED_ON}
    return run.stage("package", settings, reads, owns, given=given)


def work(run: Experiment) -> Iterable[Path]:
    """Checks the run against the rules and writes the package; returns the files written, the zip first.

    Without test clips there is nothing to package, which is said; the result of the check is written all the same.
    """
    clips, entries, facts = manifest.read(run.manifest), system_entries(run), run_facts(run)
    report = report_facts(run)
    if run.config.data.frozen:
        record = selection.read_record(run.config.data.frozen)
        report = replace(report, official=official_machines(record["machines"]))
    rules = compliance.check(run, stages_of(run), facts, documents(run))
    compliance.write(run.compliance, rules)
    broken = compliance.violations(rules)
    if broken:
        raise WheeltapperError(
            f"{run.folder}: expected a run that keeps the rules of the challenge, found {len(broken)} violations (all "
            f"in {run.compliance}): {'; '.join(broken)}"
        )
    if not any(clip.split == "test" for clip in clips):
        print(f"note: {NO_TESTS}: no package is written")
        return [run.compliance]
    notes = compliance.markdown(rules)
    written = write_package(declared(run), entries, clips, run.package, run.zip, facts, report, notes)
    verdict = "valid" if run.config.package.authors else "DEMONSTRATION, not a submission: package.authors names nobody"
    print(f"{run.zip}: {verdict}; findings in {run.package / 'README.md'}")
    return written


def branch_texts(run: Experiment, names: Iterable[str] | None = None) -> list[BranchText]:
    """What the package says of branches, those that some system uses if ``names`` is None."""
    used = {name for system in run.config.systems for name in system.branches}
    chosen = names if names is not None else (name for name in run.config.branches if name in used)
    return [network_branch(run, name).text(name) for name in chosen]


def declared(run: Experiment) -> PackageConfig:
    """The configured package with title and abstract, made from the branches where the configuration has none."""
    config, branches = run.config.package, branch_texts(run)
    title, abstract = texts.title(config, branches), texts.abstract(config, branches, run.config.systems)
    return replace(config, title=title, abstract=abstract)


def report_facts(run: Experiment) -> ReportFacts:
    """Facts of the run for the technical report."""
    config, branches = run.config, branch_texts(run)
    lines = dict(texts.report_lines(branches))
    if any(branch.kind == "encoder" for branch in branches):
        first = []
        if config.pretrain.loop.steps:
            first.append(f"Pre-training of {config.pretrain.loop.steps} steps on the same normal clips.")
        if config.encoder.checkpoint:
            first.append(f"The encoder starts from the weights {Path(config.encoder.checkpoint).name}.")
        lines["training"] = [*first, *lines["training"]]
    by_hand = any(run.encoder_config(name).simam_machines for name in run.encoder_branches)
    lines["task"] = [] if by_hand else ["Every machine is treated with one and the same configuration."]
    lines["fusion"] = [
        f"{label}: threshold {texts.threshold(system, _used(run, system), config.false_positive_rate)}."
        for label, system in zip(run.labels, config.systems, strict=True)
        if system.threshold == "batches"
    ]
    return ReportFacts(
        lines=lines,
        branches=branches,
        batch_thresholds=any(system.threshold == "batches" for system in config.systems),
        fusions=list(dict.fromkeys(system.fusion for system in config.systems if len(system.branches) > 1)),
    )


def run_facts(run: Experiment) -> RunFacts:
    """What the run knows about itself, to compare its package with."""
    entries = dict(zip(run.labels, system_entries(run), strict=True))
    systems = dict(zip(run.labels, run.config.systems, strict=True))
    frozen = run.config.data.frozen
    return RunFacts(
        results={label: entry.results for label, entry in entries.items()},
        total_parameters={label: entry.total_parameters for label, entry in entries.items()},
        external_models={label: texts.external(_used(run, system)) for label, system in systems.items()},
        config_hash=selection.config_hash(run.config) if frozen else "",
        frozen_config_hash=selection.read_record(frozen)["config_hash"] if frozen else "",
        machine_settings=_machine_settings(run),
    )


def documents(run: Experiment) -> dict[str, dict[str, Any]]:
    """The content of each system's meta file, by label."""
    config = declared(run)
    return {
        label: make_meta(config, entry).document() for label, entry in zip(run.labels, system_entries(run), strict=True)
    }


def system_entries(run: Experiment) -> list[SystemEntry]:
    """The systems of the package; their development results are this run's or, in a final run, the selected one's."""
    if run.config.data.frozen:
        results = selection.read_record(run.config.data.frozen)["results"]
    else:
        systems = read_json(run.metrics)["systems"]
        results = [selection.percent(systems[label]) if label in systems else {} for label in run.labels]
    return [_entry(run, found, number) for number, found in enumerate(results, 1)]


def _entry(run: Experiment, results: dict[str, dict[str, float]], number: int) -> SystemEntry:
    system, config = run.config.systems[number - 1], run.config
    branches = _used(run, system)
    cards = [read_json(run.card(name)) for name in system.branches]
    return SystemEntry(
        index=number,
        name=texts.name(system, branches, number),
        abbreviation=texts.abbreviation(system, number),
        description=texts.description(system, branches, config.data.rate, config.false_positive_rate),
        total_parameters=sum(card["total_parameters"] for card in cards),
        macs=sum(_macs(run, name, system.view) for name in system.branches),
        subsystem_count=len(system.branches),
        results=results,
        scores_dir=run.system(run.labels[number - 1]),
        summary=texts.summary(system, branches, system.name or "System"),
        external=texts.external_resources(branches),
    )


def _macs(run: Experiment, branch: str, view: str) -> int:
    """Multiply-accumulate operations of a branch for one clip, from its card."""
    macs = read_json(run.card(branch))["macs"]
    if view not in macs:
        raise WheeltapperError(
            f"{run.card(branch)}: macs: expected the view {view}, found {', '.join(macs)}; run stage 2"
        )
    return int(macs[view])


def _used(run: Experiment, system: SystemConfig) -> list[BranchText]:
    return branch_texts(run, system.branches)


def _machine_settings(run: Experiment) -> dict[str, dict[str, Any]]:
    """What the configuration says of each machine alone: {machine: {key without its name: value}}."""
    own: dict[str, dict[str, Any]] = {name: {} for name in manifest.machines(manifest.read(run.manifest))}
    for key, value in selection.flatten(asdict(run.config)):
        parts = key.split(".")
        for name in own:
            if name in parts:
                own[name][".".join(part for part in parts if part != name)] = value
    return own
