"""Calibration, fusion and decision thresholds, all estimated from leave-one-out scores of normal references."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from system.errors import WheeltapperError

MAD_TO_SIGMA = 1.4826  # of a normal distribution: its standard deviation in units of its MAD
PRIOR_CLIPS = 2  # weight of all domains' deviation beside that of one domain's clips, by tools/false_alarm_study.py
PRIOR_SHAPE = 50  # most clips of other domains that count for the shape of one domain's distribution
CONFIDENCE = 0.9
SOURCE = "source"
MEAN_TO_SIGMA = 1.2533  # the same in units of its mean absolute deviation


@dataclass(frozen=True)
class ZScore:
    """z(s) = (s - centre) / scale, with centre and scale estimated from scores of normal clips."""

    centre: float
    scale: float

    def __call__(self, scores: np.ndarray | float) -> np.ndarray:
        return (np.asarray(scores, np.float64) - self.centre) / self.scale


def robust_z(reference_scores: np.ndarray, least: float = 0.0) -> ZScore:
    """Fits the calibration of one branch on one machine: median and 1.4826 MAD (Wang and Liu 2026, section 4).

    Ten target clips are too few for a median and a deviation of their own, so all references of a machine are pooled.
    If more than half of the scores are equal, the MAD is zero and the mean absolute deviation replaces it. The scale is
    at least 1 % of the absolute median, so that a branch with near-constant scores cannot dominate the others. Scores
    that are all zero, such as calibrated ones of two clips as far from each other as they are, are not scaled.

    Args:
        reference_scores: (N,) leave-one-out scores.
        least: lowest scale.

    Returns:
        The fitted z-score.

    Raises:
        WheeltapperError: fewer than two scores, or NaN or infinity among them.
    """
    scores = _check(reference_scores)
    weights = np.full(len(scores), 1.0 / len(scores))
    median = weighted_quantile(scores, weights, 0.5)
    deviations = np.abs(scores - median)
    spread = MAD_TO_SIGMA * weighted_quantile(deviations, weights, 0.5)
    if spread <= 1e-9 * deviations.max():
        spread = MEAN_TO_SIGMA * float(np.average(deviations, weights=weights))
    return _at_least(median, max(spread, least))


def mean_z(reference_scores: np.ndarray) -> ZScore:
    """Like ``robust_z``, with mean and standard deviation of the leave-one-out scores (N,)."""
    scores = _check(reference_scores)
    return _at_least(scores.mean(), scores.std())


def fuse(branches: Mapping[str, np.ndarray], weights: Mapping[str, float], how: str = "sum") -> np.ndarray:
    """Fuses calibrated scores of several branches.

    Args:
        branches: branch name to calibrated scores (N,).
        weights: branch name to weight.
        how: ``sum`` for the weighted sum, with weights scaled to sum to one; ``minimum`` for the smallest score among
            the branches with a weight above zero; these weights must be equal.

    Returns:
        Fused scores (N,).

    Raises:
        WheeltapperError: weight of an unknown branch, negative weight, no weight above zero, or ``minimum`` with
            unequal weights.
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


def threshold(
    reference_scores: np.ndarray, domains: np.ndarray, false_positive_rate: float, groups: np.ndarray | None = None
) -> float:
    """Decision threshold of one machine for a target false-positive rate on normal clips.

    Both domains have the same weight: normal test clips come equally from both, while 99 % of the references are from
    the source domain. There is no threshold per domain, because the domain of a test clip is unknown.

    A quantile of ten scores varies too much to be a threshold. So a domain's scores are taken to follow their own
    mean, a deviation that counts those of all domains as ``PRIOR_CLIPS`` clips more, and a distribution around these
    that is the domain's own with that of the others as at most ``PRIOR_SHAPE`` clips more. With one domain this is the
    plain quantile.

    Args:
        reference_scores: (N,) fused leave-one-out scores.
        domains: (N,) domain of each reference.
        false_positive_rate: in (0, 1).
        groups: (N,) numbers of the groups that were left out together, each of which counts as one reference; or None.

    Returns:
        The score above which a clip is called anomalous.

    Raises:
        WheeltapperError: rate out of range, fewer than two scores, or NaN or infinity among them.
    """
    if not 0.0 < false_positive_rate < 1.0:
        raise WheeltapperError(f"false_positive_rate: expected a number between 0 and 1, found {false_positive_rate}")
    scores, level = _check(reference_scores), 1.0 - false_positive_rate
    names, inverse = np.unique(np.asarray(domains), return_inverse=True)
    shares = _shares(inverse, groups)
    counts = np.bincount(inverse, shares)
    means = np.bincount(inverse, shares * scores) / counts
    residuals = scores - means[inverse]
    squares = np.bincount(inverse, shares * residuals**2)
    # A domain of one clip, or of equal ones, says nothing about the distribution.
    telling = ((squares > 0) & (counts > 1))[inverse]
    if len(names) == 1 or not telling.any():
        return weighted_quantile(scores, domain_weights(domains, groups), level)
    pooled = squares.sum() / (counts - 1).sum()
    deviations = np.sqrt((squares + PRIOR_CLIPS * pooled) / (counts - 1 + PRIOR_CLIPS))
    inverse, residuals, shares = inverse[telling], residuals[telling], shares[telling]
    shape = residuals / np.sqrt(squares / np.maximum(counts - 1, 1))[inverse]
    own = inverse == np.arange(len(names))[:, None]  # (domains, N)
    others = np.where(own, 0.0, shares).sum(axis=1, keepdims=True)
    weights = shares * np.where(own, 1.0, np.minimum(1.0, PRIOR_SHAPE / np.maximum(others, 1.0)))
    supposed = means[:, None] + deviations[:, None] * shape
    return weighted_quantile(supposed.ravel(), (weights / weights.sum(axis=1, keepdims=True)).ravel(), level)


