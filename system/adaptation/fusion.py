"""Dual-channel gated fusion of near and far tokens (Wang and Liu 2026, section 3.4)."""

import torch
from torch import Tensor, nn


class GatedFusion(nn.Module):
    """h = alpha h_near + (1 - alpha) h_far with alpha = sigmoid(W [h_near; h_far] + b), one weight per token.

    Args:
        dim: dimension D of the tokens.
        bias: initial b; 1.0 gives the near channel an initial weight of 73 %.
    """

    def __init__(self, dim: int, bias: float = 1.0):
        super().__init__()
        self.gate = nn.Linear(2 * dim, 1)
        nn.init.normal_(self.gate.weight, std=0.02)
        nn.init.constant_(self.gate.bias, bias)

    def forward(self, near: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
        """Fuses near and far tokens (..., D) to tokens (..., D); also returns the weights of the near channel (...).

        Two equal inputs are returned unchanged.
        """
        alpha = torch.sigmoid(self.gate(torch.cat([near, far], dim=-1)))
        return far + alpha * (near - far), alpha.squeeze(-1)
