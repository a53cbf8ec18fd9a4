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

    def fit(self, references: np.ndarray, domains: np.ndarray) -> object:
        """Fits the scorer to normal clips.

        Args:
            references: (N, D) or (N, bands, D) embeddings.
            domains: (N,) 'source' or 'target'.
        """

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """Anomaly scores (M,) of embeddings (M, D) or (M, bands, D)."""

    def reference_scores(self) -> np.ndarray:
        """Leave-one-out scores (N,): each reference against all others."""


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

    def __init__(self, bank: BankMode = DOMAIN, standardize: Standardize = False):
        self.bank, self.standardize = bank, standardize
        self.note = ""  # set by fit if it could not follow the settings; logged as a warning

    def arrange(self, rows: np.ndarray) -> np.ndarray:
        """Converts rows (N, D) or (N, bands, D) to the shape that the banks use; by default bands are concatenated."""
        return flat(rows)

    def fit_bank(self, rows: np.ndarray) -> AnyBank:
        """Fits one bank to the arranged references with the indices ``rows``."""
        raise NotImplementedError

    def fit(self, references: np.ndarray, domains: np.ndarray) -> "BankScorer":
        """Fits the banks; see ``Scorer.fit``.

        Raises:
            WheeltapperError: fewer than ``fewest_references`` references, or NaN or infinity among them.
        """
        references, self._domains = check(references, domains, self.fewest_references)
        self._references = self.arrange(references)
        self._rows, self.note = split(self._domains, self.bank, self.smallest_bank)
        self._banks = [self.fit_bank(rows) for rows in self._rows]
        self._own = [bank.leave_one_out() for bank in self._banks]
        if self.standardize:
            self._scales = _standards(self._own, mean_z if self.standardize == MEAN else robust_z)
        return self

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        embeddings = self.arrange(np.asarray(embeddings, np.float64))
        if embeddings.shape[1:] != self._references.shape[1:]:
            expected, found = self._references.shape[1:], embeddings.shape[1:]
            raise WheeltapperError(f"embeddings: expected shape {expected} as of the references, found {found}")
        return self._nearest([bank.distance(embeddings) for bank in self._banks])

    def reference_scores(self) -> np.ndarray:
        distances = []
        for bank, rows, own in zip(self._banks, self._rows, self._own, strict=True):
            others = np.setdiff1d(np.arange(len(self._references)), rows)
            distance = np.empty(len(self._references))
            distance[rows] = own
            if len(others):
                distance[others] = self.distance_of_others(bank, others)
            distances.append(distance)
        return self._nearest(distances)

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


def check(references: np.ndarray, domains: np.ndarray, fewest: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Converts and checks references.

    Args:
        references: (N, D) or (N, bands, D).
        domains: (N,).
        fewest: smallest number of references allowed.

    Returns:
        References as float64 in their shape, and domains as an array.

    Raises:
        WheeltapperError: fewer than ``fewest`` references, or NaN or infinity among them.
    """
    references, domains = np.asarray(references, np.float64), np.asarray(domains)
    if references.ndim not in (2, 3) or len(references) != len(domains):
        raise ValueError(f"references {references.shape} and domains {domains.shape} do not belong together")
    if len(references) < fewest:
        raise WheeltapperError(f"normal references: expected at least {fewest} clips, found {len(references)}")
    if not np.isfinite(references).all():
        raise WheeltapperError("normal references: expected finite embeddings, found NaN or infinity")
    return references, domains


def split(domains: np.ndarray, mode: str, smallest: int) -> tuple[list[np.ndarray], str]:
    """Assigns references to banks.

    Args:
        domains: (N,) 'source' or 'target'.
        mode: ``global`` for one bank of all, ``domain`` for one bank per domain.
        smallest: smallest bank that has statistics. If a domain has fewer clips, all references form one bank.

    Returns:
        Indices of each bank's references, and a note if the banks differ from what ``mode`` asks for.
    """
    everything = np.arange(len(domains))
    if mode == GLOBAL:
        return [everything], ""
    names, counts = np.unique(domains, return_counts=True)
    if counts.min() < smallest:
        few = names[counts.argmin()] or "unknown"
        return [everything], f"{counts.min()} references of domain {few}, fewer than {smallest}: one bank for all"
    return [np.flatnonzero(domains == name) for name in names], ""
