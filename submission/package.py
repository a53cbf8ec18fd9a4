"""Writes a submission package: folders, technical report and a reproducible zip."""

import dataclasses
import math
import os
import shutil
import zipfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from submission import declared, meta, pdf, technical_report
from submission.archive import TASK
from submission.declared import label
from submission.entry import SystemEntry
from submission.facts import RunFacts
from submission.findings import ERROR, Collector, Finding, listing
from submission.machines_check import OFFICIAL_CLIPS, development_year, find_scope
from submission.meta_check import NO_AUTHORS, SUBSYSTEMS
from submission.results_check import RESULTS
from submission.technical_report import SECTIONS, ReportFacts
from submission.validate import REPORT_SUFFIX, validate
from system.config.package import PackageConfig
from system.corpora.challenge import load_year
from system.errors import WheeltapperError, several
from system.evaluation import challenge_csv
from system.evaluation.challenge_csv import KINDS, SCORE
from system.files import open_atomic
from system.manifest import Clip, is_development

# The earliest time that a zip can store.
ZIP_TIME = (1980, 1, 1, 0, 0, 0)
README = "README.md"


@dataclass
class _Plan:
    """Clips of each machine and section that go into the package; ``demonstration``: it has no authors."""

    clips: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    rehearsal: bool = False
    demonstration: bool = False

    @property
    def machines(self) -> list[str]:
        return list(dict.fromkeys(machine for machine, _ in self.clips))


def write_package(
    config: PackageConfig,
    systems: Sequence[SystemEntry],
    clips: Sequence[Clip],
    out_dir: str | os.PathLike,
    zip_path: str | os.PathLike,
    facts: RunFacts | None = None,
    report: ReportFacts | None = None,
    notes: Sequence[str] = (),
) -> list[Path]:
    """Writes a submission package: ``out_dir/task2/``, the report as Markdown, a README with all findings, and the zip.

    Packages the machines with anonymous test clips, or if there are none, the development machines as a rehearsal. The
    zip only gets its name after validation, so an existing zip is valid. Without authors it is a demonstration, which
    says so and lacks nothing else.

    Args:
        config: authors, label and declarations.
        systems: one to four systems.
        clips: clips of the run's manifest.
        out_dir: folder to write to.
        zip_path: zip to write.
        facts: facts of the run, to check claims against; training and test clips default to those in ``clips``.
        report: facts for the technical report; ``official`` defaults to the machines found in ``clips``.
        notes: lines of Markdown for the README, placed before the validator's findings.

    Returns:
        The files written, the zip first.

    Raises:
        WheeltapperError: scores are missing or of other clips, a field is not valid, or the validator finds errors. In
            the last case the folder and the README are kept for inspection.
    """
    out_dir, zip_path = Path(out_dir), Path(zip_path)
    systems = sorted(systems, key=lambda system: system.index)
    _check_arguments(config, systems, report)
    plan = dataclasses.replace(_plan(clips), demonstration=not config.authors)
    year = _year(config, plan)
    report = report or ReportFacts()
    if not report.official:
        report = dataclasses.replace(report, official=official_machines(_labelled(clips)))
    text = technical_report.markdown(config, systems, plan.machines, plan.rehearsal, report, year)
    name = f"{config.surname}_{config.affiliation}_task2"
    _clear_leftovers(out_dir, zip_path)
    scratch = out_dir / f".{TASK}.{os.getpid()}.tmp"
    scratch.mkdir(parents=True)
    try:
        for system in systems:
            _write_system(config, system, plan, year, scratch)
        with open_atomic(scratch / f"{name}{REPORT_SUFFIX}", "wb") as file:
            file.write(_report_pdf(config, text))
        tree = out_dir / TASK
        if tree.exists():
            shutil.rmtree(tree)
        os.replace(scratch, tree)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    twin = out_dir / f"{name}{REPORT_SUFFIX.removesuffix('.pdf')}.md"
    with open_atomic(twin) as file:
        file.write(text)
    _finish(tree, zip_path, plan, _complete_facts(facts, clips), notes)
    return [zip_path, *sorted(path for path in tree.rglob("*") if path.is_file()), twin, out_dir / README]


