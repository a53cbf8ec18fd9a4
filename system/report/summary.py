"""The first screen of a report: how reliably each machine is judged, and which clips need listening."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from system.errors import WheeltapperError
from system.evaluation import available
from system.evaluation.truth import Truth
from system.report import charts
from system.report.load_run import RunData, SectionResults

WELL = 0.8  # score from which a machine is judged well
REPLICATES = 1000  # of the bootstrap
# Text for each verdict, best first.
VERDICTS = {"well": "judged well", "partly": "judged in part", "not": "not told apart", "unknown": "not known"}


@dataclass(frozen=True)
class Judgement:
    """How well the anomalies of a machine are separated from its healthy clips.

    ``score`` is a fraction, None without labels.
    """

    score: float | None = None
    interval: list[float] | None = None

    @property
    def verdict(self) -> str:
        """A key of ``VERDICTS``: "partly" is significantly better than guessing, "not" may be guessing."""
        if self.score is None:
            return "unknown"
        if self.score <= 0.5 or (self.interval and self.interval[0] <= 0.5):
            return "not"
        return "well" if self.score >= WELL else "partly"


def judge(run: RunData) -> dict[str, Judgement]:
    """The judgement of the best system by machine, in the order of the run's machines."""
    system = run.systems.get(run.best) or {}
    rows = system.get("per_machine") or {}
    found = {}
    for machine in dict.fromkeys([*rows, *(unit.machine for unit in run.units)]):
        row = rows.get(machine) or {}
        score = row.get("mean", row.get("hmean", row.get(available.SCORE)))
        interval = _interval(run, machine, system.get("rule", 2022)) if score is not None else None
        found[machine] = Judgement(score, interval)
    return found


def _interval(run: RunData, machine: str, rule: int) -> list[float] | None:
    """95 % interval of a machine's score, by the same bootstrap as that of the official score; None if undefined."""
    units = [unit for unit in run.development if unit.machine == machine]
    scores = {
        (unit.machine, unit.section): dict(zip((clip.file for clip in unit.clips), unit.scores.tolist(), strict=True))
        for unit in units
    }
    truth = [Truth(u.machine, u.section, clip.file, clip.domain, clip.label) for u in units for clip in u.clips]
    try:
        found = available.main_score(available.evaluate(scores, None, truth, rule, REPLICATES)) if truth else None
    except WheeltapperError:
        return None  # a section lacks clips of one kind, which is a finding
    return found[1] if found else None


def overview(run: RunData, judged: dict[str, Judgement]) -> dict[str, Any]:
    """The machines as cards, the number of clips that raised an alarm, and the machines by verdict."""
    decided = [unit.decided for unit in run.units if unit.decided is not None]
    by_verdict = {
        key: {"word": word, "machines": [name for name, found in judged.items() if found.verdict == key]}
        for key, word in VERDICTS.items()
    }
    return {
        "cards": [_card(run, name, found) for name, found in judged.items()],
        "alarms": sum(int(alarms.sum()) for alarms in decided),
        "clips": sum(map(len, decided)),
        "verdicts": {key: group for key, group in by_verdict.items() if group["machines"]},
        "judged_well": len(by_verdict["well"]["machines"]),
        "known": sum(found.score is not None for found in judged.values()),
        "well": f"{100 * WELL:g}",
    }


def _card(run: RunData, name: str, found: Judgement) -> dict[str, Any]:
    units = [unit for unit in run.units if unit.machine == name]
    score, interval = found.score, found.interval
    return {
        "name": name,
        "verdict": found.verdict,
        "word": VERDICTS[found.verdict],
        "score": "" if score is None else f"{100 * score:.0f}",
        "gauge": charts.small_gauge(
            name, None if score is None else 100 * score, [100 * value for value in interval] if interval else None
        ),
        "alarms": count(units, None),
        "found": count(units, True) if score is not None else "",
        "false": count(units, False) if score is not None else "",
    }


def count(units: list[SectionResults], anomalous: bool | None) -> str:
    """Alarms among test clips as "3 of 10", of one kind, or of all for None; empty without decisions."""
    chosen = [
        unit.decided if anomalous is None else unit.decided[unit.anomalous == anomalous]
        for unit in units
        if unit.decided is not None
    ]
    values = np.concatenate(chosen) if chosen else np.array([], bool)
    return f"{int(values.sum())} of {len(values)}" if len(values) else ""
