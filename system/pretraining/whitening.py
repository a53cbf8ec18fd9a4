"""Targets whose channels, or directions, weigh alike. Ours."""

import torch
from torch import Tensor, nn

DECAY = 0.9  # of the statistics, per step: the teacher moves, a longer memory lags behind
RIDGE = 1e-4  # added to the variance of each code
EPS = 1e-6  # variance that is added as well, so that what has collapsed is not blown up


class Whitening(nn.Module):
    """Vectors less their mean over the corpus, over a root of their covariance, at each of several places apart.

    What all vectors have in common, and the few directions of large variance (in spectra: the level), would else be
    most of what a squared error sees. Where a code comes with each vector, what a linear regression on the codes tells
    is taken away too.

    ``floor`` of the mean variance is added to that of each direction, so that the weakest, which are noise, stay weak.
    With ``diagonal`` each channel is divided by its own deviation, whatever it has in common with others.
    The root is that of Cholesky, which changes as slowly as the covariance does. The statistics of a step count from
    the next one on, so that they are the same however a batch is split.
    """

    moments: Tensor

    def __init__(self, dim: int, floor: float, places: int = 1, codes: int = 0, diagonal: bool = False):
        super().__init__()
        self.floor, self.codes, self.diagonal = floor, codes, diagonal
        # Decayed sums of the products of (1, code, vector) with themselves; and what this step adds to them.
        size = 1 + codes + dim
        self.register_buffer("moments", torch.zeros(places, size, size, dtype=torch.float64))
        self.step_moments = torch.zeros_like(self.moments)

    @torch.no_grad()
    def forward(self, vectors: Tensor, codes: Tensor | None = None) -> Tensor:
        """Vectors (N, places, D), and codes (N, places, C), to (N, places, D); in the first step, as they are."""
        parts = (
            [torch.ones_like(vectors[..., :1]), vectors]
            if codes is None
            else [torch.ones_like(vectors[..., :1]), codes, vectors]
        )
        joint = torch.cat(parts, -1).double().transpose(0, 1)
        self.step_moments = self.step_moments.to(vectors.device)
        self.step_moments += joint.mT @ joint
        if not self.moments[0, 0, 0]:
            return vectors
        moments = self.moments / self.moments[:, :1, :1]
        mean = moments[:, :1, 1:]
        covariance = moments[:, 1:, 1:] - mean.mT @ mean
        of_codes, shared = covariance[:, : self.codes, : self.codes], covariance[:, : self.codes, self.codes :]
        slopes = torch.linalg.solve(of_codes + RIDGE * torch.eye(self.codes).to(shared), shared)
        own = covariance[:, self.codes :, self.codes :] - shared.mT @ slopes
        if self.diagonal:
            own = torch.diag_embed(own.diagonal(dim1=1, dim2=2))
        variance = own.diagonal(dim1=1, dim2=2).mean(1)
        added = (self.floor * variance + EPS)[:, None, None] * torch.eye(own.shape[1]).to(own)
        centred = joint[..., 1:] - mean
        rest = centred[..., self.codes :] - centred[..., : self.codes] @ slopes
        root = torch.linalg.cholesky(own + added)
        return torch.linalg.solve_triangular(root, rest.mT, upper=False).mT.transpose(0, 1).to(vectors.dtype)

    @torch.no_grad()
    def update(self) -> None:
        """Adds this step's vectors, of all processes, to the statistics."""
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(self.step_moments)
        self.moments.mul_(DECAY).add_(self.step_moments)
        self.step_moments.zero_()