def _shares(inverse: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """What each reference counts (N,): the members of a group in one domain together count as one."""
    if groups is None:
        return np.ones(len(inverse))
    pairs = np.stack([inverse, np.unique(groups, return_inverse=True)[1]])
    _, place, sizes = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
    return 1.0 / sizes[place.ravel()]


@dataclass(frozen=True)
class FalseAlarms:
    """Expected false-alarm rate of a threshold on normal clips of one domain, as fractions."""

    references: int  # that can be left out one by one
    low: float
    high: float


def expected_false_alarms(
    reference_scores: np.ndarray, domains: np.ndarray, threshold: float, groups: np.ndarray | None = None
) -> dict[str, FalseAlarms]:
    """Range of false-alarm rates that the references do not contradict, at ``CONFIDENCE``, for each domain.

    The rate above the k-th smallest of n scores of the same kind follows Beta(n + 1 - k, k). A threshold with r scores
    above it lies between two of them, so that the rate is between the lower quantile of Beta(r, n + 1 - r) and the
    upper one of Beta(r + 1, n - r): the interval of Clopper and Pearson (1934).

    Args:
        reference_scores: (N,) fused leave-one-out scores.
        domains: (N,) domain of each reference; an empty one counts as source.
        threshold: score above which a clip is called anomalous.
        groups: (N,) numbers of the groups that depend on one another, such as parts or copies of a recording, each of
            which counts as one reference; or None.

    Returns:
        Domain to range.
    """
    import scipy.stats

    scores, domains = _check(reference_scores), np.array([str(domain) or SOURCE for domain in domains])
    names, inverse = np.unique(domains, return_inverse=True)
    shares = _shares(inverse, groups)
    tail = (1.0 - CONFIDENCE) / 2.0
    found = {}
    for number, domain in enumerate(names.tolist()):
        own = inverse == number
        count = round(shares[own].sum())
        above = min(float(shares[own & (scores > threshold)].sum()), count)
        low = float(scipy.stats.beta.ppf(tail, above, count + 1 - above)) if above else 0.0
        high = float(scipy.stats.beta.ppf(1.0 - tail, above + 1, count - above)) if above < count else 1.0
        found[domain] = FalseAlarms(count, low, high)
    return found


def least_rate(counts: Sequence[int]) -> float:
    """Lowest false-alarm rate that references can promise, with equal weight of the domains: a threshold at the largest
    of n scores has the rate 1 / (n + 1) on average over sets of references, and a higher one may have any.

    Args:
        counts: number of references of each domain.
    """
    return float(np.mean([1.0 / (count + 1) for count in counts]))


def gamma_threshold(losses: np.ndarray, false_positive_rate: float) -> float:
    """Decision threshold of the official baseline: quantile of a gamma distribution fitted to training losses.

    The baseline fits losses averaged over batches of vectors from all clips. They spread far less than the losses of
    single clips, so the actual false-positive rate is several times the target.

    Args:
        losses: (N,) mean losses of the batches.
        false_positive_rate: target rate, in (0, 1).

    Returns:
        The quantile at 1 - false_positive_rate; shape, location and scale of the distribution are fitted.

    Raises:
        WheeltapperError: no distribution can be fitted.
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


def domain_weights(domains: Sequence[str] | np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Weights (N,) of clips that sum to one, with the same total for every domain and in it for every group."""
    names, inverse = np.unique(np.asarray(domains), return_inverse=True)
    shares = _shares(inverse, groups)
    return shares / (np.bincount(inverse, shares)[inverse] * len(names))


def weighted_quantile(values: np.ndarray, weights: np.ndarray, level: float) -> float:
    """Quantile of a weighted sample by linear interpolation between the midpoints of the cumulative weights.

    With equal weights this is Hazen's definition: the median of an even number of values is the mean of the middle two.

    Args:
        values: (N,).
        weights: (N,) non-negative; they need not sum to one.
        level: in [0, 1].
    """
    order = np.lexsort((weights, values))  # ties are sorted by weight, so that the order of the input has no effect
    values, weights = np.asarray(values, np.float64)[order], np.asarray(weights, np.float64)[order]
    midpoints = (np.cumsum(weights) - 0.5 * weights) / weights.sum()
    return float(np.interp(level, midpoints, values))


def _at_least(centre: float, spread: float) -> ZScore:
    floor = max(0.01 * abs(centre), np.finfo(float).tiny ** 0.5)
    return ZScore(float(centre), float(max(spread, floor)) if centre or spread else 1.0)


def _check(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    if len(scores) < 2 or not np.isfinite(scores).all():
        raise WheeltapperError(f"reference scores: expected at least 2 finite numbers, found {scores[:5]}")
    return scores
