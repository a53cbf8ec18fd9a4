"""Anomaly scorers by name."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from system.errors import WheeltapperError
from system.scoring.banks import Scorer
from system.scoring.beam import BeamScorer
from system.scoring.conditional import ConditionalMahalanobisScorer
from system.scoring.frames import FramesScorer
from system.scoring.knn import KnnScorer
from system.scoring.ldn import LdnScorer
from system.scoring.lof import LofScorer
from system.scoring.mahalanobis import MahalanobisScorer
from system.scoring.precomputed import PrecomputedScorer
from system.scoring.settings import settings_of

SCORERS = {
    "mahalanobis": MahalanobisScorer,
    "conditional_mahalanobis": ConditionalMahalanobisScorer,
    "knn": KnnScorer,
    "beam": BeamScorer,
    "ldn": LdnScorer,
    "lof": LofScorer,
    "frames": FramesScorer,
    "precomputed": PrecomputedScorer,
}


def build(name: str, **settings) -> Scorer:
    """Builds a scorer.

    Args:
        name: key of ``SCORERS``.
        **settings: arguments of the scorer's constructor.

    Returns:
        The scorer, not fitted yet.

    Raises:
        WheeltapperError: unknown name or setting, or a value out of range.

    Example:
        >>> scorer = build("knn", k=1).fit(references, domains)  # normal clips (N, D), "source" or "target" (N,)
        >>> scores = scorer.score(embeddings)  # test clips (M, D) -> (M,), higher is more anomalous
    """
    for setting, text in problems(name, settings):
        raise WheeltapperError(f"{setting or 'scorer'}: {text}")
    return SCORERS[name](**settings)


def problems(name: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Checks the name and the settings of a scorer.

    Args:
        name: key of ``SCORERS``.
        settings: arguments of the scorer's constructor.

    Yields:
        Setting (empty if the name is wrong) and message, for every problem.
    """
    if name not in SCORERS:
        near = difflib.get_close_matches(name, SCORERS, n=1)
        advice = f": did you mean {near[0]}?" if near else ""
        yield "", f"expected one of {', '.join(SCORERS)}, found {name!r}{advice}"
        return
    known = settings_of(SCORERS[name])
    wrong = False
    for setting, value in settings.items():
        if setting not in known:
            near = difflib.get_close_matches(setting, known, n=1)
            advice = f"did you mean {near[0]}? " if near else ""
            text = f"the scorer {name} has no such setting: {advice}known settings: {', '.join(known) or 'none'}"
        else:
            text = known[setting].problem(value)
        if text:
            wrong = True
            yield setting, text
    if wrong:
        return
    try:
        SCORERS[name](**settings)
    except (WheeltapperError, TypeError, ValueError) as error:
        setting, colon, text = str(error).partition(": ")
        yield (setting, text) if colon and setting in known else (min(settings, default=""), f"scorer {name}: {error}")
