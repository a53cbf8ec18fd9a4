"""Classification heads that shape the embedding of normal clips during adaptation.

| kind | logit of a class | scale |
|---|---|---|
| arcface | cosine to its nearest centre, with a margin for the true class | a setting |
| adacos | log-sum-exp of scaled cosines to its sub-centres | from the number of centres, or adaptive |
| adaproj | cosine to the sub-space spanned by its sub-centres | from the number of classes, or adaptive |
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system.accelerator import without_autocast
from system.config import HeadConfig

SMALLEST_SCALE = 0.5  # the scale of two classes of one centre each would be zero: log(2 - 1)
MIN_SQUARED_LENGTH = 1e-12  # keeps the gradient of a projection's length finite at zero


class Head(nn.Module):
    """Base class of the heads: class centres and the loss of each clip.

    Args:
        dim: dimension of the embedding.
        classes: number of classes.
        subclusters: number of centres per class.
        trainable_centres: train the centres; otherwise they stay random directions and only the embedding is trained.
    """

    def __init__(self, dim: int, classes: int, subclusters: int = 1, trainable_centres: bool = True):
        super().__init__()
        self.classes, self.subclusters = classes, subclusters
        self.weight = nn.Parameter(torch.empty(classes * subclusters, dim), requires_grad=trainable_centres)
        nn.init.xavier_uniform_(self.weight)

    def cosine(self, embedding: Tensor) -> Tensor:
        """Cosines (B, classes, subclusters) between embeddings (B, dim), normalised here, and all centres."""
        cosine = F.linear(F.normalize(embedding), F.normalize(self.weight)).clamp(-1.0, 1.0)
        return cosine.unflatten(1, (self.classes, -1))

    def logits(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Logits (B, classes) of embeddings (B, dim) whose true classes are ``labels`` (B,)."""
        raise NotImplementedError

    def adapt_scale(self, embedding: Tensor, labels: Tensor, others: Tensor, share: Tensor) -> None:
        """Updates an adaptive scale before the training step on a batch. Heads with a fixed scale do nothing.

        Args:
            embedding: (B, dim).
            labels: class of each clip, (B,), -1 for none.
            others: class of the clip mixed into it, (B,), -1 for none.
            share: share of the clip itself in the mixture, (B,), 0 to 1.
        """

    @without_autocast
    def forward(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each clip (B,), in float32; 0 for clips without a class (label -1)."""
        embedding = embedding.float()
        known = labels >= 0
        losses = F.cross_entropy(self.logits(embedding, labels.clamp_min(0)), labels.clamp_min(0), reduction="none")
        return torch.where(known, losses, losses.new_zeros(()))


class ArcFace(Head):
    """Additive angular margin softmax (Deng et al. 2019; Wang and Liu 2026, section 3.5).

    The logit of the true class is s cos(theta + m), of the other classes s cos(theta), where theta is the angle between
    the embedding and the nearest centre of the class (several centres: sub-center ArcFace, Deng et al. 2020). For
    theta + m > pi the logit s (cos(theta) - m sin(m)) is used, which keeps decreasing.

    Args:
        dim: dimension of the embedding.
        classes: number of classes.
        scale: s.
        margin: m in radians.
        subclusters: number of centres per class.
        trainable_centres: see ``Head``.
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        scale: float = 30.0,
        margin: float = 0.5,
        subclusters: int = 1,
        trainable_centres: bool = True,
    ):
        super().__init__(dim, classes, subclusters, trainable_centres)
        self.scale, self.margin = scale, margin

    def logits(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Logits (B, classes) of embeddings (B, dim) whose true classes are ``labels`` (B,)."""
        cosine = self.cosine(embedding).amax(2)
        sine = (1.0 - cosine.square()).clamp_min(1e-9).sqrt()
        shifted = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        past_pi = cosine <= -math.cos(self.margin)
        shifted = torch.where(past_pi, cosine - self.margin * math.sin(self.margin), shifted)
        true_class = F.one_hot(labels, self.classes).bool()
        return self.scale * torch.where(true_class, shifted, cosine)


class AdaCos(Head):
    """Sub-cluster AdaCos (Wilkinghoff 2021), an extension of AdaCos (Zhang et al. 2019).

    A softmax over all sub-centres; the probability of a class is the sum over its sub-centres. There is no margin: the
    scale takes its role. The initial scale is sqrt(2) log(C - 1) with C centres in all (Zhang et al. 2019).

    An adaptive scale is set before each step to log(B) / cos(min(pi / 4, theta)). B is the sum of exp(s cos) over the
    centres of the other classes, averaged over the clips; theta is the median angle between a clip and the nearest
    sub-centre of its class. (Public programs sum over all centres, which lets the scale grow without bound for clips
    that are not mixed.) For a mixed clip the angles to both classes are weighted by their shares.

    Args:
        dim: dimension of the embedding.
        classes: number of classes.
        subclusters: number of sub-centres per class; 16 in Wilkinghoff 2021.
        trainable_centres: train the sub-centres, as Wilkinghoff 2021; later programs keep them fixed.
        adaptive_scale: adapt the scale in training; otherwise it keeps its initial value.
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        subclusters: int = 1,
        trainable_centres: bool = True,
        adaptive_scale: bool = False,
    ):
        super().__init__(dim, classes, subclusters, trainable_centres)
        self.adaptive_scale = adaptive_scale
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor(self.first_scale()))

    def first_scale(self) -> float:
        return fixed_scale(self.classes * self.subclusters)

    def logits(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Log-probability of each class (B, classes) of embeddings (B, dim), up to a constant."""
        return (self.scale * self.cosine(embedding)).logsumexp(2)

    @torch.no_grad()
    @without_autocast
    def adapt_scale(self, embedding: Tensor, labels: Tensor, others: Tensor, share: Tensor) -> None:
        if not self.adaptive_scale:
            return
        # Clips without a class are masked, not left out: the host need not wait for the device to count them.
        known = labels >= 0
        labels = labels.clamp_min(0)
        others = torch.where(others >= 0, others, labels)
        cosine = self.cosine(embedding.float())
        own = F.one_hot(labels, self.classes) + F.one_hot(others, self.classes) > 0
        rest = (self.scale * cosine).logsumexp(2).masked_fill(own | ~known[:, None], -math.inf)
        mean = rest.flatten().logsumexp(0) - known.sum().log()  # log B
        angle, row = torch.arccos(cosine.amax(2)), torch.arange(len(cosine), device=cosine.device)
        angle = share * angle[row, labels] + (1.0 - share) * angle[row, others]
        median = angle.masked_fill(~known, math.nan).nanquantile(0.5)
        scale = (mean / median.clamp_max(math.pi / 4).cos()).clamp_min(SMALLEST_SCALE)
        # The mean is not finite where there is no other class, or no clip with one.
        self.scale.copy_(torch.where(torch.isfinite(mean) & known.any(), scale, self.scale))


class AdaProj(AdaCos):
    """AdaProj (Wilkinghoff 2024): classes are sub-spaces spanned by their sub-centres.

    A softmax of the scaled cosines between an embedding and its projection onto the span of each class's sub-centres.
    The cosine is the length of the projection of the normalised embedding. Sub-centres are orthonormalised, as the
    paper's formula of the projection requires. The scale is that of AdaCos with one centre per class. A random
    embedding has the cosine sqrt(subclusters / dim) to every class, so an adaptive scale converges only with fewer
    sub-centres than half the dimensions.

    Args:
        dim: dimension of the embedding.
        classes: number of classes.
        subclusters: dimensions of each sub-space; fewer than ``dim``.
        trainable_centres: see ``Head``.
        adaptive_scale: see ``AdaCos``.

    Raises:
        ValueError: ``subclusters`` is not below ``dim``, so that every embedding lies in every sub-space.
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        subclusters: int = 1,
        trainable_centres: bool = True,
        adaptive_scale: bool = False,
    ):
        if subclusters >= dim:
            raise ValueError(f"expected fewer than {dim} sub-centres, found {subclusters}")
        super().__init__(dim, classes, subclusters, trainable_centres, adaptive_scale)
        with torch.no_grad():
            self.weight.copy_(orthonormal(self.weight.unflatten(0, (classes, -1))).flatten(0, 1))

    def first_scale(self) -> float:
        return fixed_scale(self.classes)

    def cosine(self, embedding: Tensor) -> Tensor:
        """Lengths (B, classes, 1) of the projections of normalised embeddings (B, dim) onto each class's sub-space."""
        basis = self.weight.unflatten(0, (self.classes, -1))
        if self.weight.requires_grad:
            basis = orthonormal(basis)  # fixed centres have stayed orthonormal
        parts = F.linear(F.normalize(embedding), basis.flatten(0, 1)).unflatten(1, (self.classes, -1))
        return parts.square().sum(2, keepdim=True).clamp(MIN_SQUARED_LENGTH, 1.0).sqrt()


def fixed_scale(centres: int) -> float:
    """sqrt(2) log(centres - 1), at least SMALLEST_SCALE (Zhang et al. 2019)."""
    return max(math.sqrt(2.0) * math.log(max(centres - 1, 1)), SMALLEST_SCALE)


def orthonormal(vectors: Tensor) -> Tensor:
    """An orthonormal basis (classes, n, dim) of the span of each class's vectors (classes, n, dim)."""
    return torch.linalg.qr(vectors.float().mT).Q.mT


def build_head(config: HeadConfig, dim: int, classes: int) -> Head:
    """Builds the head that the settings of a branch select, for ``classes`` classes."""
    subclusters, trainable = config.subclusters, config.trainable_centres
    if config.kind == "arcface":
        return ArcFace(dim, classes, config.scale, config.margin, subclusters, trainable)
    kind = AdaCos if config.kind == "adacos" else AdaProj
    return kind(dim, classes, subclusters, trainable, config.adaptive_scale)
