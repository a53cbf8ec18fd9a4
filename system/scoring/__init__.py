"""Anomaly scorers by name."""

import difflib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from system.errors import WheeltapperError
from system.scoring.banks import Scorer
from system.scoring.beam import BeamScorer
from system.scoring.conditional import ConditionalMahalanobisScorer
from system.scoring.knn import KnnScorer
from system.scoring.ldn import LdnScorer
from system.scoring.lof import LofScorer
from system.scoring.mahalanobis import MahalanobisScorer
from system.scoring.precomputed import GivenScorer

SCORERS = {
    "mahalanobis": MahalanobisScorer,
    "conditional_mahalanobis": ConditionalMahalanobisScorer,
    "knn": KnnScorer,
    "beam": BeamScorer,
    "ldn": LdnScorer,
    "lof": LofScorer,
    "given": GivenScorer,
}


def build(name: str, **settings) -> Scorer:
    """A scorer by name (``SCORERS``) with its settings."""
    if name not in SCORERS:
        raise WheeltapperError(f"scorer: expected one of {', '.join(SCORERS)}, found {name!r}")
    try:
        return SCORERS[name](**settings)
    except TypeError as error:
        raise WheeltapperError(f"scorer {name}: {error}") from error


def known_settings(kind: type) -> dict[str, Any]:
    """The settings of a scorer's class, each with its type: what its constructor takes, and those that this hands on
    take."""
    found: dict[str, Any] = {}
    for each in kind.__mro__[:-1]:
        if "__init__" not in vars(each):
            continue
        _, *parameters = inspect.signature(vars(each)["__init__"]).parameters.values()
        for parameter in parameters:
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                found.setdefault(parameter.name, parameter.annotation)
        if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
            break
    return found


def problems(name: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with a scorer: (setting, or nothing where the name is wrong; what was expected and found)."""
    if name not in SCORERS:
        near = difflib.get_close_matches(name, SCORERS, n=1)
        advice = f": did you mean {near[0]}?" if near else ""
        yield "", f"expected one of {', '.join(SCORERS)}, found {name!r}{advice}"
        return
    known = known_settings(SCORERS[name])
    wrong = [*_wrong_settings(name, settings, known)]
    if wrong:
        yield from wrong
        return
    try:
        SCORERS[name](**settings)
    except (WheeltapperError, TypeError, ValueError) as error:
        setting, colon, text = str(error).partition(": ")
        yield (setting, text) if colon and setting in known else (min(settings, default=""), f"scorer {name}: {error}")


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}


def _wrong_settings(name: str, settings: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for setting, value in settings.items():
        if setting not in known:
            near = difflib.get_close_matches(setting, known, n=1)
            advice = f"did you mean {near[0]}? " if near else ""
            yield setting, f"the scorer {name} has no such setting: {advice}it knows {', '.join(known) or 'none'}"
            continue
        kinds = get_args(known[setting]) or (known[setting],)
        if all(kind in _WORDS for kind in kinds) and not any(_fits(value, kind) for kind in kinds):
            yield setting, f"expected {' or '.join(_WORDS[kind] for kind in kinds)}, found {value!r}"


def _fits(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)
