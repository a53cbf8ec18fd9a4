"""Mahalanobis distance to banks of normal references with Ledoit-Wolf covariance (Wang and Liu 2026, section 4.1).

Written here instead of taken from scikit-learn, because leave-one-out distances need N fits there and O(N^2) here.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from system.errors import WheeltapperError
from system.scoring.banks import DOMAIN, BankScorer, independent
from system.scoring.centred_bank import CentredBank, NormalBank
from system.scoring.settings import BankMode, Covariance, Standardize

WELL_CONDITIONED = 1e-6  # shrinkage above which the covariance without a group of references may be downdated
SMALLEST_FLOOR = 1e-6  # of the isotropic variance, relative to the covariance, for products instead of an SVD
SMALLEST_NORM = 1e-140  # of a covariance whose square is far from the smallest number
SOURCE = "source"  # domain whose covariance all banks may share
SMALLEST_CENTRE = 2  # references of a bank that has the covariance of another: without one there is still a mean
SMALLEST_SCALE = np.finfo(float).tiny ** 0.5  # for identical references; its inverse and its square are finite


@dataclass(frozen=True)
class Spectrum:
    """Principal axes of centred references.

    Args:
        along: (N, r) coordinates of the references along the axes.
        variances: (r,) along the axes.
        axes: unit vectors (r, D).
    """

    along: np.ndarray
    variances: np.ndarray
    axes: np.ndarray


@dataclass(frozen=True)
class GaussianBank:
    """Normal distribution fitted to references.

    The covariance is (1 - shrinkage) S + floor * I with the sample covariance S and floor = shrinkage * scale. All of
    it follows from the products of the references, (N, N) or (D, D), whichever are fewer: a bank of ten clips costs ten
    axes in any dimension. These are squares and lose digits below the floor, which do no harm while it is at least
    ``SMALLEST_FLOOR`` of S: the relative error of a squared distance is about the rounding error over that share. Else
    the axes come from a singular value decomposition.
    """

    mean: np.ndarray  # (D,)
    centred: np.ndarray  # (N, D) references less their mean
    products: np.ndarray  # (N, N) of the centred references, or (D, D) of their dimensions
    shrinkage: float
    scale: float  # mean variance

    @cached_property
    def gram(self) -> np.ndarray:
        """Products (N, N) of the centred references."""
        return self.products if self.has_gram else self.centred @ self.centred.T

    @property
    def has_gram(self) -> bool:
        return len(self.products) == len(self.centred)

    @cached_property
    def frobenius(self) -> float:
        """Squared Frobenius norm of S."""
        return squared_norm(self.products, len(self.centred))

    def spectrum(self, floor: float) -> Spectrum:
        """Principal axes that are exact enough where ``floor`` is added to all variances."""
        return self._quick_spectrum if self.has_floor(floor) else self._exact_spectrum

    def has_floor(self, floor: float) -> bool:
        """Whether ``floor`` hides the rounding errors of the products."""
        norm = np.sqrt(self.frobenius)
        return bool(SMALLEST_NORM < norm < 1.0 / SMALLEST_NORM and floor >= SMALLEST_FLOOR * norm)

    @cached_property
    def _quick_spectrum(self) -> Spectrum:
        count = len(self.centred)
        values, vectors = np.linalg.eigh(self.products)
        if not self.has_gram:
            return Spectrum(self.centred @ vectors, np.maximum(values, 0.0) / count, vectors.T)
        # Centring removes one axis. An axis that is as good as lost in rounding errors is far below the floor.
        kept = np.flatnonzero(values > 4.0 * np.finfo(float).eps * values.max(initial=0.0))[-(count - 1) :]
        along, values = vectors[:, kept] * np.sqrt(values[kept]), values[kept]
        return Spectrum(along, values / count, (along / values).T @ self.centred)

    @cached_property
    def _exact_spectrum(self) -> Spectrum:
        return principal_axes(self.centred)

    @property
    def _weight(self) -> float:
        """Of the products in the covariance, in units of the floor."""
        return (1.0 - self.shrinkage) / len(self.centred) / (self.shrinkage * self.scale)

    @cached_property
    def _factor(self) -> np.ndarray:
        """Lower triangular Cholesky factor of the identity plus the weighted products."""
        matrix = self.products * self._weight
        matrix[np.diag_indices(len(matrix))] += 1.0
        return np.linalg.cholesky(matrix)

    def distance(self, embeddings: np.ndarray) -> np.ndarray:
        return np.sqrt(self.squares(embeddings))

    def squares(self, embeddings: np.ndarray) -> np.ndarray:
        """Squared distances (M,) of embeddings (M, D)."""
        difference = embeddings - self.mean
        floor = self.shrinkage * self.scale
        if self.has_floor(floor):
            return self._squares_by_products(difference) / floor
        spectrum = self.spectrum(floor)
        along = difference @ spectrum.axes.T
        spread = (1.0 - self.shrinkage) * spectrum.variances + floor
        squared = (along**2 / spread).sum(axis=1)
        if len(spectrum.axes) < embeddings.shape[1]:
            squared += np.maximum((difference**2).sum(axis=1) - (along**2).sum(axis=1), 0.0) / floor
        return squared

    def _squares_by_products(self, difference: np.ndarray) -> np.ndarray:
        """Squared distances (M,) of differences (M, D) from the mean, in units of the floor: x (I + c S)^-1 x by the
        factor of the covariance or, in fewer clips than dimensions, by Woodbury's formula."""
        squares = np.einsum("md,md->m", difference, difference)
        if self.shrinkage == 1.0:
            return squares
        right = difference.T
        if self.has_gram:
            right = np.sqrt(self._weight) * (self.centred @ right)
        solved = np.linalg.solve(self._factor, right)  # SciPy's for triangles takes longer to import than it saves
        found = np.einsum("nm,nm->m", solved, solved)
        return np.maximum(squares - found, 0.0) if self.has_gram else found

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


