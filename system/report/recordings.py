"""Report section: recordings to see and hear, and the list of clips that raised an alarm."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from system.errors import WheeltapperError
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
        clip_channels = [sound.listen(unit.clips[index]) for index in chosen]
    except (WheeltapperError, OSError) as error:
        run.problems.append(f"{unit.name}: {error}")
        return None
    flat = [one for clip in clip_channels for one in clip]
    low, high = sound.limits(flat)
    players = iter(sound.excerpts(flat, seconds))
    entries = []
    for place, (index, channels) in enumerate(zip(chosen, clip_channels, strict=True)):
        clip, kind = unit.clips[index], "most typical" if place else "most anomalous"
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
                "gate": _course(unit.name, kind, clip, found),
            }
        )
    threshold = "" if unit.threshold is None else f"{unit.threshold:.2f}"
    return {"name": unit.name, "threshold": threshold, "clips": entries, "alarms": _alarms(unit)}


def _course(name: str, kind: str, clip: Any, found: Mapping[str, Gates]) -> Any:
    """The weights of the first branch's gate over time for a clip; None without a gate."""
    for gate in list(found.values())[:1]:
        if clip.key in gate.rows and clip.model_channels > 1:
            course = np.asarray(gate.values[gate.rows[clip.key]], float)
            title = f"{name}, {kind} clip"
            return curves.gate_chart(title, [("", course)], clip.seconds, gate.inputs, height=46)
    return None


def _alarms(unit: SectionResults) -> dict[str, Any] | None:
    """The test clips that raised an alarm, highest score first."""
    if unit.decided is None:
        return None
    order = [int(index) for index in np.argsort(-unit.scores, kind="stable") if unit.decided[index]]
    rows = [
        {"file": unit.clips[i].file, "score": f"{unit.scores[i]:.2f}", "truth": TRUTHS[unit.clips[i].label]}
        for i in order[:MOST_LISTED]
    ]
    return {"count": len(order), "clips": len(unit.clips), "rows": rows, "more": len(order) - len(rows)}
