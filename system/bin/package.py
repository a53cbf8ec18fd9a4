"""Stage 7: the submission package, with figures taken from the run."""

import argparse
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from system import manifest, selection
from system.bin import common
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.files import read_json
from system.pipeline import texts

if TYPE_CHECKING:
    from submission.facts import RunFacts
    from submission.package import SystemEntry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_experiment_arguments(parser)


def main(args: argparse.Namespace) -> None:
    with common.experiment(args) as run:
        settings = asdict(run.config)
        reads = [run.manifest, run.metrics, *(run.card(name) for name in run.config.branches)]
        if run.config.data.frozen:
            reads += [Path(run.config.data.frozen), selection.record_path(run.config.data.frozen)]
        for label in run.labels:
            reads += sorted(run.system(label).glob("*_test.csv"))
        stage = run.stage("package", settings, reads, owns=["package", run.zip.name, run.compliance.name])
        common.run_stage(stage, lambda: _work(run))


def _work(run: Experiment) -> Iterable[Path]:
    from submission.package import official_machines, write_package
    from submission.technical_report import ReportFacts
    from system import compliance

    clips, entries, facts = manifest.read(run.manifest), system_entries(run), run_facts(run)
    report = ReportFacts(
        lines=texts.lines(run),
        encoders=run.has_encoder,
        autoencoders=any(branch.kind == "autoencoder" for branch in run.config.branches.values()),
        spectra=any(branch.kind == "spectrum" for branch in run.config.branches.values()),
        batch_thresholds=any(system.threshold == "batches" for system in run.config.systems),
    )
    if run.config.data.frozen:
        record = selection.read_record(run.config.data.frozen)
        report = replace(report, official=official_machines(record["machines"]))
    stages = {verb: common.stage_of(run, verb) for verb in common.MEASURED}
    rules = compliance.check(run, stages, facts, documents(run))
    compliance.write(run.compliance, rules)
    broken = compliance.violations(rules)
    if broken:
        raise WheeltapperError(
            f"{run.folder}: expected a run that keeps the rules of the challenge, found {len(broken)} violations (all "
            f"in {run.compliance}): {'; '.join(broken)}"
        )
    notes = compliance.markdown(rules)
    written = write_package(texts.declared(run), entries, clips, run.package, run.zip, facts, report, notes)
    print(f"{run.zip}: valid; findings in {run.package / 'README.md'}")
    return written


def run_facts(run: Experiment) -> "RunFacts":
    """What the run knows about itself, to compare its package with."""
    from submission.facts import RunFacts

    entries = dict(zip(run.labels, system_entries(run), strict=True))
    systems = dict(zip(run.labels, run.config.systems, strict=True))
    frozen = run.config.data.frozen
    return RunFacts(
        results={label: entry.results for label, entry in entries.items()},
        total_parameters={label: entry.total_parameters for label, entry in entries.items()},
        external_models={label: texts.external(run, system) for label, system in systems.items()},
        config_hash=selection.config_hash(run.config) if frozen else "",
        frozen_config_hash=selection.read_record(frozen)["config_hash"] if frozen else "",
        machine_settings=texts.machine_settings(run),
    )


def documents(run: Experiment) -> dict[str, dict[str, Any]]:
    """The content of each system's meta file, by label."""
    from submission.package import make_meta

    config = texts.declared(run)
    return {
        label: make_meta(config, entry).document() for label, entry in zip(run.labels, system_entries(run), strict=True)
    }


def system_entries(run: Experiment) -> "list[SystemEntry]":
    """The systems of the package; their development results are this run's or, in a final run, the selected one's."""
    if run.config.data.frozen:
        results = selection.read_record(run.config.data.frozen)["results"]
    else:
        systems = read_json(run.metrics)["systems"]
        results = [selection.percent(systems[label]) if label in systems else {} for label in run.labels]
    return [_entry(run, found, number) for number, found in enumerate(results, 1)]


def _entry(run: Experiment, results: dict[str, dict[str, float]], index: int) -> "SystemEntry":
    from submission.package import SystemEntry, system_texts

    system, given = run.config.systems[index - 1], system_texts()[index]
    used = [name for name, weight in system.weights.items() if weight > 0]
    cards = [read_json(run.card(name)) for name in used]
    return SystemEntry(
        index=index,
        name=system.name or given["name"],
        abbreviation=system.abbreviation or given["abbreviation"],
        description=given["description"] | texts.description(run, system),
        total_parameters=sum(card["total_parameters"] for card in cards),
        macs=sum(card["macs"][system.view] for card in cards),
        subsystem_count=len(used),
        results=results,
        scores_dir=run.system(run.labels[index - 1]),
        summary=texts.summary(run, system),
    )
