"""Banks of normal references, and what all distance scorers share: leave one out, standardise, take the nearest."""

import math
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import numpy as np

from system.errors import WheeltapperError
from system.scoring.calibrate import ZScore, mean_z, robust_z

GLOBAL = "global"
DOMAIN = "domain"
MEAN = "mean"


class Scorer(Protocol):
    """What every anomaly scorer offers; arrays come without names, a higher score is more anomalous."""

    def fit(self, references: np.ndarray, domains: np.ndarray) -> object:
        """references float64 (N, D) or (N, bands, D) of normal clips and their domains (N,) 'source' | 'target'."""

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """float64 (M, D) or (M, bands, D) to anomaly scores (M,)."""

    def reference_scores(self) -> np.ndarray:
        """(N,) score of each reference against the references without it (leave one out)."""


def note_of(scorer: Scorer) -> str:
    """What a fitted scorer did otherwise than asked, for the log: its ``note`` where it has one."""
    return str(getattr(scorer, "note", ""))


class Bank(Protocol):
    """Some normal references and a distance to them; rows as ``BankScorer.arrange`` gives them."""

    def distance(self, embeddings: np.ndarray) -> np.ndarray:
        """(M, ...) to distances (M,)."""

    def leave_one_out(self) -> np.ndarray:
        """(N,) distance of each reference to the bank without it."""


AnyBank = TypeVar("AnyBank", bound=Bank)


class BankScorer(Generic[AnyBank]):
    """Scorer of one distance over one or several banks; the nearest bank counts, since the domain of a test clip is
    not known (Wang and Liu 2026, section 4.1).

    Args:
        bank: ``domain``, source and target apart, or ``global``.
        standardize: bring each bank's distances to z-scores of its own leave-one-out distances before the minimum:
            true, robust ones (median and MAD), or ``mean``, mean and standard deviation. Without it the bank of the
            smaller scale wins for every clip: ten target clips and hundreds of source clips give distances of
            different size to the same clip.
    """

    smallest_bank = 2
    fewest_references = 2

    def __init__(self, bank: str = DOMAIN, standardize: bool | str = False):
        if bank not in (DOMAIN, GLOBAL):
            raise WheeltapperError(f"bank: expected {DOMAIN} or {GLOBAL}, found {bank!r}")
        if standardize not in (False, True, MEAN):
            raise WheeltapperError(f"standardize: expected false, true or {MEAN}, found {standardize!r}")
        self.bank, self.standardize = bank, standardize
        self.note = ""  # what fit did otherwise than asked

    def arrange(self, rows: np.ndarray) -> np.ndarray:
        """Rows (N, D) or (N, bands, D) as the banks take them: bands side by side, (N, numbers)."""
        return flat(rows)

    def fit_bank(self, rows: np.ndarray) -> AnyBank:
        """One bank over some of the arranged references, by their numbers."""
        raise NotImplementedError

    def fit(self, references: np.ndarray, domains: np.ndarray) -> "BankScorer":
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
            raise WheeltapperError(f"embeddings: expected {expected} numbers as the references have, found {found}")
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
        """Distances of references by number to a bank that they are not in."""
        return bank.distance(self._references[others])

    def _nearest(self, distances: list[np.ndarray]) -> np.ndarray:
        if self.standardize:
            distances = [scale(distance) for scale, distance in zip(self._scales, distances, strict=True)]
        return np.min(distances, axis=0)


def _standards(own: list[np.ndarray], fit: Callable[[np.ndarray], ZScore]) -> list[ZScore]:
    """z-scores of each bank. Ten clips give a usable middle but no usable spread, so that no bank's scale is below
    half that of all leave-one-out distances around their bank's middle."""
    standards = [fit(scores) for scores in own]
    residuals = np.concatenate([scores - z.centre for scores, z in zip(own, standards, strict=True)])
    floor = 0.5 * fit(residuals).scale
    return [ZScore(z.centre, max(z.scale, floor)) for z in standards]


def flat(rows: np.ndarray) -> np.ndarray:
    """(N, ...) to (N, numbers)."""
    return rows.reshape(len(rows), math.prod(rows.shape[1:]))


def check(references: np.ndarray, domains: np.ndarray, fewest: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """References as float64, (N, D) or (N, bands, D) as they come, and domains (N,); WheeltapperError for fewer than
    ``fewest`` or non-finite rows."""
    references, domains = np.asarray(references, np.float64), np.asarray(domains)
    if references.ndim not in (2, 3) or len(references) != len(domains):
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
