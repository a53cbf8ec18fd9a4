"""Classification heads that shape the embedding of normal clips during adaptation."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ArcFace(nn.Module):
    """Additive angular margin softmax (Deng et al., 2019; Wang and Liu 2026, section 3.5).

    The logit of the true class is s cos(theta + m), of the others s cos(theta), theta the angle between the embedding
    and the class weight. Where theta + m would pass pi, s (cos(theta) - m sin(m)) keeps the logit falling.

    Args:
        dim: of the embedding. classes: number of them. scale: s. margin: m in radians.
    """

    def __init__(self, dim: int, classes: int, scale: float = 30.0, margin: float = 0.5):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, dim))
        nn.init.xavier_uniform_(self.weight)
        self.scale, self.margin = scale, margin

    def logits(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """embedding (B, dim), labels (B,) class numbers, to (B, classes)."""
        cosine = F.linear(F.normalize(embedding), F.normalize(self.weight)).clamp(-1.0, 1.0)
        sine = (1.0 - cosine.square()).clamp_min(1e-9).sqrt()
        shifted = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        past_pi = cosine <= -math.cos(self.margin)
        shifted = torch.where(past_pi, cosine - self.margin * math.sin(self.margin), shifted)
        true_class = F.one_hot(labels, len(self.weight)).bool()
        return self.scale * torch.where(true_class, shifted, cosine)

    def forward(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each clip (B,); clips with label -1 have no class and cost nothing."""
        known = labels >= 0
        losses = F.cross_entropy(self.logits(embedding, labels.clamp_min(0)), labels.clamp_min(0), reduction="none")
        return torch.where(known, losses, losses.new_zeros(()))
