"""Cosine distance to the nearest normal references (Wang and Liu 2026, section 4.2)."""

from system.scoring.banks import GLOBAL
from system.scoring.memory import MemoryScorer
from system.scoring.settings import BankMode, NearestAveraged, Standardize


class KnnScorer(MemoryScorer):
    """s(x) = mean cosine distance to the k nearest references, in the nearest bank. Bands are concatenated.

    Args:
        k: number of nearest references.
        bank: see BankScorer.
        standardize: see BankScorer.
        **settings: other arguments of MemoryScorer.
    """

    def __init__(self, k: NearestAveraged = 3, bank: BankMode = GLOBAL, standardize: Standardize = False, **settings):
        super().__init__(k, bank, standardize, **settings)
