"""False alarms to expect of the thresholds of a system."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from system.groups import connected
from system.manifest import group_by
from system.score_tables import Group, ScoreRow, threshold_key
from system.scoring import calibrate

FEW = 6  # references; of fewer, one that is left out may score as high as faults do


def expected_false_alarms(
    rows: Sequence[ScoreRow], thresholds: Mapping[Group, float], false_positive_rate: float
) -> dict[str, dict[str, Any]]:
    """What false-alarm rates on normal clips to expect of thresholds that come from the references.

    Args:
        rows: fused rows of one system.
        thresholds: (machine, section) to threshold.
        false_positive_rate: the rate that was asked.

    Returns:
        By machine and section (``threshold_key``): ``asked``; ``domains``, of each the number of references and the
        range of rates they do not contradict (``calibrate.expected_false_alarms``); ``remark`` on what cannot be
        promised, or empty.
    """
    found = {}
    members = group_by(rows, "machine", "section", "split")
    for group, threshold in thresholds.items():
        own = [rows[index] for index in members.get((*group, "train"), ())]
        scores, domains = np.array([row.score for row in own]), np.array([row.domain for row in own])
        # Parts of one recording are more alike than two recordings are: together they tell as much as one.
        numbers = connected([row.file for row in own], [row.group for row in own])
        ranges = calibrate.expected_false_alarms(scores, domains, threshold, numbers)
        found[threshold_key(*group)] = {
            "asked": false_positive_rate,
            "domains": {domain: asdict(rates) for domain, rates in ranges.items()},
            "remark": _promise({domain: rates.references for domain, rates in ranges.items()}, false_positive_rate),
        }
    return found


def _promise(counts: Mapping[str, int], asked: float) -> str:
    """What cannot be promised with these numbers of references; empty if what was asked can."""
    least = calibrate.least_rate(list(counts.values()))
    if least <= asked:
        return ""
    numbers = " and ".join(f"{count} {domain}" for domain, count in counts.items()) if len(counts) > 1 else ""
    total = _references(sum(counts.values()))
    missed = ", and faults may be missed" if sum(counts.values()) < FEW else ""
    return (
        f"{f'{numbers} references' if numbers else total}: a rate below {100 * least:.0f} % cannot be promised{missed}"
    )


def false_alarm_text(found: Mapping[str, Any]) -> str:
    """One line on an entry of ``expected_false_alarms``."""
    ranges = [
        f"{range_text(rates)} of {domain} clips ({_references(rates['references'])})"
        for domain, rates in found["domains"].items()
    ]
    remark = f"; {found['remark']}" if found["remark"] else ""
    return f"false alarms expected, where {100 * found['asked']:g} % were asked: {', '.join(ranges)}{remark}"


def range_text(rates: Mapping[str, Any]) -> str:
    """The range of a domain in an entry of ``expected_false_alarms``."""
    return f"{100 * rates['low']:.0f} to {100 * rates['high']:.0f} %"


def _references(count: int) -> str:
    return f"{count} reference{'s' * (count != 1)}"
