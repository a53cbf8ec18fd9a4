"""Areas under the ROC curve from counts of clips per group of tied scores, for many resamples at once.

Clips are grouped by equal score, highest first, and only the numbers of normal and anomalous clips in each group are
used. Within a group the ROC curve is a straight line, so a tie counts one half. Unlike scikit-learn's functions, the
same formula works for a set of clips, bootstrap resamples of it, and the set without one clip.
"""

import numpy as np

MAX_FPR = 0.1


def tie_groups(scores: np.ndarray) -> tuple[np.ndarray, int]:
    """Groups equal scores.

    Args:
        scores: (N,).

    Returns:
        Group index of each score (N,), 0 for the highest, and the number of groups.
    """
    values, groups = np.unique(-np.asarray(scores, dtype=np.float64), return_inverse=True)
    return groups.reshape(-1), len(values)


def auc_from_counts(normal: np.ndarray, anomalous: np.ndarray) -> np.ndarray:
    """AUC, the probability that an anomalous clip scores above a normal one, with ties as one half (Mann-Whitney).

    Args:
        normal: (..., groups), number of normal clips in each tie group, highest score first.
        anomalous: (..., groups), the same for anomalous clips.

    Returns:
        (...).
    """
    outranked = np.cumsum(anomalous, axis=-1) - 0.5 * anomalous
    return (normal * outranked).sum(axis=-1) / (normal.sum(axis=-1) * anomalous.sum(axis=-1))


def partial_auc_from_counts(normal: np.ndarray, anomalous: np.ndarray, max_fpr: float = MAX_FPR) -> np.ndarray:
    """Partial AUC over false-positive rates from 0 to ``max_fpr``, standardised after McClish (1989).

    It is 0.5 for chance and 1 for a perfect ranking. The ROC curve is interpolated at ``max_fpr``.

    Args:
        normal: (..., groups), number of normal clips in each tie group, highest score first.
        anomalous: (..., groups), the same for anomalous clips.
        max_fpr: largest false-positive rate.

    Returns:
        (...).
    """
    normals = normal.sum(axis=-1, keepdims=True)
    passed = np.cumsum(normal, axis=-1) - normal
    taken = np.clip(max_fpr * normals - passed, 0.0, normal)
    share = np.divide(taken, normal, out=np.zeros_like(taken), where=normal > 0)
    hits = np.cumsum(anomalous, axis=-1) - anomalous + 0.5 * share * anomalous
    area = (taken * hits).sum(axis=-1) / (normals[..., 0] * anomalous.sum(axis=-1))
    return standardise(area, max_fpr)


def standardise(area: np.ndarray, max_fpr: float = MAX_FPR) -> np.ndarray:
    """Standardises a partial area, so that chance is 0.5 and a perfect ranking is 1 (McClish 1989, a = area)."""
    chance = 0.5 * max_fpr**2
    return 0.5 * (1.0 + (area - chance) / (max_fpr - chance))


def auc(scores: np.ndarray, anomalous: np.ndarray) -> float:
    """AUC of scores (N,) with labels ``anomalous`` (N,) bool; both classes must occur."""
    return float(auc_from_counts(*_counts(scores, anomalous)))


def partial_auc(scores: np.ndarray, anomalous: np.ndarray, max_fpr: float = MAX_FPR) -> float:
    """Standardised partial AUC of scores (N,) with labels ``anomalous`` (N,) bool; both classes must occur."""
    return float(partial_auc_from_counts(*_counts(scores, anomalous), max_fpr))


def _counts(scores: np.ndarray, anomalous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    groups, size = tie_groups(scores)
    anomalous = np.asarray(anomalous, dtype=bool)
    normal = np.bincount(groups[~anomalous], minlength=size).astype(np.float64)
    return normal, np.bincount(groups[anomalous], minlength=size).astype(np.float64)


def leave_one_out(scores: np.ndarray, anomalous: np.ndarray, max_fpr: float = MAX_FPR) -> tuple[np.ndarray, np.ndarray]:
    """AUC and standardised partial AUC without each of the clips.

    Clips of one tie group and class give the same value, which is computed once per group: removing a clip shifts the
    curve by one step at its group only.

    Args:
        scores: (N,), at least two clips of each class.
        anomalous: (N,) bool.
        max_fpr: largest false-positive rate of the partial AUC.

    Returns:
        AUC (N,) and partial AUC (N,).
    """
    anomalous = np.asarray(anomalous, dtype=bool)
    groups, _ = tie_groups(scores)
    normal, hits = _counts(scores, anomalous)
    normals, anomalies = normal.sum(), hits.sum()
    outranked = np.cumsum(hits) - 0.5 * hits  # anomalous clips above each normal clip of the group
    total = (normal * outranked).sum()
    below = normals - np.cumsum(normal) + 0.5 * normal  # normal clips below each anomalous clip of the group
    full = np.where(
        anomalous,
        (total - below[groups]) / (normals * (anomalies - 1)),
        (total - outranked[groups]) / ((normals - 1) * anomalies),
    )
    without_anomaly, without_normal = _partial_without(normal, hits, max_fpr)
    area = np.where(
        anomalous,
        without_anomaly[groups] / (normals * (anomalies - 1)),
        without_normal[groups] / ((normals - 1) * anomalies),
    )
    return full, standardise(area, max_fpr)


def _partial_without(normal: np.ndarray, hits: np.ndarray, max_fpr: float) -> tuple[np.ndarray, np.ndarray]:
    """Partial areas (groups,), in clips x clips, without one anomalous or without one normal clip of each group.

    ``budget`` is the end of the partial area on the axis of normal clips.
    """
    passed = np.cumsum(normal) - normal  # normal clips above the group
    height = np.cumsum(hits) - hits  # anomalous clips above the group
    middle = height + 0.5 * hits
    area_before = np.cumsum(normal * middle) - normal * middle

    def area_up_to(budget: float) -> float:
        group = int(np.searchsorted(passed + normal, budget))
        part = budget - passed[group]
        slope = hits[group] / max(normal[group], 1.0)
        return float(area_before[group] + part * (height[group] + 0.5 * slope * part))

    budget = max_fpr * normal.sum()
    taken = np.clip(budget - passed, 0.0, normal)
    own = np.divide(0.5 * taken**2, normal, out=np.zeros_like(taken), where=normal > 0)
    without_anomaly = area_up_to(budget) - (own + np.maximum(budget - passed - normal, 0.0))

    budget = max_fpr * (normal.sum() - 1)
    rest = np.maximum(normal - 1, 0.0)
    part = np.clip(budget - passed, 0.0, rest)
    slope = np.divide(hits, rest, out=np.zeros_like(hits), where=rest > 0)
    within = area_before + part * (height + 0.5 * slope * part)
    without_normal = np.where(passed >= budget, area_up_to(budget), within)
    wholly_inside = passed + rest <= budget
    without_normal = np.where(wholly_inside, area_up_to(budget + 1) - middle, without_normal)
    return without_anomaly, without_normal
