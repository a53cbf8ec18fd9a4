"""Banks of normal references: which rows of a machine's training embeddings are compared with together."""

import logging
from typing import Protocol

import numpy as np

from system.errors import WheeltapperError

log = logging.getLogger(__name__)

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


def split(domains: np.ndarray, mode: str, smallest: int) -> list[np.ndarray]:
    """Row indices of each bank.

    Args:
        domains: (N,) 'source' | 'target'.
        mode: ``global``, all in one bank, or ``domain``, one bank per domain.
        smallest: a domain with fewer clips has no statistics of its own: it joins the others in one bank (logged).
    """
    everything = np.arange(len(domains))
    if mode == GLOBAL:
        return [everything]
    if mode != DOMAIN:
        raise WheeltapperError(f"bank: expected {DOMAIN} or {GLOBAL}, found {mode!r}")
    names, counts = np.unique(domains, return_counts=True)
    if counts.min() < smallest:
        few = names[counts.argmin()] or "unknown"
        log.warning("%d references of domain %s: fewer than %d, one bank for all", counts.min(), few, smallest)
        return [everything]
    return [np.flatnonzero(domains == name) for name in names]