def _check_arguments(config: PackageConfig, systems: Sequence[SystemEntry], report: ReportFacts | None) -> None:
    indices = [system.index for system in systems]
    if not systems or len(systems) > 4 or len(set(indices)) != len(indices) or not set(indices) <= {1, 2, 3, 4}:
        raise WheeltapperError(f"systems: expected 1 to 4 with different indices from 1 to 4, found {indices}")
    if problems := list(declared.problems(config, [(system.name, system.abbreviation) for system in systems])):
        raise several("package", problems)
    strange = sorted(set(report.lines if report else ()) - set(SECTIONS))
    if strange:
        raise WheeltapperError(f"report: expected only {', '.join(SECTIONS)}; found {', '.join(strange)}")


def _plan(clips: Sequence[Clip]) -> _Plan:
    tested = [clip for clip in clips if clip.split == "test"]
    if not tested:
        raise WheeltapperError("package: expected test clips to package scores of, found none in the manifest")
    development = is_development(tested)
    plan = _Plan(rehearsal=all(development.values()))
    for clip in sorted(tested, key=lambda clip: clip.key):
        if plan.rehearsal or not development[clip.machine]:
            plan.clips[clip.machine, clip.section].add(clip.file)
    return plan


def _year(config: PackageConfig, plan: _Plan) -> int | None:
    if config.year:
        return load_year(config.year).year
    found = find_scope(set(plan.clips), None, "", Collector()).year
    return found.year if found else None


def official_machines(counts: Mapping[str, int]) -> frozenset[str]:
    """Development machines of one year, by name and number of test clips: own machines may share a name.

    Args:
        counts: machine to number of labelled test clips.
    """
    alike = {machine for machine, count in counts.items() if count == OFFICIAL_CLIPS}
    year = development_year(alike)
    return frozenset(alike & set(load_year(year).dev)) if year else frozenset()


def _labelled(clips: Sequence[Clip]) -> Counter[str]:
    return Counter(clip.machine for clip in clips if clip.split == "test" and clip.label)


def _write_system(config: PackageConfig, system: SystemEntry, plan: _Plan, year: int | None, root: Path) -> None:
    name = label(config, system.index)
    folder = root / name
    folder.mkdir()
    tables = challenge_csv.list_folder(system.scores_dir)
    for (machine, section), files in plan.clips.items():
        for kind in KINDS:
            file_name = (challenge_csv.score_name if kind == SCORE else challenge_csv.decision_name)(machine, section)
            source = tables.get((kind, machine, section))
            if source is None:
                raise WheeltapperError(f"{Path(system.scores_dir) / file_name}: expected scores, found no such file")
            values = dict(challenge_csv.read(source, kind))
            different = sorted(set(values) ^ files)
            if different:
                raise WheeltapperError(
                    f"{source}: expected the {len(files)} test clips of the manifest, found {len(values)} "
                    f"(different: {listing(different, 3)})"
                )
            if kind == SCORE:
                challenge_csv.write_scores(folder / file_name, values)
            else:
                challenge_csv.write_decisions(folder / file_name, {clip: int(v) for clip, v in values.items()})
    meta.write(folder / f"{name}{meta.SUFFIX}", make_meta(config, system), year, demonstration=not config.authors)


def make_meta(config: PackageConfig, system: SystemEntry) -> meta.Meta:
    """Meta file of a system; ``config.description`` overrides the system's description."""
    description = dict(system.description)
    description[SUBSYSTEMS] = system.subsystem_count if system.subsystem_count > 1 else None
    results = {
        machine: {key: round(float(values[key]), 4) for key in RESULTS if _is_figure(values.get(key))}
        for machine, values in system.results.items()
    }
    config = dataclasses.replace(config, external_datasets=[*config.external_datasets, *system.external])
    macs = system.macs and int(system.macs)
    texts = (system.name, system.abbreviation)
    return declared.build_meta(
        config, label(config, system.index), texts, description, int(system.total_parameters), macs, results
    )


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _report_pdf(config: PackageConfig, text: str) -> bytes:
    if not config.report_pdf:
        title = text.partition("\n")[0].removeprefix("# ")
        return pdf.render(text, title, ", ".join(f"{author.first} {author.last}" for author in config.authors))
    return Path(config.report_pdf).read_bytes()


