"""Banks of normal references, and what all distance scorers share: leave one out, standardise, take the nearest."""

from typing import Protocol

import numpy as np

from system.errors import WheeltapperError
from system.scoring.calibrate import RobustZ, robust_z

GLOBAL = "global"
DOMAIN = "domain"


class Scorer(Protocol):
    """What every anomaly scorer offers; arrays come without names, a higher score is more anomalous."""

    def fit(self, references: np.ndarray, domains: np.ndarray) -> "Scorer":
        """references (N, D) of normal clips and their domains (N,) 'source' | 'target'."""

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """(M, D) to anomaly scores (M,)."""

    def reference_scores(self) -> np.ndarray:
        """(N,) score of each reference against the references without it (leave one out)."""


class Bank(Protocol):
    """Some normal references and a distance to them."""

    def distance(self, embeddings: np.ndarray) -> np.ndarray:
        """(M, D) to distances (M,)."""

    def leave_one_out(self) -> np.ndarray:
        """(N,) distance of each reference to the bank without it."""


class BankScorer:
    """Scorer of one distance over one or several banks; the nearest bank counts, since the domain of a test clip is
    not known (Wang and Liu 2026, section 4.1).

    Args:
        bank: ``domain``, source and target apart, or ``global``.
        standardize: bring each bank's distances to robust z-scores of its own leave-one-out distances before the
            minimum. Without it the bank of the smaller scale wins for every clip: ten target clips and hundreds of
            source clips give distances of different size to the same clip.
    """

    smallest_bank = 2
    fewest_references = 2

    def __init__(self, bank: str = DOMAIN, standardize: bool = False):
        if bank not in (DOMAIN, GLOBAL):
            raise WheeltapperError(f"bank: expected {DOMAIN} or {GLOBAL}, found {bank!r}")
        self.bank, self.standardize = bank, standardize
        self.note = ""  # what fit did otherwise than asked

    def fit_bank(self, references: np.ndarray) -> Bank:
        """One bank over (N, D) float64."""
        raise NotImplementedError

    def fit(self, references: np.ndarray, domains: np.ndarray) -> "BankScorer":
        references, domains = check(references, domains, self.fewest_references)
        self._references = references
        self._rows, self.note = split(domains, self.bank, self.smallest_bank)
        self._banks = [self.fit_bank(references[rows]) for rows in self._rows]
        self._own = [bank.leave_one_out() for bank in self._banks]
        self._scales = _standards(self._own) if self.standardize else None
        return self

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        embeddings = np.asarray(embeddings, np.float64)
        return self._nearest([bank.distance(embeddings) for bank in self._banks])

    def reference_scores(self) -> np.ndarray:
        distances = [bank.distance(self._references) for bank in self._banks]
        for distance, rows, own in zip(distances, self._rows, self._own, strict=True):
            distance[rows] = own
        return self._nearest(distances)

    def _nearest(self, distances: list[np.ndarray]) -> np.ndarray:
        if self._scales:
            distances = [scale(distance) for scale, distance in zip(self._scales, distances, strict=True)]
        return np.min(distances, axis=0)


def _standards(own: list[np.ndarray]) -> list[RobustZ]:
    """Robust z of each bank. Ten clips give a usable median but no usable spread, so that no bank's scale is below
    half that of all leave-one-out distances around their bank's median."""
    standards = [robust_z(scores) for scores in own]
    residuals = np.concatenate([scores - z.median for scores, z in zip(own, standards, strict=True)])
    floor = 0.5 * robust_z(residuals).scale
    return [RobustZ(z.median, max(z.scale, floor)) for z in standards]


def check(references: np.ndarray, domains: np.ndarray, fewest: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """References as float64 (N, D) and domains (N,); WheeltapperError for fewer than ``fewest`` or non-finite rows."""
    references, domains = np.asarray(references, np.float64), np.asarray(domains)
    if references.ndim != 2 or len(references) != len(domains):
        raise ValueError(f"references {references.shape} and domains {domains.shape} do not belong together")
    if len(references) < fewest:
        raise WheeltapperError(f"normal references: expected at least {fewest} clips, found {len(references)}")
    if not np.isfinite(references).all():
        raise WheeltapperError("normal references: expected finite embeddings, found NaN or infinity")
    return references, domains


def split(domains: np.ndarray, mode: str, smallest: int) -> tuple[list[np.ndarray], str]:
    """Row indices of each bank, and a note where they are not what was asked for.

    Args:
        domains: (N,) 'source' | 'target'.
        mode: ``global``, all in one bank, or ``domain``, one bank per domain.
        smallest: a domain with fewer clips has no statistics of its own: then all references make one bank.
    """
    everything = np.arange(len(domains))
    if mode == GLOBAL:
        return [everything], ""
    names, counts = np.unique(domains, return_counts=True)
    if counts.min() < smallest:
        few = names[counts.argmin()] or "unknown"
        return [everything], f"{counts.min()} references of domain {few}, fewer than {smallest}: one bank for all"
    return [np.flatnonzero(domains == name) for name in names], ""
