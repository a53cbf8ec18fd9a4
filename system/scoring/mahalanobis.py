"""Mahalanobis distance to banks of normal references with Ledoit-Wolf covariance (Wang and Liu 2026, section 4.1)."""

from dataclasses import dataclass

import numpy as np

from system.scoring.banks import Bank, BankScorer

SMALLEST_SCALE = np.finfo(float).tiny ** 0.5  # of identical references; its inverse and squares stay finite


@dataclass(frozen=True)
class GaussianBank:
    """One normal distribution: references (N, D), their mean (D,), principal axes (r, D), the variances along these
    (r,) and the shrinkage to identity.

    The covariance is (1 - shrinkage) S + shrinkage * scale * I. S has at most N - 1 axes, so everything is computed in
    them and the rest of the space is one isotropic term: a bank of ten clips costs ten axes, whatever the dimension.
    """

    references: np.ndarray
    mean: np.ndarray
    axes: np.ndarray
    variances: np.ndarray
    shrinkage: float
    scale: float

    def distance(self, embeddings: np.ndarray) -> np.ndarray:
        return np.sqrt(self.squares(embeddings))

    def squares(self, embeddings: np.ndarray) -> np.ndarray:
        """(M, D) to squared distances (M,)."""
        difference = embeddings - self.mean
        along = difference @ self.axes.T
        floor = self.shrinkage * self.scale
        spread = (1.0 - self.shrinkage) * self.variances + floor
        squared = (along**2 / spread).sum(axis=1)
        if len(self.axes) < embeddings.shape[1]:
            squared += np.maximum((difference**2).sum(axis=1) - (along**2).sum(axis=1), 0.0) / floor
        return squared

    def leave_one_out(self) -> np.ndarray:
        """Mean, covariance and shrinkage anew without each reference.

        With z = x - mean, leaving x_i out gives S_i = a S - b z z^T with a = N / (N - 1), b = N / (N - 1)^2, so every
        quantity follows from the Gram matrix of z, and the inverse from Sherman and Morrison: O(N^2), not N fits.
        """
        return np.sqrt(squares_without(self, *shrinkage_without(self)))


class MahalanobisScorer(BankScorer[Bank]):
    """s(x) = min over banks of sqrt((x - mu)^T Sigma^-1 (x - mu)), Sigma by Ledoit and Wolf (2004)."""

    # Leaving one out of four leaves three clips, the fewest that say anything about directions.
    smallest_bank = 4
    fewest_references = 3

    def fit_bank(self, rows: np.ndarray) -> Bank:
        return fit_gaussian(self._references[rows])


def ledoit_wolf(
    squares: np.ndarray, frobenius: float | np.ndarray, count: int, dim: int
) -> tuple[np.ndarray, np.ndarray]:
    """Shrinkage intensity and scale (mean variance) of Ledoit and Wolf (2004), from sums only.

    Args:
        squares: (..., N) squared norms of the centred clips.
        frobenius: (...) squared Frobenius norm of their covariance S (divided by N).
        count: N. dim: D.

    Returns:
        shrinkage in (0, 1] and trace(S) / D, both (...). Two clips have one axis: they give the sphere, shrinkage 1.
    """
    scale = squares.sum(axis=-1) / count / dim
    # E||S||^2 noise over its distance from the scaled identity, both per dimension.
    noise = ((squares**2).sum(axis=-1) / count - frobenius) / (count * dim)
    distance = frobenius / dim - scale**2
    noise = np.minimum(noise, distance)
    with np.errstate(invalid="ignore", divide="ignore"):
        shrinkage = np.where(distance > 0, noise / distance, 1.0)
    # Never quite zero: S may be singular.
    return np.clip(shrinkage if count > 2 else np.ones_like(shrinkage), 1e-9, 1.0), scale


def shrinkage_without(bank: GaussianBank) -> tuple[np.ndarray, np.ndarray]:
    """Shrinkage and scale of a bank estimated without each of its references, both (N,)."""
    count, dim = bank.references.shape
    z = bank.references - bank.mean
    gram = z @ z.T
    squares = np.diag(gram)
    a, b = count / (count - 1), count / (count - 1) ** 2
    # Squared norms of the other clips around the mean without clip i: (i, n).
    others = squares + 2.0 * gram / (count - 1) + (squares / (count - 1) ** 2)[:, None]
    np.fill_diagonal(others, 0.0)
    form = (gram**2).sum(axis=1) / count  # z_i^T S z_i
    frobenius = a**2 * (bank.variances**2).sum() - 2 * a * b * form + b**2 * squares**2
    return ledoit_wolf(others, frobenius, count - 1, dim)


def squares_without(bank: GaussianBank, shrinkage: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Squared distance of each reference to its bank without it, (N,), for given shrinkage and scale (N,) each."""
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


def fit_gaussian(references: np.ndarray) -> GaussianBank:
    """Mean and Ledoit-Wolf covariance of references (N, D), in their principal axes."""
    count, dim = references.shape
    mean = references.mean(axis=0)
    axes, variances = principal_axes(references - mean)
    shrinkage, variance = ledoit_wolf(((references - mean) ** 2).sum(axis=1), (variances**2).sum(), count, dim)
    # Identical references have no spread at all: any distance is then measured in units of the smallest number.
    scale = max(float(variance), SMALLEST_SCALE)
    return GaussianBank(references, mean, axes, variances, float(shrinkage), scale)


def principal_axes(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Axes (r, D) and variances along them (r,) of centred clips (N, D)."""
    count, dim = centred.shape
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    # The mean costs one axis; what is left of it is rounding.
    rank = min(count - 1, dim, int((singular > singular.max(initial=0.0) * 1e-12).sum()))
    return axes[:rank], singular[:rank] ** 2 / count
