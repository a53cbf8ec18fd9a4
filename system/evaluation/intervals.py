"""Confidence intervals of the metrics: a stratified bootstrap, and the jackknife of the official evaluator."""

import math
from collections.abc import Sequence

import numpy as np

from system.evaluation import roc

LEVEL = 0.95


def resample_counts(strata: Sequence[np.ndarray], groups: int, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """Draws bootstrap resamples: each stratum with replacement, at its own size.

    The result does not depend on the order of the clips within a stratum.

    Args:
        strata: for each stratum, the tie group of each clip, (n,) integers below ``groups``.
        groups: number of tie groups.
        replicates: number of resamples.
        rng: random generator.

    Returns:
        Float64 (replicates, strata, groups), the number of drawn clips in each group.
    """
    counts = np.zeros((replicates, len(strata), groups))
    offsets = groups * np.arange(replicates)[:, None]
    for index, members in enumerate(strata):
        if len(members):
            ordered = np.sort(members)
            drawn = ordered[rng.integers(len(ordered), size=(replicates, len(ordered)))] + offsets
            counts[:, index] = np.bincount(drawn.ravel(), minlength=replicates * groups).reshape(replicates, groups)
    return counts


def percentile_interval(values: np.ndarray, level: float = LEVEL) -> list[float]:
    """Percentile interval [low, high] of bootstrap values (replicates,)."""
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(values, [tail, 100.0 - tail])
    return [float(low), float(high)]


def mean_interval(values: Sequence[float]) -> list[float]:
    """Student's t 95 % interval of the mean of at least two independent values: [low, high]."""
    found = np.asarray(values, dtype=float)
    half = student_t_quantile(len(found) - 1) * float(found.std(ddof=1)) / math.sqrt(len(found))
    return [float(found.mean()) - half, float(found.mean()) + half]


def legacy_half_width(scores: np.ndarray, anomalous: np.ndarray) -> float | None:
    """Half-width of the 95 % interval of the official score as printed by the official evaluators since 2023.

    It is the mean of two half-widths, of the AUC and of the partial AUC, over the pooled raw scores of all machines.
    Each is t * sqrt(sum (theta_i - mean theta)^2 / (N (N - 1))) over the N leave-one-out values theta_i, where t is the
    0.975 quantile of Student's t distribution with N - 1 degrees of freedom. A correct jackknife uses pseudo-values,
    whose deviations are N - 1 times as large, so this value is far too small. It is only for comparison.

    Args:
        scores: (N,).
        anomalous: (N,) bool.

    Returns:
        The half-width, or None with fewer than two clips of a class.
    """
    anomalous = np.asarray(anomalous, dtype=bool)
    if min(anomalous.sum(), (~anomalous).sum()) < 2:
        return None
    count = len(anomalous)
    spread = [
        math.sqrt(((values - values.mean()) ** 2).sum() / (count * (count - 1)))
        for values in roc.leave_one_out(scores, anomalous)
    ]
    return student_t_quantile(count - 1) * sum(spread) / len(spread)


def student_t_quantile(degrees: int) -> float:
    """The 0.975 quantile of Student's t distribution, without SciPy, whose import would take longer than the rest.

    Newton's method on the distribution function, integrated by Simpson's rule. It starts left of the quantile, where
    the function is concave, so it cannot overshoot.
    """
    steps = np.linspace(0.0, 1.0, 4001)
    weights = np.ones_like(steps)
    weights[1:-1:2], weights[2:-1:2] = 4.0, 2.0
    weights /= weights.sum()
    log_scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(degrees * math.pi)
    t = 1.959963984540054  # quantile of the normal distribution, which is smaller
    for _ in range(50):
        density = np.exp(log_scale - 0.5 * (degrees + 1) * np.log1p((t * steps) ** 2 / degrees))
        step = (0.475 - t * float(weights @ density)) / float(density[-1])
        t += step
        if abs(step) < 1e-13 * t:
            break
    return t