class MahalanobisScorer(BankScorer[NormalBank]):
    """s(x) = min over banks of sqrt((x - mu)^T Sigma^-1 (x - mu)), Sigma by Ledoit and Wolf (2004).

    Args:
        bank: see BankScorer.
        standardize: see BankScorer.
        covariance: ``own`` for each bank's covariance, ``source`` for that of the source references in all banks: a few
            target clips have a mean, but no covariance.
    """

    # Of fewer, leave-one-out distances are much larger than those of new clips, and one bank of all clips finds more
    # faults (tools/false_alarm_study.py). With one clip left out of three there is still a direction.
    smallest_bank = 6
    fewest_references = 3

    def __init__(self, bank: BankMode = DOMAIN, standardize: Standardize = False, covariance: Covariance = "own"):
        super().__init__(bank, standardize)
        if covariance == SOURCE and bank != DOMAIN:
            raise WheeltapperError(f"covariance: expected own with bank {bank}, found {covariance}")
        self.covariance = covariance
        if covariance == SOURCE:
            self.smallest_bank = SMALLEST_CENTRE

    def assign(self) -> tuple[list[np.ndarray], str]:
        self._source: np.ndarray | None = None  # references of the covariance of all banks
        self._shared: NormalBank | None = None  # their bank
        rows, note = super().assign()
        if self.covariance != SOURCE or len(rows) == 1:
            return rows, note
        # References without a domain named source: that of most of them.
        source = np.flatnonzero(self._domains == SOURCE)
        source = source if len(source) else max(rows, key=len)
        count = independent(None if self._groups is None else self._groups[source], len(source))
        if count < MahalanobisScorer.smallest_bank:
            few = f"{count} source references, fewer than {MahalanobisScorer.smallest_bank}: one bank for all"
            return [np.arange(len(self._domains))], few
        self._source = source
        return rows, note

    def fit_bank(self, rows: np.ndarray) -> NormalBank:
        if self._source is None:
            return self.fit_normal(rows)
        if self._shared is None:
            self._shared = self.fit_normal(self._source)
        if np.array_equal(rows, self._source):
            return self._shared
        return CentredBank(self._shared, self._references[self._source], self._references[rows])

    def fit_normal(self, rows: np.ndarray) -> NormalBank:
        """A normal distribution fitted to the references with the indices ``rows``."""
        return fit_gaussian(self._references[rows])

    def distance_without(self, bank: NormalBank, rows: np.ndarray, group: np.ndarray) -> np.ndarray:
        return bank.without(np.flatnonzero(np.isin(rows, group)), self._references[group])

    def distances_left_out(self, bank: NormalBank, rows: np.ndarray) -> np.ndarray:
        if not isinstance(bank, CentredBank):
            return super().distances_left_out(bank, rows)
        # A reference of the source domain is left out of the covariance, and one of this bank of its mean.
        found = np.empty(len(self._references))
        groups = np.arange(len(found)) if self._groups is None else self._groups
        assert self._source is not None  # a bank has its covariance
        for number in np.unique(groups):
            group = np.flatnonzero(groups == number)
            others, members = (np.flatnonzero(np.isin(each, group)) for each in (self._source, rows))
            found[group] = bank.without_both(others, members, self._references[group])
        return found


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
    count, dim = bank.centred.shape
    gram = bank.gram
    squares = np.diag(gram)
    a, b = count / (count - 1), count / (count - 1) ** 2
    # (i, n): squared distance of clip n from the mean without clip i.
    others = squares + 2.0 * gram / (count - 1) + (squares / (count - 1) ** 2)[:, None]
    np.fill_diagonal(others, 0.0)
    form = (gram**2).sum(axis=1) / count  # z_i^T S z_i
    frobenius = a**2 * bank.frobenius - 2 * a * b * form + b**2 * squares**2
    return ledoit_wolf(others, frobenius, count - 1, dim)


