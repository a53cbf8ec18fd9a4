"""Linear layers at inference: equal to products in double precision, in every way in which they are called."""

import pytest
import torch
from torch import nn

from system.encoders.cost import multiply_adds
from system.encoders.linear import Linear, linear_gelu


@pytest.mark.parametrize("shape", [(1, 3), (5, 3), (2, 4, 3), (0, 3), (3,)])
@pytest.mark.parametrize("strided", [False, True])
def test_equals_double_precision(shape, strided):
    layer = Linear(3, 7)
    x = torch.randn(*shape[:-1], 6)[..., ::2] if strided else torch.randn(shape)
    exact = x.double() @ layer.weight.double().T + layer.bias.double()
    gelu = exact * 0.5 * (1.0 + torch.erf(exact / 2.0**0.5))
    with torch.inference_mode():
        torch.testing.assert_close(layer(x).double(), exact, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(linear_gelu(layer, x).double(), gelu, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(linear_gelu(nn.Sequential(layer), x).double(), gelu, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layer(x).double(), exact, rtol=1e-5, atol=1e-6)


def test_gradients_and_autocast_stay_torchs():
    layer, x = Linear(3, 7), torch.randn(5, 3)
    (gradient,) = torch.autograd.grad(linear_gelu(layer, x).sum(), layer.weight)
    plain = nn.functional.gelu(nn.functional.linear(x, layer.weight, layer.bias)).sum()
    torch.testing.assert_close(gradient, torch.autograd.grad(plain, layer.weight)[0])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16


def test_cost_counts_the_products():
    layer = Linear(3, 7)
    assert multiply_adds(layer, torch.randn(2, 5, 3)) == 2 * 5 * 3 * 7
    assert multiply_adds(lambda x: linear_gelu(layer, x), torch.randn(5, 3)) == 5 * 3 * 7
