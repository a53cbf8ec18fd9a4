"""The report of a run: one self-contained HTML file."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from system import __version__, manifest
from system.files import open_atomic, printable
from system.report import leaderboard, maps, recordings, results, summary, training_section
from system.report.findings import collect_findings
from system.report.load_run import RunData, read_run
from system.report.template import template


def write_report(
    exp: str | os.PathLike, progress: Callable[[int, int], None] | None = None, out: str | os.PathLike | None = None
) -> Path:
    """Writes the report of an experiment folder atomically; the same folder gives the same page.

    Missing parts of a run are mentioned on the page.

    Args:
        exp: experiment folder.
        progress: called with (done, total) after each section.
        out: file to write; None for report.html in the folder.

    Returns:
        The file.

    Raises:
        WheeltapperError: there is no such folder.

    Example:
        >>> write_report("exp/default")
        PosixPath('exp/default/report.html')
    """
    run = read_run(Path(exp))
    page = render(run, progress)
    path = Path(out or run.paths.report)
    with open_atomic(path) as file:
        file.write(printable(page))
    return path


def render(run: RunData, progress: Callable[[int, int], None] | None = None) -> str:
    """The page as HTML."""
    judged = summary.judge(run)
    sections: dict[str, Callable[[RunData], Any]] = {
        "overview": lambda run: summary.overview(run, judged),
        "headline": results.headline,
        "systems": results.systems,
        "published": leaderboard.published,
        "machines": lambda run: results.machines(run, judged),
        "scores": results.scores,
        "decisions": results.decisions,
        "recordings": recordings.recordings,
        "evaluation": results.evaluation,
        "training": training_section.training,
        "gate": training_section.gate,
        "maps": maps.maps,
        "benchmark": training_section.benchmark,
        "stages": training_section.stages,
    }
    content = {}
    for name, section in sections.items():
        content[name] = section(run)
        if progress:
            progress(len(content), len(sections))
    # Last, because reading the files for the sections may give more findings.
    return template("report.html.j2").render(
        **content,
        facts=_facts(run),
        notes=collect_findings(run),
        configuration=run.config_text,
        folder=run.folder.resolve().name,
        version=__version__,
    )


def _facts(run: RunData) -> list[tuple[str, str]]:
    """Key facts of the run for the top of the page."""
    names = manifest.machines(run.clips)
    tests = sum(clip.split == "test" for clip in run.clips)
    references = sum(clip.split == "train" for clip in run.clips)
    hours = sum(clip.seconds for clip in run.clips) / 3600
    channels = sorted({clip.channels for clip in run.clips})
    facts: list[tuple[str, Any]] = [
        ("machines", len(names) or ""),
        ("normal references", references or ""),
        ("test clips", tests or ""),
        ("of sound", f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min" if run.clips else ""),
        ("channels" if channels != [1] else "channel", " or ".join(map(str, channels))),
    ]
    package = run.paths.zip
    if run.config and package.is_file():
        facts.append(("submission package", package.name))
    return [(text, str(value)) for text, value in facts if value != ""]
