"""Calibration, fusion and thresholds; every statistic comes from leave-one-out scores of normal references."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from system.errors import WheeltapperError

MAD_TO_SIGMA = 1.4826  # of a normal distribution
MEAN_TO_SIGMA = 1.2533  # the same of its mean absolute deviation


@dataclass(frozen=True)
class ZScore:
    """z(s) = (s - centre) / scale, both of normal scores."""

    centre: float
    scale: float

    def __call__(self, scores: np.ndarray | float) -> np.ndarray:
        return (np.asarray(scores, np.float64) - self.centre) / self.scale


def robust_z(reference_scores: np.ndarray) -> ZScore:
    """Fits the calibration of one branch on one machine: median and 1.4826 MAD (Wang and Liu 2026, section 4).

    Ten target clips cannot carry a median and a deviation of their own, so all references of a machine count together.
    Where more than half of the scores are one number the MAD is nothing, and the mean absolute deviation stands in. The
    scale is at least 1 % of the median's size, so that near-constant scores cannot outvote another branch.

    Args:
        reference_scores: (N,) leave-one-out scores.
    """
    scores = _check(reference_scores)
    weights = np.full(len(scores), 1.0 / len(scores))
    median = weighted_quantile(scores, weights, 0.5)
    deviations = np.abs(scores - median)
    spread = MAD_TO_SIGMA * weighted_quantile(deviations, weights, 0.5)
    if spread <= 1e-9 * deviations.max():
        spread = MEAN_TO_SIGMA * float(np.average(deviations, weights=weights))
    return _at_least(median, spread)


def mean_z(reference_scores: np.ndarray) -> ZScore:
    """Mean and standard deviation of leave-one-out scores (N,), with the least scale of ``robust_z``."""
    scores = _check(reference_scores)
    return _at_least(scores.mean(), scores.std())


def fuse(branches: Mapping[str, np.ndarray], weights: Mapping[str, float], how: str = "sum") -> np.ndarray:
    """One score of calibrated branch scores, each (N,).

    Args:
        weights: of the branches. how: ``sum``, weighted, the weights scaled to sum to one; ``minimum`` of the branches
            with a weight above zero, whose weights must be equal: a clip is as anomalous as the mildest branch says.

    Raises WheeltapperError for a weight of an unknown branch, a negative one, none above zero, or unequal ones of a
    minimum.
    """
    unknown = [name for name in weights if name not in branches]
    if unknown:
        raise WheeltapperError(f"weights: expected branches among {', '.join(branches)}, found {', '.join(unknown)}")
    total = sum(weights.values())
    if total <= 0 or min(weights.values()) < 0:
        raise WheeltapperError(f"weights: expected none below zero and one above, found {dict(weights)}")
    if how == "minimum":
        used = {name: weight for name, weight in weights.items() if weight > 0}
        if len(set(used.values())) > 1:
            raise WheeltapperError(f"weights: expected equal ones for a minimum, found {used}")
        return np.min([branches[name] for name in used], axis=0)
    return np.sum([weight / total * np.asarray(branches[name]) for name, weight in weights.items()], axis=0)


def threshold(reference_scores: np.ndarray, domains: np.ndarray, false_positive_rate: float) -> float:
    """Score above which a clip is decided anomalous, for a wanted share of false alarms on normal clips.

    One threshold per machine: the domain of a test clip is not known. The domains weigh the same, since normal test
    clips come from both alike while the references are 99 to 1 from the source.

    Args:
        reference_scores: (N,) fused leave-one-out scores. domains: (N,). false_positive_rate: in (0, 1).
    """
    if not 0.0 < false_positive_rate < 1.0:
        raise WheeltapperError(f"false_positive_rate: expected a number between 0 and 1, found {false_positive_rate}")
    return weighted_quantile(_check(reference_scores), domain_weights(domains), 1.0 - false_positive_rate)


def gamma_threshold(losses: np.ndarray, false_positive_rate: float) -> float:
    """Threshold of the official baseline: a quantile of a gamma distribution (shape, place and scale) fitted to losses.

    It is given means over batches of vectors from all clips, which spread far less than clips do: decisions by it raise
    several times the wanted share of false alarms. Raises WheeltapperError where nothing can be fitted.
    """
    import scipy.stats

    losses = _check(losses)
    try:
        found = float(scipy.stats.gamma.ppf(1.0 - false_positive_rate, *scipy.stats.gamma.fit(losses)))
    except (scipy.stats.FitError, ValueError, RuntimeError) as error:
        raise WheeltapperError(f"gamma distribution of {len(losses)} batch losses: no fit ({error})") from error
    if not np.isfinite(found):
        raise WheeltapperError(f"gamma distribution of {len(losses)} batch losses: expected a quantile, found {found}")
    return found


def domain_weights(domains: Sequence[str] | np.ndarray) -> np.ndarray:
    """(N,) weights that sum to one and give every domain the same share."""
    _, inverse, counts = np.unique(np.asarray(domains), return_inverse=True, return_counts=True)
    return 1.0 / (counts[inverse] * len(counts))


def weighted_quantile(values: np.ndarray, weights: np.ndarray, level: float) -> float:
    """Quantile of a weighted sample, linear between the midpoints of the weights.

    With equal weights this is Hazen's definition; of an even count, the median is the mean of the middle two.
    """
    order = np.lexsort((weights, values))  # among equal values by weight, so that their order does not count
    values, weights = np.asarray(values, np.float64)[order], np.asarray(weights, np.float64)[order]
    midpoints = (np.cumsum(weights) - 0.5 * weights) / weights.sum()
    return float(np.interp(level, midpoints, values))


def _at_least(centre: float, spread: float) -> ZScore:
    floor = max(0.01 * abs(centre), np.finfo(float).tiny ** 0.5)
    return ZScore(float(centre), float(max(spread, floor)))


def _check(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    if len(scores) < 2 or not np.isfinite(scores).all():
        raise WheeltapperError(f"reference scores: expected at least 2 finite numbers, found {scores[:5]}")
    return scores