def squares_without(bank: GaussianBank, shrinkage: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Squared distance (N,) of each reference to the bank without it, with the bank's shrinkage (N,) and scale (N,)."""
    count, dim = bank.centred.shape
    a, b = count / (count - 1), count / (count - 1) ** 2
    floor = shrinkage * np.maximum(scale, SMALLEST_SCALE)
    spectrum = bank.spectrum(floor.min())
    along = spectrum.along**2
    spread = ((1.0 - shrinkage) * a)[:, None] * spectrum.variances + floor[:, None]
    inverse_form = (along / spread).sum(axis=1)
    if along.shape[1] < dim:
        inverse_form += np.maximum((bank.centred**2).sum(axis=1) - along.sum(axis=1), 0.0) / floor
    inverse_form = inverse_form / np.maximum(1.0 - (1.0 - shrinkage) * b * inverse_form, np.finfo(float).eps)
    return inverse_form * a**2  # x_i lies a * z_i from the mean of the others


def _downdate(bank: GaussianBank, members: np.ndarray) -> tuple[np.ndarray, int]:
    """Vectors u (k + 1, D) and number n of the others, such that the covariance of a bank of N references without k of
    them is N / n S - sum of u u^T. The last vector is how far the mean moves."""
    left = len(bank.centred) - len(members)
    z = bank.centred[members]
    return np.concatenate([z / np.sqrt(left), -z.sum(axis=0, keepdims=True) / left]), left


def shrinkage_without_group(bank: GaussianBank, members: np.ndarray) -> tuple[float, float]:
    """Shrinkage and scale of a bank, estimated without the references with the indices ``members`` (k,)."""
    u, left = _downdate(bank, members)
    a = len(bank.centred) / left
    moved = bank.gram[:, members].sum(axis=1) / left  # -z u for the last u
    squares = np.delete(np.diag(bank.gram) + 2.0 * moved, members) + (u[-1] ** 2).sum()
    form = ((u @ bank.centred.T) ** 2).sum() / len(bank.centred)
    frobenius = a**2 * bank.frobenius - 2 * a * form + ((u @ u.T) ** 2).sum()
    shrinkage, scale = ledoit_wolf(squares, frobenius, left, bank.centred.shape[1])
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
        rest = np.delete(bank.centred, members, axis=0)
        mean = rest.mean(axis=0)
        rest = rest - mean
        others = GaussianBank(mean, rest, products_of(rest), shrinkage, max(scale, SMALLEST_SCALE))
        return others.squares(embeddings - bank.mean)
    axes, variances = bank.spectrum(floor).axes, bank.spectrum(floor).variances
    spread = (1.0 - shrinkage) * len(bank.centred) / left * variances + floor

    def inverse_form(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        along_x, along_y = x @ axes.T, y @ axes.T
        rest = x @ y.T - along_x @ along_y.T if len(axes) < x.shape[1] else 0.0
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
    centred = references - mean
    products = products_of(centred)
    squares = np.einsum("nd,nd->n", centred, centred)
    shrinkage, variance = ledoit_wolf(squares, squared_norm(products, count), count, dim)
    if count == 3:  # without one of them, two are a sphere, and distances would not compare
        shrinkage = np.ones_like(shrinkage)
    # Identical references have no spread: distances are then in units of the smallest scale.
    return GaussianBank(mean, centred, products, float(shrinkage), max(float(variance), SMALLEST_SCALE))


def products_of(centred: np.ndarray) -> np.ndarray:
    """Products of centred references (N, D) with each other, (N, N), or of their dimensions if these are fewer."""
    return centred @ centred.T if len(centred) <= centred.shape[1] else centred.T @ centred


def squared_norm(products: np.ndarray, count: int) -> float:
    """Squared Frobenius norm of the covariance of ``count`` references, from ``products_of`` them."""
    return float(np.square(products / count).sum())


def principal_axes(centred: np.ndarray) -> Spectrum:
    """Principal axes of centred clips (N, D) to full precision."""
    count, dim = centred.shape
    left, singular, axes = np.linalg.svd(centred, full_matrices=False)
    # Centring removes one axis; its singular value is rounding error.
    rank = min(count - 1, dim, int((singular > singular.max(initial=0.0) * 1e-12).sum()))
    return Spectrum(left[:, :rank] * singular[:rank], singular[:rank] ** 2 / count, axes[:rank])
