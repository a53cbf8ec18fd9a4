"""Local density normalisation: a distance counts in units of how far apart the references lie there."""

import numpy as np

from system.errors import WheeltapperError
from system.scoring.memory import Memory, MemoryScorer

SMALLEST_DENSITY = 1e-3  # of the median one
ROUNDING = 1e-12  # of cosine distances


class LdnMemory(Memory):
    """Distances d(x, y_j) / c_j, c_j the mean distance of row j to its neighbours; the floor of c_j keeps references
    that are there several times (c_j = 0) finite: only their own twins are near them."""

    def fit_band(self, distance: np.ndarray, density: np.ndarray) -> float:
        return max(SMALLEST_DENSITY * float(np.median(density)), ROUNDING)

    def rescale(self, distance: np.ndarray, density: np.ndarray, floor: float) -> np.ndarray:
        return distance / np.maximum(density, floor)


class LdnScorer(MemoryScorer):
    """s(x) = min_j d(x, y_j) / c_j over the references of both domains. The few target clips lie further apart than the
    many source clips, so that the division brings the domains to one scale.

    Args:
        neighbours: r that c_j is taken over. Where a reference is left out, the c_j are those without it.
        bands: each band for itself, and the mean over bands; else bands side by side as one vector.
        settings: of MemoryScorer.
    """

    memory = LdnMemory

    def __init__(self, neighbours: int = 4, bands: bool = False, **settings):
        super().__init__(**settings)
        if neighbours < 1:
            raise WheeltapperError(f"neighbours: expected at least 1, found {neighbours}")
        self.bands = bands
        self.set_density(neighbours)
