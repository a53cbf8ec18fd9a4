"""One memory per frequency band (BEAM), its distances rescaled by local density where wanted (VarMin)."""

import numpy as np

from system.errors import WheeltapperError
from system.scoring.memory import Memory, MemoryScorer

SMALLEST_SPREAD = 1e-9  # of densities, which are cosine distances: what is below is rounding


class VarMinMemory(Memory):
    """Distances D(x, y_i) - alpha_f b_i, the nearest counting; b_i is the mean distance of row i to its neighbours.

    alpha_f = Cov(d, b) / Var(b) over the references, d their distance to the nearest other row in band f and b that
    row's density: what is left of the distances then depends least on how dense the references lie. Zero where the
    densities are all alike. It may make scores negative.
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
    """s(x) = mean over bands f of the mean of the k smallest 0.5 (1 - cos(x_f, y_if)): each band chooses its own
    neighbours. Rows (N, bands, D); (N, D) are one band.

    Args:
        varmin: neighbours K that a reference's density is taken over, see VarMinMemory; 0 for plain distances. Where a
            reference is left out, the densities are those without it and alpha stays: one number from all references.
        bands: false puts the bands side by side, as knn does: VarMin for plain nearest neighbours.
        settings: of MemoryScorer.
    """

    factor = 0.5

    def __init__(self, varmin: int = 0, bands: bool = True, **settings):
        super().__init__(**settings)
        if varmin < 0:
            raise WheeltapperError(f"varmin: expected 0 or a number of neighbours, found {varmin}")
        self.bands = bands
        if varmin:
            self.memory = VarMinMemory
            self.set_density(varmin)
