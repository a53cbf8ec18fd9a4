"""Mahalanobis distance to banks of normal references with Ledoit-Wolf covariance (Wang and Liu 2026, section 4.1).

Written here instead of taken from scikit-learn, because leave-one-out distances need N fits there and O(N^2) here.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from system.scoring.banks import Bank, BankScorer

WELL_CONDITIONED = 1e-6  # shrinkage above which the covariance without a group of references may be downdated
SMALLEST_SCALE = np.finfo(float).tiny ** 0.5  # for identical references; its inverse and its square are finite


@dataclass(frozen=True)
class GaussianBank:
    """Normal distribution fitted to references.

    The covariance is (1 - shrinkage) S + shrinkage * scale * I. The sample covariance S has at most N - 1 axes, so
    distances are computed along these plus one isotropic term for the rest of the space: a bank of ten clips costs ten
    axes in any dimension.
    """

    references: np.ndarray  # (N, D)
    mean: np.ndarray  # (D,)
    axes: np.ndarray  # (r, D) principal axes
    variances: np.ndarray  # (r,) along the axes
    shrinkage: float
    scale: float  # mean variance

    @cached_property
    def gram(self) -> np.ndarray:
        """Products (N, N) of the centred references."""
        z = self.references - self.mean
        return z @ z.T

    def distance(self, embeddings: np.ndarray) -> np.ndarray:
        return np.sqrt(self.squares(embeddings))

    def squares(self, embeddings: np.ndarray) -> np.ndarray:
        """Squared distances (M,) of embeddings (M, D)."""
        difference = embeddings - self.mean
        along = difference @ self.axes.T
        floor = self.shrinkage * self.scale
        spread = (1.0 - self.shrinkage) * self.variances + floor
        squared = (along**2 / spread).sum(axis=1)
        if len(self.axes) < embeddings.shape[1]:
            squared += np.maximum((difference**2).sum(axis=1) - (along**2).sum(axis=1), 0.0) / floor
        return squared

    def leave_one_out(self) -> np.ndarray:
        """Distances with mean, covariance and shrinkage re-estimated without each reference.

        With z = x - mean, leaving x_i out gives S_i = a S - b z z^T with a = N / (N - 1), b = N / (N - 1)^2, so every
        quantity follows from the Gram matrix of z, and the inverse from the Sherman-Morrison formula.
        """
        return np.sqrt(squares_without(self, *shrinkage_without(self)))

    def without(self, members: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
        """Distances (M,) of embeddings (M, D) with everything re-estimated without some references.

        Args:
            members: (k,) indices of these references in the bank.
            embeddings: (M, D).
        """
        return np.sqrt(squares_without_group(self, members, embeddings, *shrinkage_without_group(self, members)))


class NormalBank(Bank, Protocol):
    """A bank with a normal distribution: one of embeddings, or of embeddings and conditions."""

    def without(self, members: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
        """As ``GaussianBank.without``."""


class MahalanobisScorer(BankScorer[NormalBank]):
    """s(x) = min over banks of sqrt((x - mu)^T Sigma^-1 (x - mu)), Sigma by Ledoit and Wolf (2004)."""

    # Of fewer, leave-one-out distances are much larger than those of new clips, and one bank of all clips finds more
    # faults (tools/false_alarm_study.py). With one clip left out of three there is still a direction.
    smallest_bank = 6
    fewest_references = 3

    def fit_bank(self, rows: np.ndarray) -> NormalBank:
        return fit_gaussian(self._references[rows])

    def distance_without(self, bank: NormalBank, rows: np.ndarray, group: np.ndarray) -> np.ndarray:
        return bank.without(np.flatnonzero(np.isin(rows, group)), self._references[group])


def ledoit_wolf(
    squares: np.ndarray, frobenius: float | np.ndarray, count: int, dim: int
) -> tuple[np.ndarray, np.ndarray]:
    """Shrinkage intensity and scale of Ledoit and Wolf (2004), computed from sums only.

    Args:
        squares: (..., N) squared norms of the centred clips.
        frobenius: (...) squared Frobenius norm of their covariance S, which is normalised by N.
        count: number of clips N.
        dim: dimension D.

    Returns:
        Shrinkage in (0, 1] and mean variance trace(S) / D, both (...). Two clips have only one axis, so their
        shrinkage is 1 (a sphere).
    """
    scale = squares.sum(axis=-1) / count / dim
    # Estimation error of S and squared distance of S from the scaled identity, both per dimension.
    noise = ((squares**2).sum(axis=-1) / count - frobenius) / (count * dim)
    distance = frobenius / dim - scale**2
    noise = np.minimum(noise, distance)
    with np.errstate(invalid="ignore", divide="ignore"):
        shrinkage = np.where(distance > 0, noise / distance, 1.0)
    # At least 1e-9, because S may be singular.
    return np.clip(shrinkage if count > 2 else np.ones_like(shrinkage), 1e-9, 1.0), scale


def shrinkage_without(bank: GaussianBank) -> tuple[np.ndarray, np.ndarray]:
    """Shrinkage and scale (N,) of a bank, estimated without each of its references."""
    count, dim = bank.references.shape
    gram = bank.gram
    squares = np.diag(gram)
    a, b = count / (count - 1), count / (count - 1) ** 2
    # (i, n): squared distance of clip n from the mean without clip i.
    others = squares + 2.0 * gram / (count - 1) + (squares / (count - 1) ** 2)[:, None]
    np.fill_diagonal(others, 0.0)
    form = (gram**2).sum(axis=1) / count  # z_i^T S z_i
    frobenius = a**2 * (bank.variances**2).sum() - 2 * a * b * form + b**2 * squares**2
    return ledoit_wolf(others, frobenius, count - 1, dim)


def squares_without(bank: GaussianBank, shrinkage: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Squared distance (N,) of each reference to the bank without it, with the bank's shrinkage (N,) and scale (N,)."""
    count, dim = bank.references.shape
    z = bank.references - bank.mean
    a, b = count / (count - 1), count / (count - 1) ** 2
    floor = shrinkage * np.maximum(scale, SMALLEST_SCALE)
    along = z @ bank.axes.T
    spread = ((1.0 - shrinkage) * a)[:, None] * bank.variances + floor[:, None]
    inverse_form = (along**2 / spread).sum(axis=1)
    if len(bank.axes) < dim:
        inverse_form += np.maximum((z**2).sum(axis=1) - (along**2).sum(axis=1), 0.0) / floor
    inverse_form = inverse_form / np.maximum(1.0 - (1.0 - shrinkage) * b * inverse_form, np.finfo(float).eps)
    return inverse_form * a**2  # x_i lies a * z_i from the mean of the others


