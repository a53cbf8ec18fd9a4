"""Base of the distance scorers: banks of normal references, leave-one-out scores, standardisation, nearest bank."""

import math
from collections.abc import Callable
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np

from system.errors import WheeltapperError
from system.scoring.calibrate import ZScore, mean_z, robust_z
from system.scoring.settings import BankMode, Standardize

GLOBAL: Literal["global"] = "global"
DOMAIN: Literal["domain"] = "domain"
MEAN = "mean"


class Scorer(Protocol):
    """Interface of every anomaly scorer. Clips come without names, and a higher score is more anomalous."""

    def fit(self, references: np.ndarray, domains: np.ndarray, groups: np.ndarray | None = None) -> object:
        """Fits the scorer to normal clips.

        Args:
            references: (N, D) or (N, bands, D) embeddings.
            domains: (N,) 'source' or 'target'.
            groups: (N,) numbers; references with the same number are parts or copies of one recording and are left out
                together in ``reference_scores``. None if each stands alone.
        """

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """Anomaly scores (M,) of embeddings (M, D) or (M, bands, D)."""

    def reference_scores(self) -> np.ndarray:
        """Leave-one-out scores (N,): each reference against all others that are not of its group."""


def note_of(scorer: Scorer) -> str:
    """What a fitted scorer did otherwise than asked, for the log: its ``note`` where it has one."""
    return str(getattr(scorer, "note", ""))


class Bank(Protocol):
    """A set of normal references and a distance to it. Rows have the shape that ``BankScorer.arrange`` returns."""

    def distance(self, embeddings: np.ndarray) -> np.ndarray:
        """Distances (M,) of embeddings (M, ...)."""

    def leave_one_out(self) -> np.ndarray:
        """Distance (N,) of each reference to the bank without it."""


AnyBank = TypeVar("AnyBank", bound=Bank)


class BankScorer(Generic[AnyBank]):
    """Base of scorers that take the distance to the nearest of one or several banks.

    The nearest bank counts because the domain of a test clip is unknown (Wang and Liu 2026, section 4.1).

    Args:
        bank: ``domain`` for separate banks of source and target clips, ``global`` for one bank of all.
        standardize: convert each bank's distances to z-scores of its own leave-one-out distances before the minimum.
            True uses median and MAD, ``mean`` uses mean and standard deviation. Without it, the bank with the smaller
            scale wins for every clip: distances to ten target clips and to hundreds of source clips differ in size.
    """

    smallest_bank = 2
    fewest_references = 2
    most_axes = 2  # of a clip's row

    def __init__(self, bank: BankMode = DOMAIN, standardize: Standardize = False):
        self.bank, self.standardize = bank, standardize
        self.note = ""  # set by fit if it could not follow the settings; logged as a warning

    def arrange(self, rows: np.ndarray) -> np.ndarray:
        """Converts rows (N, D) or (N, bands, D) to the shape that the banks use; by default bands are concatenated."""
        return flat(rows)

    def assign(self) -> tuple[list[np.ndarray], str]:
        """Indices of each bank's references, and a note if the banks differ from what the settings ask for."""
        return split(self._domains, self.bank, self.smallest_bank, self._groups)

    def fit_bank(self, rows: np.ndarray) -> AnyBank:
        """Fits one bank to the arranged references with the indices ``rows``."""
        raise NotImplementedError

    def distance_without(self, bank: AnyBank, rows: np.ndarray, group: np.ndarray) -> np.ndarray:
        """Distances of the references with the indices ``group`` to a bank of ``rows`` without these."""
        return self.fit_bank(rows[~np.isin(rows, group)]).distance(self._references[group])

    def fit(self, references: np.ndarray, domains: np.ndarray, groups: np.ndarray | None = None) -> "BankScorer":
        """Fits the banks; see ``Scorer.fit``.

        Raises:
            WheeltapperError: fewer than ``fewest_references`` references, or groups of them; NaN or infinity.
        """
        references, self._domains = check(references, domains, self.fewest_references, groups, self.most_axes)
        self._references, self._groups = self.arrange(references), groups
        self._rows, self.note = self.assign()
        self._banks = [self.fit_bank(rows) for rows in self._rows]
        self._left_out: list[np.ndarray] = []
        if self.standardize:
            own = [distance[rows] for distance, rows in zip(self.left_out(), self._rows, strict=True)]
            self._scales = _standards(own, mean_z if self.standardize == MEAN else robust_z)
        return self

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        embeddings = self.arrange(np.asarray(embeddings, np.float64))
        if embeddings.shape[1:] != self._references.shape[1:]:
            expected, found = self._references.shape[1:], embeddings.shape[1:]
            raise WheeltapperError(f"embeddings: expected shape {expected} as of the references, found {found}")
        return self._nearest([bank.distance(embeddings) for bank in self._banks])

    def reference_scores(self) -> np.ndarray:
        return self._nearest(self.left_out())

    def left_out(self) -> list[np.ndarray]:
        """Distances (N,) of all references to each bank without them; computed only when somebody asks."""
        if not self._left_out:
            self._left_out = [
                self.distances_left_out(bank, rows) for bank, rows in zip(self._banks, self._rows, strict=True)
            ]
        return self._left_out

    def distances_left_out(self, bank: AnyBank, rows: np.ndarray) -> np.ndarray:
        """Distances (N,) of all references to a bank of ``rows``, each without itself and its group."""
        found = np.empty(len(self._references))
        found[rows] = bank.leave_one_out()
        others = np.setdiff1d(np.arange(len(found)), rows)
        if len(others):
            found[others] = self.distance_of_others(bank, others)
        if self._groups is not None:
            for group in shared(self._groups):
                if np.isin(rows, group).any():
                    found[group] = self.distance_without(bank, rows, group)
        return found

    def distance_of_others(self, bank: AnyBank, others: np.ndarray) -> np.ndarray:
        """Distances to a bank of the references with the indices ``others``, which are not in it."""
        return bank.distance(self._references[others])

    def _nearest(self, distances: list[np.ndarray]) -> np.ndarray:
        if self.standardize:
            distances = [scale(distance) for scale, distance in zip(self._scales, distances, strict=True)]
        return np.min(distances, axis=0)


