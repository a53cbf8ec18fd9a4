"""The technical report of a package, as Markdown: a template filled with facts and tables."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from submission import texts
from submission.entry import SystemEntry
from submission.machines_check import development_year
from submission.results_check import RESULTS
from submission.texts import BranchText
from system.config.package import ExternalResource, PackageConfig
from system.evaluation.metrics import harmonic_mean
from system.leaderboard import published

TEMPLATES = Path(__file__).parent / "templates"
SECTIONS = ("task", "system", "training", "scoring", "fusion", "compliance", "complexity")
FUSIONS = {"sum": "added with fixed weights", "minimum": "replaced by their minimum"}
METRICS = dict(zip(RESULTS, ("AUC(source)", "AUC(target)", "pAUC"), strict=True))


@dataclass(frozen=True)
class ReportFacts:
    """Facts of the run for the technical report.

    Args:
        lines: sentences by section.
        official: development machines whose test clips are the challenge's own, so that the published figures of the
            baselines stand beside them.
        branches: of all systems; their kinds, gates and banks decide what the sections say.
        batch_thresholds: whether some system takes its threshold from the training batches.
        fusions: how systems fuse several branches, each way once.
    """

    lines: Mapping[str, Sequence[str]] = field(default_factory=dict)
    official: frozenset[str] = frozenset()
    branches: Sequence[BranchText] = ()
    batch_thresholds: bool = False
    fusions: Sequence[str] = ("sum",)


def markdown(
    config: PackageConfig,
    systems: Sequence[SystemEntry],
    machines: Sequence[str],
    rehearsal: bool,
    facts: ReportFacts | None = None,
    year: int | None = None,
) -> str:
    """Renders the report as Markdown.

    Args:
        config: title, authors and abstract.
        systems: systems in the order of their index.
        machines: machines whose scores are in the package.
        rehearsal: whether these are development machines, because there are no anonymous clips.
        facts: facts of the run.
        year: year of the challenge, None if the machines belong to no year.
    """
    import jinja2

    facts = facts or ReportFacts()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    table = results_table(systems, facts.official)
    beside = " beside the official baselines' published figures" if _baselines(systems, facts.official) else ""
    text = environment.get_template("technical_report.md.j2").render(
        title=_line(texts.title(config, facts.branches)),
        authors=", ".join(_line(f"{author.first} {author.last}") for author in config.authors),
        affiliations="; ".join(dict.fromkeys(_affiliation(author) for author in config.authors)),
        mails=", ".join(_line(author.email) for author in config.authors),
        abstract=_line(texts.abstract(config, facts.branches, ())),
        year=year,
        demonstration=not config.authors,
        rehearsal=rehearsal,
        machines=", ".join(machines),
        kinds=[branch.kind for branch in facts.branches],
        gate=any(branch.gate for branch in facts.branches),
        two_inputs=any(len(branch.inputs) > 1 for branch in facts.branches),
        per_domain=_branches_with_banks(facts.branches),
        trained=any("fine-tuning" in branch.data_usage for branch in facts.branches),
        methods=[branch.method for branch in facts.branches],
        attributes=any(branch.attributes for branch in facts.branches),
        batch_thresholds=facts.batch_thresholds,
        fused=bool(facts.fusions),
        fusion=" or, as stated below, ".join(FUSIONS[fusion] for fusion in facts.fusions),
        facts={name: _bullets(facts.lines.get(name, ())) for name in SECTIONS},
        table=_markdown_table(table) if table else "",
        caption=f"**Table 1.** AUC and pAUC on the development machines in percent{beside}.",
        systems="**Table 2.** Submitted systems.\n\n" + _markdown_table(systems_table(config, systems)),
        summaries=[f"`task2_{s.index}`: {_line(s.summary or s.name)}" for s in systems],
        external=_external([*config.external_datasets, *(each for system in systems for each in system.external)]),
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def results_table(systems: Sequence[SystemEntry], official: frozenset[str] = frozenset()) -> list[list[str]]:
    """Table 1: results on the development machines, one column per baseline and system.

    Each machine has three rows (AUC source, AUC target, pAUC). Then follow harmonic means over the machines; the last
    row is the official score, the harmonic mean of all values. A mean is only shown if no value is missing.

    Args:
        systems: the systems with their results.
        official: machines for which baseline results are published.

    Returns:
        Header and rows; empty if there are no results.
    """
    machines = list(dict.fromkeys(machine for system in systems for machine in system.results))
    if not machines:
        return []
    baselines = _baselines(systems, official)
    columns: list[Mapping[str, Mapping[str, float]]] = [
        *baselines.values(),
        *(system.results for system in systems),
    ]
    heads = [*baselines, *(f"task2_{system.index}" for system in systems)]
    rows = [["Machine", "Metric", *heads]]
    for machine in machines:
        for number, (key, name) in enumerate(METRICS.items()):
            figures = [_figure(column.get(machine, {}).get(key)) for column in columns]
            rows.append([machine if number == 0 else "", name, *figures])
    for number, (key, name) in enumerate(METRICS.items()):
        rows.append(["All (hmean)" if number == 0 else "", name, *(_mean(c, machines, [key]) for c in columns)])
    rows.append(["Official score", "hmean of all", *(_mean(c, machines, RESULTS) for c in columns)])
    return rows


def systems_table(config: PackageConfig, systems: Sequence[SystemEntry]) -> list[list[str]]:
    """Table 2: label, name, subsystems, parameters and operations of each system."""
    rows = [["System", "Name", "Subsystems", "Parameters", "MACs per clip"]]
    for system in systems:
        macs = f"{system.macs:,}" if system.macs else "not counted"
        label = f"{config.surname}_{config.affiliation}_task2_{system.index}"
        rows.append([label, _line(system.name), str(system.subsystem_count), f"{system.total_parameters:,}", macs])
    return rows


def _branches_with_banks(branches: Sequence[BranchText]) -> str:
    """Where each domain has a bank, as the beginning of a sentence; empty if nowhere."""
    names = [branch.name for branch in branches if branch.bank_per_domain]
    if not names:
        return ""
    return "In all branches" if len(names) == len(branches) else f"In {', '.join(names)}"


def _baselines(systems: Sequence[SystemEntry], official: frozenset[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Baseline -> machine -> results, for the official machines among the results; may be empty."""
    machines = {machine for system in systems for machine in system.results} & official
    table = published.find(f"dcase{development_year(official)}", published.DEVELOPMENT)
    if table is None or not machines & set(table.groups):
        return {}
    return {
        name: {
            machine: dict(zip(RESULTS, table.entry(name).values(machine).values(), strict=True))
            for machine in table.groups
            if machine in machines
        }
        for name in published.BASELINES
    }


def _mean(column: Mapping[str, Mapping[str, float]], machines: Sequence[str], keys: Sequence[str]) -> str:
    values = [column.get(machine, {}).get(key) for machine in machines for key in keys]
    return _figure(None if None in values else float(harmonic_mean(values)))


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _markdown_table(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def _bullets(lines: Sequence[str]) -> str:
    return "".join(f"- {_line(line)}\n" for line in lines) + ("\n" if lines else "")


def _external(entries: Sequence[ExternalResource]) -> str:
    if not entries:
        return "None: neither data nor weights from outside the task were used."
    lines = (f"- {_line(entry.name)}{f' ({_line(entry.url)})' if entry.url else ''}" for entry in entries)
    return "\n".join(dict.fromkeys(lines))


def _affiliation(author) -> str:
    return _line(", ".join(part for part in (author.department, author.institution, author.location) if part))


def _line(text: str) -> str:
    """Converts a user's text to one line that cannot start a Markdown block."""
    return re.sub(r"^(?=[#|]|- )", r"\\", " ".join(str(text).split()))
