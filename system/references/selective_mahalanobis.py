"""The selective Mahalanobis score of the official baseline (DCASE 2023-2026).

A vector of five frames of residuals counts as five rows of bands. Over batches of the training vectors, drawn anew with
the finished network, the rows of each domain less their mean in the batch add up to a scatter matrix, which is divided
by the domain's number of vectors less one, as the official program has it: five times what an estimate by rows would
be, in both domains alike. Without target clips the source's covariance stands for both. A clip's score is
``m^T S^-1 m`` with ``m`` the mean of its rows, not centred, and the smaller value over source and target.

The official program inverts S in single precision, which stops at a singular matrix and returns rounding near one. Here
the factor of Cholesky in double precision is solved with, and a matrix that has none gets RIDGE of its mean variance on
the diagonal.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

RIDGE = 1e-10
DOMAINS = 2  # source, target


class SelectiveMahalanobis:
    """Squared Mahalanobis distances by two covariances.

    Args:
        covariances: float64 (2, bands, bands), of source and target.
    """

    def __init__(self, covariances: Tensor):
        self.covariances = covariances
        self._factors = torch.stack([_factor(covariance) for covariance in covariances])

    def distances(self, means: Tensor) -> np.ndarray:
        """Mean residuals float64 (N, bands) to distances (N, 2)."""
        columns = means.double().t()
        solved = [torch.linalg.solve_triangular(factor, columns, upper=False) for factor in self._factors]
        return torch.stack([part.square().sum(0) for part in solved], 1).numpy()


def covariances(batches: Iterable[tuple[Tensor, Tensor]], bands: int) -> Tensor:
    """Covariances float64 (2, bands, bands) of source and target from batches of residuals.

    Args:
        batches: residuals (B, frames * bands) and whether each vector is of the target domain, bool (B,).
    """
    scatters = torch.zeros(DOMAINS, bands, bands, dtype=torch.float64)
    counts = [0] * DOMAINS
    for found, is_target in batches:
        residuals = found.cpu()  # doubles are slow on most accelerators, and not there on some
        for domain, chosen in enumerate((~is_target, is_target)):
            count = int(chosen.sum())
            if count:
                rows = residuals[chosen].view(-1, bands).double()
                rows = rows - rows.mean(0)
                scatters[domain] += rows.t() @ rows
                counts[domain] += count
    own = [scatters[domain] / max(count - 1, 1) for domain, count in enumerate(counts) if count]
    return torch.stack([own[0], own[-1]])


def _factor(covariance: Tensor) -> Tensor:
    """Lower factor of Cholesky, of the matrix itself where it has one."""
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if not failed:
        return factor
    scale = max(float(covariance.diagonal().mean()), np.finfo(float).tiny ** 0.5)
    ridge = RIDGE * scale * torch.eye(len(covariance), dtype=covariance.dtype)
    return torch.linalg.cholesky(covariance + ridge)
