"""Classification heads that shape the embedding of normal clips during adaptation.

| kind | logit of a class | scale |
|---|---|---|
| arcface | cosine to its nearest centre, with a margin at the true class | a setting |
| adacos | log-sum-exp of scaled cosines to its sub-centres | from the number of centres, or adaptive |
| adaproj | cosine to the sub-space of its sub-centres | from the number of classes, or adaptive |
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system.config import HeadConfig

SMALLEST_SCALE = 0.5  # two classes of one centre each would have none: log(2 - 1) = 0
FLAT = 1e-12  # squared length at which a projection has no direction to learn from


class Head(nn.Module):
    """What the heads share: ``subclusters`` centres a class, and the loss of each clip.

    Args:
        dim: of the embedding. classes: number of them. subclusters: centres of each. trainable_centres: whether they
            move; otherwise they stay random directions, and the embedding alone learns.
    """

    def __init__(self, dim: int, classes: int, subclusters: int = 1, trainable_centres: bool = True):
        super().__init__()
        self.classes, self.subclusters = classes, subclusters
        self.weight = nn.Parameter(torch.empty(classes * subclusters, dim), requires_grad=trainable_centres)
        nn.init.xavier_uniform_(self.weight)

    def cosine(self, embedding: Tensor) -> Tensor:
        """Cosines (B, classes, subclusters) of embeddings (B, dim) of any length to all centres."""
        cosine = F.linear(F.normalize(embedding), F.normalize(self.weight)).clamp(-1.0, 1.0)
        return cosine.unflatten(1, (self.classes, -1))

    def logits(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """embedding (B, dim), labels (B,) class numbers, to (B, classes)."""
        raise NotImplementedError

    def adapt_scale(self, embedding: Tensor, labels: Tensor, others: Tensor, share: Tensor) -> None:
        """Fits the scale, where it is adaptive, to a batch that is about to be learnt from.

        Args:
            embedding: (B, dim). labels, others: (B,) classes of each clip and of what is mixed into it, -1 for none.
            share: (B,) of the clip itself in the mixture, from 0 to 1.
        """

    def forward(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each clip (B,); clips with label -1 have no class and cost nothing."""
        known = labels >= 0
        losses = F.cross_entropy(self.logits(embedding, labels.clamp_min(0)), labels.clamp_min(0), reduction="none")
        return torch.where(known, losses, losses.new_zeros(()))


