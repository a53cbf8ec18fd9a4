"""Gated fusion against plain NumPy."""

import numpy as np
import pytest
import torch

from system.adaptation.fusion import GatedFusion


def channels(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 4, 8, generator=generator), torch.randn(2, 3, 4, 8, generator=generator)


def test_formula():
    torch.manual_seed(0)
    fusion = GatedFusion(8, bias=0.4)
    near, far = channels()
    fused, weights = fusion(near, far)
    n, f = near.double().numpy(), far.double().numpy()
    logits = np.concatenate([n, f], axis=-1) @ fusion.gate.weight[0].detach().double().numpy() + 0.4
    alpha = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(weights.detach().numpy(), alpha, rtol=1e-5)
    expected = alpha[..., None] * n + (1 - alpha[..., None]) * f
    np.testing.assert_allclose(fused.detach().numpy(), expected, rtol=1e-4, atol=1e-6)


def test_the_near_channel_is_favoured_at_the_start():
    fusion = GatedFusion(8)
    assert fusion.gate.bias.item() == 1.0
    torch.nn.init.zeros_(fusion.gate.weight)
    _, weights = fusion(*channels())
    assert weights.detach().numpy() == pytest.approx(1 / (1 + np.exp(-1.0)), rel=1e-6)


def test_equal_channels_pass_unchanged():
    near, _ = channels()
    fused, _ = GatedFusion(8)(near, near)
    assert torch.equal(fused, near)


@pytest.mark.parametrize(("bias", "wins"), [(60.0, 0), (-60.0, 1)])
def test_an_open_or_closed_gate_passes_one_channel(bias, wins):
    pair = channels()
    fused, _ = GatedFusion(8, bias)(*pair)
    torch.testing.assert_close(fused, pair[wins], atol=1e-5, rtol=1e-5)
