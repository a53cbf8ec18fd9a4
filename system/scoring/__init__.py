"""Anomaly scorers by name."""

from system.errors import WheeltapperError
from system.scoring.banks import Scorer
from system.scoring.beam import BeamScorer
from system.scoring.conditional import ConditionalMahalanobisScorer
from system.scoring.given import GivenScorer
from system.scoring.knn import KnnScorer
from system.scoring.ldn import LdnScorer
from system.scoring.lof import LofScorer
from system.scoring.mahalanobis import MahalanobisScorer

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