def _standards(own: list[np.ndarray], fit: Callable[[np.ndarray], ZScore]) -> list[ZScore]:
    """Fits the z-score of each bank.

    Ten clips give a usable centre but no usable spread. So no bank's scale may be below half the scale of all
    leave-one-out distances around the centres of their banks.
    """
    standards = [fit(scores) for scores in own]
    residuals = np.concatenate([scores - z.centre for scores, z in zip(own, standards, strict=True)])
    floor = 0.5 * fit(residuals).scale
    return [ZScore(z.centre, max(z.scale, floor)) for z in standards]


def flat(rows: np.ndarray) -> np.ndarray:
    """Reshapes (N, ...) to (N, D)."""
    return rows.reshape(len(rows), math.prod(rows.shape[1:]))


def check(
    references: np.ndarray,
    domains: np.ndarray,
    fewest: int = 2,
    groups: np.ndarray | None = None,
    most_axes: int = 2,
) -> tuple[np.ndarray, np.ndarray]:
    """Converts and checks references.

    Args:
        references: (N, D) or (N, bands, D).
        domains: (N,).
        fewest: smallest number of references allowed.
        groups: (N,) numbers of the groups that are left out together, or None.
        most_axes: most axes of a reference.

    Returns:
        References as float64 in their shape, and domains as an array.

    Raises:
        WheeltapperError: fewer than ``fewest`` references, or groups of them; NaN or infinity; too many axes.
    """
    references, domains = np.asarray(references, np.float64), np.asarray(domains)
    if references.ndim > most_axes + 1:
        raise WheeltapperError(
            f"normal references: expected {most_axes} axes of each at most, found {references.ndim - 1}: frames of "
            "several inputs are for the scorer frames"
        )
    if references.ndim < 2 or len(references) != len(domains):
        raise ValueError(f"references {references.shape} and domains {domains.shape} do not belong together")
    if groups is not None and np.shape(groups) != (len(references),):
        raise ValueError(f"references {references.shape} and groups {np.shape(groups)} do not belong together")
    if (count := independent(groups, len(references))) < fewest:
        parts = "" if count == len(references) else f" ({len(references)} with their parts and copies)"
        raise WheeltapperError(f"normal references: expected at least {fewest} clips, found {count}{parts}")
    if not np.isfinite(references).all():
        raise WheeltapperError("normal references: expected finite embeddings, found NaN or infinity")
    return references, domains


def independent(groups: np.ndarray | None, count: int) -> int:
    """Number of groups among ``count`` references: the number of references where ``groups`` is None."""
    return count if groups is None else len(np.unique(groups))


def shared(groups: np.ndarray) -> list[np.ndarray]:
    """Indices of the members of each group that has more than one; ``groups`` (N,) are numbers."""
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.split(np.argsort(inverse, kind="stable"), np.cumsum(counts)[:-1])
    return [members for members in order if len(members) > 1]


def split(
    domains: np.ndarray, mode: str, smallest: int, groups: np.ndarray | None = None
) -> tuple[list[np.ndarray], str]:
    """Assigns references to banks.

    Args:
        domains: (N,) 'source' or 'target'.
        mode: ``global`` for one bank of all, ``domain`` for one bank per domain.
        smallest: smallest bank that has statistics. If a domain has fewer clips, all references form one bank.
        groups: (N,) numbers of the groups that are left out together, each of which counts as one clip; or None.

    Returns:
        Indices of each bank's references, and a note if the banks differ from what ``mode`` asks for.
    """
    everything = np.arange(len(domains))
    if mode == GLOBAL:
        return [everything], ""
    names = np.unique(domains)
    banks = [np.flatnonzero(domains == name) for name in names]
    counts = np.array([independent(None if groups is None else groups[rows], len(rows)) for rows in banks])
    if counts.min() < smallest:
        few = names[counts.argmin()] or "unknown"
        some = f"{counts.min()} reference{'s' if counts.min() != 1 else ''}"
        return [everything], f"{some} of domain {few}, fewer than {smallest}: one bank for all"
    return banks, ""
