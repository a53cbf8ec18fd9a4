"""Report section: recordings to see and hear, and the list of clips that raised an alarm."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from markupsafe import Markup

from system.errors import WheeltapperError
from system.manifest import Clip
from system.report import curves, sound
from system.report.load_run import RunData, SectionResults
from system.report.results import PageSection
from system.report.training_section import Gates, gates

MOST_MACHINES = 16
OPEN_MACHINES = 6  # further machines are collapsed
MOST_LISTED = 200  # maximum clips listed per machine
BUDGET = 6e6  # maximum characters of sound in the page
PER_SECOND = 36000  # approximate characters per second of sound
SHORTEST, LONGEST = 2.0, 12.0  # limits of the playable excerpt in seconds
TRUTHS = {"anomaly": "an anomaly", "normal": "healthy", "": "not known"}


def recordings(run: RunData) -> PageSection:
    """The most anomalous and the most typical test clip of each machine, and all clips that raised an alarm."""
    if not run.units:
        return "There are no scored test clips in this run, so no clips are shown."
    units = run.units[:MOST_MACHINES]
    players = sum(2 * max(1, unit.clips[0].model_channels) for unit in units)
    seconds = float(np.clip(BUDGET / PER_SECOND / players, SHORTEST, LONGEST))
    found = gates(run)
    shown = [entry for unit in units if (entry := _of_unit(run, unit, seconds, found))]
    if not shown:
        return "The recordings are not where the manifest says, so none can be shown."
    return {
        "units": shown,
        "seconds": f"{seconds:.0f}",
        "open": OPEN_MACHINES,
        "gate": next(iter(found), ""),
        "left_out": [unit.name for unit in run.units[MOST_MACHINES:]],
    }


def _of_unit(run: RunData, unit: SectionResults, seconds: float, found: Mapping[str, Gates]) -> dict[str, Any] | None:
    order = np.argsort(-unit.scores, kind="stable")
    chosen = dict.fromkeys([int(order[0]), int(order[-1])])
    try:
        shown = {index: _worst(unit, unit.clips[index]) for index in chosen}
        clip_channels = [sound.listen(clip) for clip in shown.values()]
    except (WheeltapperError, OSError) as error:
        run.problems.append(f"{unit.name}: {error}")
        return None
    flat = [one for clip in clip_channels for one in clip]
    low, high = sound.limits(flat)
    players = iter(sound.excerpts(flat, seconds))
    entries = []
    for place, (index, channels) in enumerate(zip(chosen, clip_channels, strict=True)):
        clip, kind = shown[index], "most typical" if place else "most anomalous"
        entries.append(
            {
                "kind": kind,
                "score": f"{unit.scores[index]:.2f}",
                "alarm": bool(unit.decided[index]) if unit.decided is not None else None,
                "truth": TRUTHS[clip.label],
                "known": bool(clip.label),
                "right": (clip.label == "anomaly") == (place == 0),
                "domain": clip.domain,
                "file": clip.file,
                "channels": [
                    {
                        "name": one.channel if len(channels) > 1 else "",
                        "start": f"{sound.excerpt_start(one, seconds) / one.rate:.3f}",
                        "length": f"{len(one.wave) / one.rate:.3f}",
                        "picture": sound.picture(
                            one, low, high, f"{unit.name}: spectrogram of the {kind} clip, {one.channel}", seconds
                        ),
                        "player": next(players),
                    }
                    for one in channels
                ],
                "gate": _gate(unit.name, kind, clip, found),
                "course": _course(unit, kind, clip),
                "worst": _span(clip) if clip.window else "",
            }
        )
    threshold = "" if unit.threshold is None else f"{unit.threshold:.2f}"
    return {"name": unit.name, "threshold": threshold, "clips": entries, "alarms": _alarms(unit)}


def _worst(unit: SectionResults, clip: Clip) -> Clip:
    """The window of the highest score of a clip that has several, or the clip."""
    course = unit.courses.get(clip.file)
    if not course:
        return clip
    worst = max(course, key=lambda row: row.score)
    return replace(clip, start=worst.start, window=worst.window)


def _span(clip: Clip) -> str:
    """Start and end of a window as text."""
    start = clip.start / clip.rate
    return f"{start:.1f} to {start + clip.held / clip.rate:.1f} s"


def _course(unit: SectionResults, kind: str, clip: Clip) -> Markup | None:
    """The scores of a clip's windows over time, of which ``clip`` is the worst; None for a clip of one window."""
    rows = unit.courses.get(clip.file)
    if not rows:
        return None
    starts = np.array([row.start for row in rows]) / clip.rate
    scores = np.array([row.score for row in rows])
    worst = clip.start / clip.rate
    return curves.course_chart(f"{unit.name}, {kind} clip", starts, clip.seconds, scores, unit.threshold, worst)


def _gate(name: str, kind: str, clip: Clip, found: Mapping[str, Gates]) -> Markup | None:
    """The weights of the first branch's gate over time for a clip or its window; None without a gate."""
    for gate in list(found.values())[:1]:
        if clip.row in gate.rows and clip.model_channels > 1:
            course = np.asarray(gate.values[gate.rows[clip.row]], float)
            title = f"{name}, {kind} clip"
            return curves.gate_chart(title, [("", course)], clip.seconds, gate.inputs, height=46)
    return None


def _alarms(unit: SectionResults) -> dict[str, Any] | None:
    """The test clips that raised an alarm, highest score first."""
    if unit.decided is None:
        return None
    order = [int(index) for index in np.argsort(-unit.scores, kind="stable") if unit.decided[index]]
    rows = [
        {
            "file": unit.clips[i].file,
            "score": f"{unit.scores[i]:.2f}",
            "truth": TRUTHS[unit.clips[i].label],
            "worst": _span(worst) if (worst := _worst(unit, unit.clips[i])).window else "",
        }
        for i in order[:MOST_LISTED]
    ]
    return {"count": len(order), "clips": len(unit.clips), "rows": rows, "more": len(order) - len(rows)}
