"""One memory per frequency band (BEAM), with optional rescaling of distances by local density (VarMin)."""

import numpy as np

from system.scoring.memory import Memory, MemoryScorer
from system.scoring.settings import Bands, Varmin

SMALLEST_SPREAD = 1e-9  # of densities (cosine distances); anything below is rounding error


class VarMinMemory(Memory):
    """Memory with the distance min_i D(x, y_i) - alpha_f b_i; b_i is the mean distance of row i to its neighbours.

    alpha_f = Cov(d, b) / Var(b) over the references, where d is a reference's distance to the nearest other row in band
    f, and b that row's density. This choice minimises the variance of the rescaled distances. alpha_f is zero if all
    densities are equal. Scores may be negative.
    """

    def fit_band(self, distance: np.ndarray, density: np.ndarray) -> float:
        nearest = distance.argmin(axis=1)
        d, b = distance.min(axis=1), density[nearest]
        if b.std() <= SMALLEST_SPREAD:
            return 0.0
        return float(((d - d.mean()) * (b - b.mean())).mean() / b.var())

    def rescale(self, distance: np.ndarray, density: np.ndarray, alpha: float) -> np.ndarray:
        return distance - alpha * density


class BeamScorer(MemoryScorer):
    """s(x) = mean over bands f of the mean of the k smallest 0.5 (1 - cos(x_f, y_if)).

    Each band chooses its own neighbours. Rows are (N, bands, D); (N, D) is one band.

    Args:
        varmin: number of neighbours K for a reference's density, see VarMinMemory; 0 for plain distances. When a
            reference is left out, densities are computed without it, but alpha is kept from all references.
        bands: if false, bands are concatenated as in KnnScorer: VarMin for plain nearest neighbours.
        **settings: arguments of MemoryScorer.
    """

    factor = 0.5

    def __init__(self, varmin: Varmin = 0, bands: Bands = True, **settings):
        super().__init__(**settings)
        self.bands = bands
        if varmin:
            self.memory = VarMinMemory
            self.set_density(varmin)
