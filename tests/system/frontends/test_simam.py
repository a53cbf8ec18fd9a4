"""SimAM against its formula in NumPy loops, including patches at the edges."""

import numpy as np
import pytest
import torch

from system.errors import WheeltapperError
from system.frontends.simam import enhance


def simam_by_loops(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """(T, F) in patches of height x width."""
    out = np.empty_like(x)
    for t in range(0, x.shape[0], height):
        for f in range(0, x.shape[1], width):
            patch = x[t : t + height, f : f + width]
            mean, n = patch.mean(), patch.size - 1
            variance = ((patch - mean) ** 2).sum() / n if n else 0.0
            for (i, j), value in np.ndenumerate(patch):
                energy = (value - mean) ** 2 / (4 * (variance + 1e-4)) + 0.5
                out[t + i, f + j] = value / (1 + np.exp(-energy))
    return out


def spectrogram(frames: int, bins: int, batch: int = 2, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, bins, generator=generator) * 0.5 - 0.2


@pytest.mark.parametrize(("frames", "bins"), [(64, 64), (32, 32), (70, 45), (33, 128), (31, 100), (5, 7), (1, 33)])
@pytest.mark.parametrize("kind", ["global", "local"])
def test_equals_the_formula_in_loops(kind, frames, bins):
    x = spectrogram(frames, bins)
    x[1] *= 3.0  # every recording has its own mean and variance
    height, width = (frames, bins) if kind == "global" else (32, 32)
    found = enhance(x, kind).numpy()
    for row in range(2):
        expected = simam_by_loops(x[row].double().numpy(), height, width)
        np.testing.assert_allclose(found[row], expected, atol=2e-6)


def test_what_stands_out_is_kept_and_the_rest_damped():
    x = 1.0 + 0.01 * spectrogram(64, 64, batch=1)
    x[0, 40, 50] = 3.0
    for kind in ("global", "local"):
        share = (enhance(x, kind) / x)[0]
        assert share[40, 50] > 0.999
        assert share.median() < 0.7
        assert share.min() >= 1 / (1 + np.exp(-0.5)) - 1e-6
    near = enhance(x, "local")[0, :32, :32]  # the loud value is in another patch
    torch.testing.assert_close(near, enhance(x[:, :32, :32], "global")[0])


@pytest.mark.parametrize("kind", ["global", "local"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 33), (1, 33, 1), (2, 40, 40)])
@pytest.mark.parametrize("value", [0.0, -3.0, 1e4])
def test_constants_and_single_values(kind, shape, value):
    found = enhance(torch.full(shape, value), kind)
    assert found.shape == shape
    np.testing.assert_allclose(found, value / (1 + np.exp(-0.5)), rtol=1e-5)


def test_none_changes_nothing():
    x = spectrogram(10, 12)
    assert enhance(x, "none") is x


@pytest.mark.parametrize("kind", ["global", "local"])
def test_the_input_is_left_as_it_was_and_gradients_flow(kind):
    x = spectrogram(40, 40, batch=1).double().requires_grad_()
    before = x.detach().clone()
    enhance(x, kind).square().sum().backward()
    assert torch.equal(x, before)
    step = torch.zeros_like(before)
    step[0, 35, 3] = 1e-5
    up, down = (enhance(before + sign * step, kind).square().sum() for sign in (1, -1))
    assert ((up - down) / 2e-5).item() == pytest.approx(x.grad[0, 35, 3].item(), rel=1e-4)


@pytest.mark.parametrize("kind", ["global", "local"])
def test_half_precision(kind):
    x = spectrogram(70, 40)
    found = enhance(x.bfloat16(), kind)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), enhance(x, kind), atol=0.03, rtol=0.03)


def test_unknown_kind():
    with pytest.raises(WheeltapperError, match="simam: expected one of none, global, local, found 'both'"):
        enhance(spectrogram(4, 4), "both")