class ArcFace(Head):
    """Additive angular margin softmax (Deng et al. 2019; Wang and Liu 2026, section 3.5), with several centres a class
    the nearest of them (sub-center ArcFace, Deng et al. 2020).

    The logit of the true class is s cos(theta + m), of the others s cos(theta), theta the angle between the embedding
    and the class's nearest centre. Where theta + m would pass pi, s (cos(theta) - m sin(m)) keeps the logit falling.

    Args:
        dim, classes, subclusters, trainable_centres: as for ``Head``. scale: s. margin: m in radians.
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
        """embedding (B, dim), labels (B,) class numbers, to (B, classes)."""
        cosine = self.cosine(embedding).amax(2)
        sine = (1.0 - cosine.square()).clamp_min(1e-9).sqrt()
        shifted = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        past_pi = cosine <= -math.cos(self.margin)
        shifted = torch.where(past_pi, cosine - self.margin * math.sin(self.margin), shifted)
        true_class = F.one_hot(labels, self.classes).bool()
        return self.scale * torch.where(true_class, shifted, cosine)


class AdaCos(Head):
    """Sub-cluster AdaCos (Wilkinghoff 2021) on AdaCos (Zhang et al. 2019): softmax over all sub-centres, whose
    probabilities add up to those of the classes. There is no margin; the scale stands in for it.

    Its start is sqrt(2) log(C - 1) with C centres in all (Zhang et al. 2019). An adaptive one is set before each step
    to log(B) / cos(min(pi / 4, theta)): B the sum over the centres of other classes of exp(s cos), mean over the
    clips, and theta the median angle of a clip to its class, here to the nearest of its sub-centres. (Sums over all
    centres, as public programs take them, let the scale grow without bound where clips are not mixed.) A mixed clip
    has two classes, whose angles count by their shares.

    Args:
        dim, classes, subclusters, trainable_centres: as for ``Head``. Wilkinghoff 2021 learns 16 sub-centres, later
            programs leave them where they are. adaptive_scale: rather than the start throughout.
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
        """embedding (B, dim) to (B, classes): the log of each class's summed probability, up to a constant."""
        return (self.scale * self.cosine(embedding)).logsumexp(2)

    @torch.no_grad()
    def adapt_scale(self, embedding: Tensor, labels: Tensor, others: Tensor, share: Tensor) -> None:
        known = labels >= 0
        if not self.adaptive_scale or not known.any():
            return
        cosine, labels, share = self.cosine(embedding[known]).float(), labels[known], share[known]
        others = torch.where(others[known] >= 0, others[known], labels)
        own = F.one_hot(labels, self.classes) + F.one_hot(others, self.classes) > 0
        rest = (self.scale * cosine).logsumexp(2).masked_fill(own, -math.inf)
        mean = rest.flatten().logsumexp(0) - math.log(len(rest))  # log B
        if not torch.isfinite(mean):
            return  # no other class to tell a clip from
        angle, row = torch.arccos(cosine.amax(2)), torch.arange(len(cosine), device=cosine.device)
        angle = share * angle[row, labels] + (1.0 - share) * angle[row, others]
        scale = mean / angle.quantile(0.5).clamp_max(math.pi / 4).cos()
        self.scale.copy_(scale.clamp_min(SMALLEST_SCALE))


class AdaProj(AdaCos):
    """AdaProj (Wilkinghoff 2024): softmax of the scaled cosines between an embedding and its projection onto the span
    of each class's sub-centres, so that a class may fill a sub-space rather than gather around its centres.

    The cosine is the length of the unit embedding's projection. Sub-centres are brought to right angles first, which
    the paper's formula of a projection asks for. The scale is that of AdaCos, of as many centres as there are classes.
    Random embeddings have a cosine of sqrt(subclusters / dim) to every class: an adaptive scale needs fewer sub-centres
    than half the dimensions to settle.

    Args:
        as for ``AdaCos``. Raises ValueError unless ``subclusters`` is below ``dim``: all else lies in every span.
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
        """Lengths (B, classes, 1) of the projections of embeddings (B, dim), brought to length 1, onto each span."""
        basis = self.weight.unflatten(0, (self.classes, -1))
        if self.weight.requires_grad:
            basis = orthonormal(basis)  # they were so at the start, and fixed ones still are
        parts = F.linear(F.normalize(embedding), basis.flatten(0, 1)).unflatten(1, (self.classes, -1))
        return parts.square().sum(2, keepdim=True).clamp(FLAT, 1.0).sqrt()


def fixed_scale(centres: int) -> float:
    """sqrt(2) log(centres - 1), at least SMALLEST_SCALE (Zhang et al. 2019)."""
    return max(math.sqrt(2.0) * math.log(max(centres - 1, 1)), SMALLEST_SCALE)


def orthonormal(vectors: Tensor) -> Tensor:
    """Rows (classes, n, dim) to orthonormal ones of the same span, class by class."""
    return torch.linalg.qr(vectors.float().mT).Q.mT


def build_head(config: HeadConfig, dim: int, classes: int) -> Head:
    """The head that a branch's settings name, for one task of ``classes`` classes."""
    subclusters, trainable = config.subclusters, config.trainable_centres
    if config.kind == "arcface":
        return ArcFace(dim, classes, config.scale, config.margin, subclusters, trainable)
    kind = AdaCos if config.kind == "adacos" else AdaProj
    return kind(dim, classes, subclusters, trainable, config.adaptive_scale)
