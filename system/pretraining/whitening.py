"""Whitened targets, in which all channels or directions have equal variance. Our method."""

import torch
from torch import Tensor, nn

DECAY = 0.9  # of the statistics, per step; because the teacher changes, a longer memory would lag behind
RIDGE = 1e-4  # added to the variance of each code
EPS = 1e-6  # variance added as well, so that collapsed directions are not amplified


class Whitening(nn.Module):
    """Centres vectors and multiplies them by an inverse root of their covariance over the corpus, separately for each
    place.

    Without it, the common mean and the few directions of large variance (in spectra: the level) would dominate the
    squared error. If a code comes with each vector, the part that a linear regression predicts from the codes is
    removed as well. The root is that of Cholesky, which changes as slowly as the covariance. The statistics of a step
    are used from the next step on, so that they do not depend on the partition of a batch.

    Args:
        dim: dimension D of the vectors.
        floor: this share of the mean variance is added to the variance of each direction, so that the weakest, which
            are noise, stay weak.
        places: number of places with statistics of their own.
        codes: dimension C of the codes, 0 for none.
        diagonal: divide each channel by its standard deviation, without regard to correlations.
    """

    moments: Tensor

    def __init__(self, dim: int, floor: float, places: int = 1, codes: int = 0, diagonal: bool = False):
        super().__init__()
        self.floor, self.codes, self.diagonal = floor, codes, diagonal
        # Decayed sums of the outer products of (1, code, vector), and those of this step.
        size = 1 + codes + dim
        self.register_buffer("moments", torch.zeros(places, size, size, dtype=torch.float64))
        self.step_moments = torch.zeros_like(self.moments)

    def _apply(self, fn, recurse: bool = True):
        if fn(torch.zeros(0)).device.type == "mps":  # which has no doubles
            self.moments = self.moments.float()
        return super()._apply(fn, recurse)

    @torch.no_grad()
    def forward(self, vectors: Tensor, codes: Tensor | None = None) -> Tensor:
        """Whitens vectors (N, places, D) with codes (N, places, C); in the first step they are returned unchanged."""
        parts = (
            [torch.ones_like(vectors[..., :1]), vectors]
            if codes is None
            else [torch.ones_like(vectors[..., :1]), codes, vectors]
        )
        joint = torch.cat(parts, -1).to(self.moments.dtype).transpose(0, 1)
        self.step_moments = self.step_moments.to(self.moments)
        self.step_moments += joint.mT @ joint
        # Whether there are statistics yet is asked where they are, so that the host need not wait for the device.
        begun = self.moments[:1, :1, :1] > 0
        same = torch.eye(self.moments.shape[1], dtype=self.moments.dtype).to(self.moments.device)
        moments = torch.where(begun, self.moments / self.moments[:, :1, :1], same)
        mean = moments[:, :1, 1:]
        covariance = moments[:, 1:, 1:] - mean.mT @ mean
        of_codes, shared = covariance[:, : self.codes, : self.codes], covariance[:, : self.codes, self.codes :]
        slopes, _ = torch.linalg.solve_ex(of_codes + RIDGE * torch.eye(self.codes).to(shared), shared)
        own = covariance[:, self.codes :, self.codes :] - shared.mT @ slopes
        if self.diagonal:
            own = torch.diag_embed(own.diagonal(dim1=1, dim2=2))
        variance = own.diagonal(dim1=1, dim2=2).mean(1)
        added = (self.floor * variance + EPS)[:, None, None] * torch.eye(own.shape[1]).to(own)
        centred = joint[..., 1:] - mean
        rest = centred[..., self.codes :] - centred[..., : self.codes] @ slopes
        root, failed = torch.linalg.cholesky_ex(own + added)
        white = torch.linalg.solve_triangular(root, rest.mT, upper=False).mT
        # A matrix that has no root makes the loss of this step infinite, which stops the training.
        white = white.masked_fill((failed > 0)[:, None, None], torch.inf)
        return torch.where(begun, white.transpose(0, 1).to(vectors.dtype), vectors)

    @torch.no_grad()
    def update(self) -> None:
        """Adds the vectors of this step, of all processes, to the statistics."""
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(self.step_moments)
        self.moments.mul_(DECAY).add_(self.step_moments)
        self.step_moments.zero_()
