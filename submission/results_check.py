"""Checks of the development results in a meta file: percentages, and values that no scores can have.

The challenge's pAUC is McClish's over the clips of both domains, with at most 10 % false alarms:
pAUC = (1 + (a - 0.005) / 0.095) / 2 of the area a under the first tenth of the ROC curve. So it is 47.37 % at least.
The curve never falls, so the area under all of it is at least 10 a, and at most 0.9 + a. The AUC over both domains
lies between those of the domains, so the larger of these is at least 10 a, and the smaller at most 0.9 + a.
"""

import math
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from submission.checker import Checker, join
from submission.findings import shorten

RESULTS = ("auc_source", "auc_target", "pauc")
PART = 0.1  # largest false-alarm rate of the pAUC
LEAST_PAUC = 50.0 * (1.0 - PART / (2.0 - PART))  # no anomaly above the highest tenth of the normal clips
ROUNDING = 0.05  # percent
TOGETHER = 0.2  # percent; rounding of the pAUC is nearly doubled in 10 a


def check_results(checker: Checker, value: Any, official: frozenset[str] = frozenset()) -> None:
    """Checks ``results`` of a meta file.

    Args:
        checker: receives the findings.
        value: the field.
        official: development machines of the challenge, which have one section, so that their three values are of the
            same clips.
    """
    path = "results.development_dataset"
    mapping = checker.mapping(value, "results", ("development_dataset",))
    if mapping is None or "development_dataset" not in mapping:
        return
    machines = mapping["development_dataset"]
    if not isinstance(machines, dict):
        checker.error(path, f"expected a mapping of machines to {', '.join(RESULTS)}; found {shorten(machines)}")
        return
    if not machines:
        checker.warning(path, "expected results of the development machines, found none")
    for machine, values in machines.items():
        place = join(path, machine)
        if not isinstance(values, dict):
            checker.error(place, f"expected a mapping with {', '.join(RESULTS)}; found {shorten(values)}")
            continue
        for key in values:
            if key not in RESULTS:
                near = get_close_matches(str(key), RESULTS, n=1, cutoff=0.6)
                hint = f" (did you mean {near[0]}?)" if near else ""
                checker.warning(join(place, key), f"expected only {', '.join(RESULTS)}{hint}")
        percent = any(_is_number(values.get(key)) and values[key] > 1 for key in RESULTS)
        sound = [_check_result(checker, values.get(key), join(place, key), percent) for key in RESULTS]
        if all(sound):
            _check_together(checker, values, place, machine in official)


def _check_result(checker: Checker, value: Any, path: str, percent: bool) -> bool:
    """Whether one metric is possible; with ``percent``, another one of the machine is above 1, so a 0 is allowed."""
    if value is None:
        checker.warning(path, "expected a percentage, found nothing (allowed, but the organisers ask for full results)")
        return False
    problem = ""
    if not _is_number(value):
        problem = f"expected a number, found {shorten(value)}"
    elif not 0 <= value <= 100:
        problem = f"expected a percentage from 0 to 100, found {shorten(value)}"
    elif 0 < value <= 1 or (value == 0 and not percent):
        problem = f"expected a percentage, found {shorten(value)} (a fraction? multiply by 100)"
    elif path.endswith(".pauc") and value < LEAST_PAUC - ROUNDING:
        problem = (
            f"expected at least {LEAST_PAUC:.2f}, the least that the challenge's pAUC (McClish, up to 10 % false "
            f"alarms) can be, found {shorten(value)}"
        )
    if problem:
        checker.error(path, problem)
    return not problem


def _check_together(checker: Checker, values: Mapping[str, float], path: str, official: bool) -> None:
    """Compares the pAUC with the AUCs; with several sections the values may be means, hence a warning only."""
    low, high = sorted((values["auc_source"], values["auc_target"]))
    area = 100.0 * PART * PART / 2.0 + (values["pauc"] / 50.0 - 1.0) * 100.0 * PART * (1.0 - PART / 2.0)
    least, most = area / PART, 100.0 * (1.0 - PART) + area
    add = checker.error if official else checker.warning
    pauc = f"with a pAUC of {values['pauc']:g}"
    if high < least - TOGETHER:
        add(path, f"expected an AUC of at least {least:.2f} in one domain {pauc}, found {high:g} at most")
    elif low > most + TOGETHER:
        add(path, f"expected an AUC of at most {most:.2f} in one domain {pauc}, found {low:g} at least")


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)