def _complete_facts(facts: RunFacts | None, clips: Sequence[Clip]) -> RunFacts:
    facts = facts or RunFacts()
    trained = [clip for clip in clips if clip.split == "train"]
    training = {f"{clip.machine}/{Path(clip.path).parent.name}/{clip.file}": clip for clip in trained}
    if not facts.training_files:
        facts = dataclasses.replace(facts, training_files=sorted(training))
    if not facts.training_digests:
        digests = {clip.digest: path for path, clip in sorted(training.items()) if clip.digest}
        facts = dataclasses.replace(facts, training_digests=digests)
    if not facts.evaluation_digests:
        anonymous = [clip for clip in clips if clip.split == "test" and not clip.label and clip.digest]
        digests = {clip.digest: f"{clip.machine}/test/{clip.file}" for clip in anonymous}
        facts = dataclasses.replace(facts, evaluation_digests=digests)
    return facts


def _finish(tree: Path, zip_path: Path, plan: _Plan, facts: RunFacts, notes: Sequence[str]) -> None:
    """Zips, validates, and writes the README with the findings; the zip gets its name only if there are no errors."""
    zip_path.parent.mkdir(parents=True, exist_ok=True)
    zip_path.unlink(missing_ok=True)
    temporary = zip_path.with_name(f".{zip_path.name}.{os.getpid()}.tmp")
    readme = tree.parent / README
    try:
        _write_zip(tree, temporary)
        findings = validate(temporary, facts=facts)
        _write_readme(readme, zip_path, plan, findings, notes)
        errors = [found for found in findings if found.level == ERROR and found.message != NO_AUTHORS]
        if errors:
            raise WheeltapperError(
                f"{zip_path}: expected a valid package, found {len(errors)} errors, the first: {errors[0]} "
                f"(all of them in {readme})"
            )
        os.replace(temporary, zip_path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_zip(tree: Path, path: Path) -> None:
    with open(path, "wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for source in sorted(source for source in tree.rglob("*") if source.is_file()):
                entry = zipfile.ZipInfo(f"{TASK}/{source.relative_to(tree).as_posix()}", ZIP_TIME)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.create_system = 3
                entry.external_attr = 0o100644 << 16
                archive.writestr(entry, source.read_bytes(), compresslevel=9)
        file.flush()
        os.fsync(file.fileno())


def _write_readme(path: Path, zip_path: Path, plan: _Plan, findings: Sequence[Finding], notes: Sequence[str]) -> None:
    lines = [f"# {zip_path.name}", ""]
    if plan.demonstration:
        lines += [
            "A DEMONSTRATION, not a submission: no authors are given, and the validator refuses it. package.authors, "
            "package.surname and package.affiliation of the configuration name them.",
            "",
        ]
    if plan.rehearsal:
        lines += [
            "A rehearsal: the recordings hold no anonymous test clips, so the scores of the development machines are "
            "packaged. Do not submit it.",
            "",
        ]
    lines += [
        f"Machines: {', '.join(plan.machines)}. The folder {TASK}/ is what the zip holds; the Markdown file beside it "
        "is the source of the technical report.",
        "",
        *notes,
        *([""] if notes else []),
        f"Findings of the validator: {len(findings) or 'none'}.",
        "",
        *(f"- {found}" for found in findings),
    ]
    with open_atomic(path) as file:
        file.write("\n".join(lines).rstrip() + "\n")


def _clear_leftovers(out_dir: Path, zip_path: Path) -> None:
    """Removes partial files of a run that was killed."""
    for path in out_dir.glob(f".{TASK}.*.tmp"):
        shutil.rmtree(path, ignore_errors=True)
    for path in zip_path.parent.glob(f".{zip_path.name}.*.tmp"):
        path.unlink(missing_ok=True)
