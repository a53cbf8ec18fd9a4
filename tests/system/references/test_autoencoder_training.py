"""The hand-written training steps against automatic differentiation and torch's own optimiser."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from system.references import dense


def plain(network: nn.Sequential, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    network.train()
    network.zero_grad()
    loss = nn.functional.mse_loss(network(x), x)
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in network.named_parameters()}


def by_name(network: nn.Sequential, steps: dense.Steps) -> dict[str, torch.Tensor]:
    flat = steps.parameters.grad
    sizes = [p.numel() for p in network.parameters()]
    parts = flat.split(sizes)
    return {name: part.view_as(p) for (name, p), part in zip(network.named_parameters(), parts, strict=True)}


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("sizes", [[20, 12, 12, 4, 12, 12, 20], [6, 3, 6]])
def test_gradients_are_those_of_automatic_differentiation(sizes, batch_norm):
    generator = torch.Generator().manual_seed(3)
    for rows in (2, 33):
        x = torch.randn(rows, sizes[0], generator=generator) * 5 - 20
        expected_loss, expected = plain(reference := dense.build(sizes, batch_norm, 7), x)
        network = dense.build(sizes, batch_norm, 7)
        steps = dense.Steps(network, 1e-3)
        assert float(steps.gradient(x)) == pytest.approx(float(expected_loss), rel=1e-5)
        found = by_name(network, steps)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=2e-3, atol=2e-4, msg=name)
        for (name, own), other in zip(network.named_buffers(), reference.buffers(), strict=True):
            if "running" in name:
                torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5, msg=name)


def test_many_steps_stay_with_torchs_adam_and_evaluate_alike():
    generator = torch.Generator().manual_seed(1)
    data = torch.randn(40, 32, 10, generator=generator)
    reference, network = (dense.build([10, 8, 3, 8, 10], True, 5) for _ in range(2))
    # Rounding errors that stand for the gradient of a bias without one would send Adam off on a walk.
    biases = {id(linear.bias) for linear in list(reference)[:-1] if isinstance(linear, nn.Linear)}
    optimizer = torch.optim.Adam([p for p in reference.parameters() if id(p) not in biases], lr=1e-3)
    steps = dense.Steps(network, 1e-3)
    for x in data:
        expected, _ = plain(reference, x)
        optimizer.step()
        assert float(steps(x)) == pytest.approx(float(expected), rel=1e-4)
    x = torch.randn(5, 10, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(x), reference.eval()(x), rtol=1e-3, atol=1e-4)


def test_initial_weights_are_torchs_and_follow_from_the_seed():
    first, again, other = (dense.build([640, 128, 8, 128, 640], False, seed) for seed in (1, 1, 2))
    assert torch.equal(first[0].weight, again[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)
    for linear in (first[0], first[2]):
        bound = 1 / np.sqrt(linear.in_features)
        for parameter in (linear.weight, linear.bias):
            assert parameter.abs().max() <= bound
        assert linear.weight.std().item() == pytest.approx(bound / np.sqrt(3), rel=0.05)


def test_multiply_adds_are_the_products_of_the_layers():
    sizes = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640]
    assert dense.multiply_adds(dense.build(sizes, True, 0)) == sum(a * b for a, b in itertools.pairwise(sizes))