def _downdate(bank: GaussianBank, members: np.ndarray) -> tuple[np.ndarray, int]:
    """Vectors u (k + 1, D) and number n of the others, such that the covariance of a bank of N references without k of
    them is N / n S - sum of u u^T. The last vector is how far the mean moves."""
    left = len(bank.references) - len(members)
    z = bank.references[members] - bank.mean
    return np.concatenate([z / np.sqrt(left), -z.sum(axis=0, keepdims=True) / left]), left


def shrinkage_without_group(bank: GaussianBank, members: np.ndarray) -> tuple[float, float]:
    """Shrinkage and scale of a bank, estimated without the references with the indices ``members`` (k,)."""
    u, left = _downdate(bank, members)
    a = len(bank.references) / left
    moved = bank.gram[:, members].sum(axis=1) / left  # -z u for the last u
    squares = np.delete(np.diag(bank.gram) + 2.0 * moved, members) + (u[-1] ** 2).sum()
    form = ((u @ bank.axes.T) ** 2 * bank.variances).sum()
    frobenius = a**2 * (bank.variances**2).sum() - 2 * a * form + ((u @ u.T) ** 2).sum()
    shrinkage, scale = ledoit_wolf(squares, frobenius, left, bank.references.shape[1])
    return float(shrinkage), float(scale)


def squares_without_group(
    bank: GaussianBank, members: np.ndarray, embeddings: np.ndarray, shrinkage: float, scale: float
) -> np.ndarray:
    """Squared distances (M,) of embeddings (M, D) to a bank without the references with the indices ``members`` (k,).

    The inverse follows from Woodbury's formula, in O((k + M) D r) for a bank of rank r.
    """
    floor = shrinkage * max(scale, SMALLEST_SCALE)
    u, left = _downdate(bank, members)
    if shrinkage < WELL_CONDITIONED:  # Woodbury's formula would subtract nearly equal numbers
        rest = np.delete(bank.references, members, axis=0)
        axes, variances = principal_axes(rest - rest.mean(axis=0))
        return GaussianBank(rest, rest.mean(axis=0), axes, variances, shrinkage, max(scale, SMALLEST_SCALE)).squares(
            embeddings
        )
    spread = (1.0 - shrinkage) * len(bank.references) / left * bank.variances + floor

    def inverse_form(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        along_x, along_y = x @ bank.axes.T, y @ bank.axes.T
        rest = x @ y.T - along_x @ along_y.T if len(bank.axes) < x.shape[1] else 0.0
        return (along_x / spread) @ along_y.T + rest / floor

    difference = embeddings - bank.mean - u[-1]
    core = np.eye(len(u)) / (1.0 - shrinkage) - inverse_form(u, u) if shrinkage < 1.0 else None
    squares = np.array([inverse_form(row[None], row[None])[0, 0] for row in difference])
    if core is not None:
        cross = inverse_form(u, difference)
        squares += (cross * np.linalg.solve(core, cross)).sum(axis=0)
    return np.maximum(squares, 0.0)


def fit_gaussian(references: np.ndarray) -> GaussianBank:
    """Fits mean and Ledoit-Wolf covariance to references (N, D)."""
    count, dim = references.shape
    mean = references.mean(axis=0)
    axes, variances = principal_axes(references - mean)
    shrinkage, variance = ledoit_wolf(((references - mean) ** 2).sum(axis=1), (variances**2).sum(), count, dim)
    if count == 3:  # without one of them, two are a sphere, and distances would not compare
        shrinkage = np.ones_like(shrinkage)
    # Identical references have no spread: distances are then in units of the smallest scale.
    scale = max(float(variance), SMALLEST_SCALE)
    return GaussianBank(references, mean, axes, variances, float(shrinkage), scale)


def principal_axes(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal axes (r, D) of centred clips (N, D), and the variances (r,) along them."""
    count, dim = centred.shape
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    # Centring removes one axis; its singular value is rounding error.
    rank = min(count - 1, dim, int((singular > singular.max(initial=0.0) * 1e-12).sum()))
    return axes[:rank], singular[:rank] ** 2 / count
