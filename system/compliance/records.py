"""Rules for the inputs of a run: its manifest, the records of its stages, its configuration, and what it declares."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from submission import facts as run_facts
from submission.facts import RunFacts
from submission.findings import ERROR, Collector
from system import audio, manifest, selection
from system.compliance.rule import ComplianceRule
from system.corpora.names import contradictions
from system.corpora.source import list_source
from system.errors import WheeltapperError
from system.experiment import STAGES, Experiment
from system.files import HASHING, file_hashes, read_json
from system.manifest import Clip
from system.parallel import map_in_order
from system.stage import MARKERS, Stage

# Files with labels or metrics, which must not be among the inputs of the stages before the metrics.
TRUTH = ("metrics.json", "truth.csv")
BLIND = ("pretrain", "adapt", "embed", "score", "fuse")
SYNTHETIC = "synthetic"


def check_training(run: Experiment, clips: Sequence[Clip]) -> ComplianceRule:
    """Training uses only normal training clips, in this run and in the sources of its pre-training."""
    learned = _learned(run, clips)
    rule = ComplianceRule("training", "Only normal training clips are learned from.", f"{len(learned)} training clips")
    try:
        manifest.check_training(learned, run.manifest)
    except WheeltapperError as error:
        rule.violations.append(str(error))
    rule.violations += _findings(RunFacts(training_files=sorted(clip.path for clip in learned)))
    for source in run.config.pretrain.sources:
        if run.config.pretrain.loop.steps and Path(source.path).is_dir():
            rule.notes.append(f"{source.path}: shards, whose clips were checked when the shards were written")
    return rule


def check_overlap(run: Experiment, clips: Sequence[Clip]) -> ComplianceRule:
    """No test clip has the content of a training, reference or calibration clip."""
    learned = {clip.digest: clip.path for clip in _learned(run, clips) if clip.digest}
    tests = {clip.digest: clip.path for clip in clips if clip.split == "test" and clip.digest}
    says = "No test clip is among the training, reference or calibration clips, whatever its name."
    rule = ComplianceRule("overlap", says, f"content of {len(tests)} test clips against {len(learned)} training clips")
    rule.violations += _findings(RunFacts(training_digests=learned, evaluation_digests=tests))
    if any(not clip.digest for clip in clips if clip.split in ("train", "test")):
        rule.violations.append(f"{run.manifest}: expected a content hash for every clip, found clips without")
    return rule


def check_learned(run: Experiment, clips: Sequence[Clip], stages: Mapping[str, Stage]) -> ComplianceRule:
    """The records of the stages show this configuration and exactly the training clips of the manifest."""
    says = "The training clips on record are exactly those of the manifest."
    rule = ComplianceRule("learned", says, f"records of {', '.join(stages)}")
    for stage in stages.values():
        try:
            complete = stage.is_complete()
        except WheeltapperError as error:
            rule.violations.append(str(error))
            continue
        if not complete:
            rule.violations.append(
                f"{stage.marker}: expected the record of stage {stage.number} {stage.name} with this configuration and "
                f"these inputs, found {stage.problem()}"
            )
    expected = manifest.fingerprint([clip for clip in clips if clip.split == "train"])
    found = {"adapt": _record(run, "adapt").get("settings", {}).get("clips")}
    for source in _record(run, "pretrain").get("settings", {}).get("sources", []):
        if source.get("name") == "own":
            found["pretrain"] = source.get("fingerprint")
    for name, value in found.items():
        if value != expected:
            rule.violations.append(
                f"stage {name}: expected training clips of fingerprint {expected[:16]}, found {str(value)[:16]}"
            )
    return rule


def check_files(run: Experiment) -> ComplianceRule:
    """Every file is as its stage wrote it: nothing was changed by hand between two stages."""
    rule = ComplianceRule("files", "No result was changed after the stage that wrote it.")
    count, changed = 0, []
    for path in sorted((run.folder / MARKERS).glob("[0-9]*.json")):
        if path.name.split("_", 1)[1] not in [f"{name}.json" for name in STAGES[: STAGES.index("package")]]:
            continue
        record = read_json(path)
        hashes = record.get("sha256", {})
        files = {name: run.folder / name for name in record.get("writes", {})}
        there = {name: file for name, file in files.items() if name in hashes and file.is_file()}
        found = dict(zip(there, file_hashes(there.values()), strict=True))
        count += len(files)
        for name, file in files.items():
            if not file.is_file():
                changed.append(f"{file}: expected the file that {path.name} records, found nothing")
            elif name not in hashes:
                rule.notes.append(f"{file}: no hash on record, not compared")
            elif found.get(name) != hashes[name]:
                changed.append(f"{file}: expected the content that {path.name} records, found another")
    rule.break_each(changed)
    rule.checked = f"{count} files of the stages"
    return rule


def check_recordings(run: Experiment, clips: Sequence[Clip]) -> ComplianceRule:
    """The clips are the configured recordings: those that --data names, with the content and names of stage 0."""
    says = "Only the configured recordings are used, unchanged since stage 0, with split and label as in their names."
    used = [clip for clip in clips if clip.split in ("train", "test")]
    rule = ComplianceRule("recordings", says, f"{len(used)} recordings")
    if not any(Path(clip.path).exists() for clip in used):
        rule.notes.append("the recordings are no longer where stage 0 read them, and were not compared")
        return rule
    rule.break_each([text for texts in map_in_order(_contradictions, used, HASHING) for text in texts])
    data = str(_record(run, "data").get("settings", {}).get("data", ""))
    place = run.folder / "data" if data == SYNTHETIC else Path(data)
    if not data:
        rule.notes.append("stage 0 has no record: the origin of the recordings was not checked")
    elif not place.exists():
        rule.notes.append(f"{place} is no longer there: the origin of the recordings was not checked")
    else:
        known = _known(place)
        foreign = [clip.path for clip in used if os.path.realpath(clip.path) not in known]
        rule.break_each([f"{path}: expected a recording in {place}, found one elsewhere" for path in foreign])
    return rule


def _known(place: Path) -> set[str]:
    """Real paths of the recordings that a folder holds, by links too, or a manifest or table lists."""
    if place.is_dir():
        files: Iterable[str | Path] = audio.list_files(place)
    else:
        files = (clip.path for clip in list_source(place)[0])
    return {os.path.realpath(path) for path in files}


def check_machines(run: Experiment, clips: Sequence[Clip]) -> ComplianceRule:
    """The manifest contains only the machines that ``data.machines`` selects, so no stage has used others."""
    which = run.config.data.machines
    rule = ComplianceRule("machines", "A run uses only the machines of its phase.", f"data.machines: {which}")
    if which != "all":
        for machine, labelled in manifest.is_development(clips).items():
            if labelled != (which == "development"):
                kind = "development" if labelled else "evaluation"
                rule.violations.append(f"{run.manifest}: expected {which} machines, found {machine}, of {kind}")
    return rule


def check_labels(run: Experiment) -> ComplianceRule:
    """No stage before the metrics reads labels: the inputs on its record contain neither truth nor metrics."""
    says = "No stage before the metrics reads labels of test clips."
    rule = ComplianceRule("labels", says, f"inputs on record of {', '.join(BLIND)}")
    for name in BLIND:
        record = _record(run, name)
        given = [str(input_.get("file")) for input_ in record.get("given", {}).values()]
        for path in [*record.get("reads", []), *given]:
            if Path(path).name in TRUTH:
                rule.violations.append(f"stage {name}: expected no labels among its inputs, found {path}")
    return rule


def check_declared(run: Experiment, facts: RunFacts, documents: Mapping[str, Mapping[str, Any]]) -> ComplianceRule:
    """Every meta file declares the external weights and data, and published weights are unchanged."""
    rule = ComplianceRule(
        "declared", "External weights and data are declared in the meta file of each system that uses them."
    )
    collector = Collector()
    for label, document in documents.items():
        claims = RunFacts(external_models={label: facts.external_models.get(label, ())})
        run_facts.check_claims(claims, label, document, {}, f"{label}.meta.yaml", collector)
    rule.violations += [f"{found.where}: {found.message}" for found in collector.sorted()]
    weights = dict(selection.weight_files(run.config))
    if weights:
        from system.encoders import cards

        for key, (name, path) in weights.items():
            known = cards.CARDS.get(name)
            try:
                if known and known.sha256:
                    cards.check(path, known)
            except WheeltapperError as error:
                rule.violations.append(f"{key}: {error}")
            if known and not known.sha256:
                rule.notes.append(f"{key}: no published hash of {name} is known, so {path} was not compared")
    rule.checked = f"{len(documents)} meta files, {len(weights)} checkpoints"
    return rule


def check_frozen(run: Experiment, facts: RunFacts) -> ComplianceRule:
    """The configuration is the one that was frozen on development machines."""
    says = "The configuration that scores evaluation machines is the one chosen on development machines."
    frozen = run.config.data.frozen
    rule = ComplianceRule("frozen", says, f"against {frozen}" if frozen else "no configuration was frozen")
    if not frozen:
        if run.config.data.machines != "development":
            rule.notes.append("development and evaluation machines in one run, without a choice on record")
        return rule
    try:
        rule.violations += selection.frozen_problems(run.config)
        rule.violations += _findings(
            RunFacts(config_hash=facts.config_hash, frozen_config_hash=facts.frozen_config_hash)
        )
    except WheeltapperError as error:
        rule.violations.append(str(error))
    return rule


def check_one_setting(facts: RunFacts) -> ComplianceRule:
    """All machines share the same settings; an exception is a note, as in the validator."""
    own = facts.machine_settings
    rule = ComplianceRule(
        "machine settings", "All machines share the same settings.", f"settings of {len(own)} machines"
    )
    rule.notes += _findings(RunFacts(machine_settings=own), errors=False)
    return rule


def _learned(run: Experiment, clips: Sequence[Clip]) -> list[Clip]:
    """The training clips of the run, and those of the manifests that its pre-training uses."""
    found = [clip for clip in clips if clip.split == "train"]
    for source in run.config.pretrain.sources if run.config.pretrain.loop.steps else ():
        if not Path(source.path).is_dir():
            found += manifest.read(source.path)
    return found


def _contradictions(clip: Clip) -> list[str]:
    """The differences between a clip's row of the manifest and its file."""
    found = []
    try:
        if audio.digest(clip.path) != clip.digest:
            found.append(f"{clip.path}: expected the content that stage 0 read, found another")
    except (OSError, WheeltapperError) as error:
        reason = error.strerror if isinstance(error, OSError) else "nothing"
        return [f"{clip.path}: expected a recording, found {reason or error}"]
    return found + [f"{clip.path}: {text}" for text in contradictions(clip)]


def _record(run: Experiment, name: str) -> dict[str, Any]:
    marker = run.stage(name, {}, [], []).marker
    return read_json(marker) if marker.is_file() else {}


def _findings(facts: RunFacts, errors: bool = True) -> list[str]:
    """The findings of ``submission.facts``: errors, or everything else."""
    collector = Collector()
    run_facts.check_run(facts, "run", collector)
    return [found.message for found in collector.sorted() if (found.level == ERROR) == errors]
