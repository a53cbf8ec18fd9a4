"""Local density normalisation: distances are divided by the local spacing of the references."""

import numpy as np

from system.scoring.memory import Memory, MemoryScorer
from system.scoring.settings import Bands, DensityNeighbours

SMALLEST_DENSITY = 1e-3  # as a fraction of the median density
ROUNDING = 1e-12  # rounding error of cosine distances


class LdnMemory(Memory):
    """Memory with the distance d(x, y_j) / c_j, where c_j is the mean distance of row j to its neighbours.

    c_j has a floor: for references that occur several times it would be zero.
    """

    def fit_band(self, distance: np.ndarray, density: np.ndarray) -> float:
        return max(SMALLEST_DENSITY * float(np.median(density)), ROUNDING)

    def rescale(self, distance: np.ndarray, density: np.ndarray, floor: float) -> np.ndarray:
        return distance / np.maximum(density, floor)


class LdnScorer(MemoryScorer):
    """s(x) = min_j d(x, y_j) / c_j over the references of both domains.

    The few target clips lie further apart than the many source clips; the division brings both domains to one scale.

    Args:
        neighbours: number r of neighbours that c_j is averaged over. When a reference is left out, all c_j are
            computed without it.
        bands: if true, scores are computed per band and averaged; otherwise bands are concatenated.
        **settings: arguments of MemoryScorer.
    """

    memory = LdnMemory

    def __init__(self, neighbours: DensityNeighbours = 4, bands: Bands = False, **settings):
        super().__init__(**settings)
        self.bands = bands
        self.set_density(neighbours)
