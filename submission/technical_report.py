"""The technical report of a package: a skeleton in Markdown with the tables filled in, and the same as PDF."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from submission.machines_check import development_year
from submission.meta_check import RESULTS
from system.config.package import PackageConfig
from system.evaluation.metrics import harmonic_mean
from system.leaderboard import published

if TYPE_CHECKING:
    from submission.package import SystemEntry

TEMPLATES = Path(__file__).parent / "templates"
SECTIONS = ("task", "system", "training", "scoring", "fusion", "compliance", "complexity")
METRICS = dict(zip(RESULTS, ("AUC(source)", "AUC(target)", "pAUC"), strict=True))


@dataclass(frozen=True)
class ReportFacts:
    """Facts of the run for the report: section of the report (SECTIONS) -> one sentence per bullet point.

    ``encoders``, ``autoencoders`` and ``spectra`` say what kinds of branches the systems have, ``batch_thresholds``
    that some system takes its threshold from the training batches. ``official`` names the development machines whose
    test clips are the challenge's own, so that the published figures of the baselines stand beside them.
    """

    lines: Mapping[str, Sequence[str]] = field(default_factory=dict)
    official: frozenset[str] = frozenset()
    encoders: bool = True
    autoencoders: bool = False
    spectra: bool = False
    batch_thresholds: bool = False


def markdown(
    config: PackageConfig,
    systems: Sequence["SystemEntry"],
    machines: Sequence[str],
    rehearsal: bool,
    facts: ReportFacts | None = None,
    year: int | None = None,
) -> str:
    """The report as Markdown.

    Args:
        systems: in the order of their index.
        machines: that the package holds scores of.
        rehearsal: whether these are development machines, for want of anonymous clips.
        year: of the challenge, None where the machines belong to none.
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
        title=_line(config.title),
        authors=", ".join(_line(f"{author.first} {author.last}") for author in config.authors),
        affiliations="; ".join(dict.fromkeys(_affiliation(author) for author in config.authors)),
        mails=", ".join(_line(author.email) for author in config.authors),
        abstract=_line(config.abstract),
        year=year,
        rehearsal=rehearsal,
        machines=", ".join(machines),
        encoders=facts.encoders,
        autoencoders=facts.autoencoders,
        spectra=facts.spectra,
        batch_thresholds=facts.batch_thresholds,
        facts={name: _bullets(facts.lines.get(name, ())) for name in SECTIONS},
        table=_markdown_table(table) if table else "",
        caption=f"**Table 1.** AUC and pAUC on the development machines in percent{beside}.",
        systems="**Table 2.** Submitted systems.\n\n" + _markdown_table(systems_table(config, systems)),
        summaries=[f"`task2_{s.index}`: {_line(s.summary or s.name)}" for s in systems],
        external=_external(config),
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def results_table(systems: Sequence["SystemEntry"], official: frozenset[str] = frozenset()) -> list[list[str]]:
    """Table 1: per development machine three rows (source, target, pAUC), then harmonic means, one column a system.

    The harmonic mean over all figures, the official score, is the last row. A mean stands only where no figure lacks.
    Returns no rows where there are no results.
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


def systems_table(config: PackageConfig, systems: Sequence["SystemEntry"]) -> list[list[str]]:
    """Table 2: label, name, subsystems, parameters and operations."""
    rows = [["System", "Name", "Subsystems", "Parameters", "MACs per clip"]]
    for system in systems:
        macs = f"{system.macs:,}" if system.macs else "not counted"
        label = f"{config.surname}_{config.affiliation}_task2_{system.index}"
        rows.append([label, _line(system.name), str(system.subsystem_count), f"{system.total_parameters:,}", macs])
    return rows


def _baselines(systems: Sequence["SystemEntry"], official: frozenset[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Baseline -> machine -> figures, for the official machines among the results; empty where there are none."""
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


def _external(config: PackageConfig) -> str:
    if not config.external_datasets:
        return "None: no data and no pre-trained model from outside the task was used."
    return "\n".join(
        f"- {_line(entry.name)}{f' ({_line(entry.url)})' if entry.url else ''}" for entry in config.external_datasets
    )


def _affiliation(author) -> str:
    return _line(", ".join(part for part in (author.department, author.institution, author.location) if part))


def _line(text: str) -> str:
    """Text of a user's that stays in its line and cannot begin a Markdown block."""
    return re.sub(r"^(?=[#|]|- )", r"\\", " ".join(str(text).split()))
