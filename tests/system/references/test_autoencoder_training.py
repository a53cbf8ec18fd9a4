"""The training step of the autoencoder against Adam written out in numpy, and the network that it trains."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from system.references import dense


def numpy_adam(network: nn.Sequential, batches: list[torch.Tensor]) -> dict[str, np.ndarray]:
    """Weights after Adam on gradients of the mean squared error: Kingma and Ba, algorithm 1, in float64."""
    weights = {name: p.detach().double().numpy().copy() for name, p in network.named_parameters() if p.requires_grad}
    first = {name: np.zeros_like(value) for name, value in weights.items()}
    second = {name: np.zeros_like(value) for name, value in weights.items()}
    for number, batch in enumerate(batches, 1):
        network.train().zero_grad()
        ((network(batch) - batch) ** 2).mean().backward()
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                gradient = parameter.grad.double().numpy()
                first[name] = 0.9 * first[name] + 0.1 * gradient
                second[name] = 0.999 * second[name] + 0.001 * gradient**2
                step = first[name] / (1 - 0.9**number) / (np.sqrt(second[name] / (1 - 0.999**number)) + 1e-8)
                weights[name] -= 1e-3 * step
                parameter.data.copy_(torch.from_numpy(weights[name]))
    return weights


@pytest.mark.parametrize("batch_norm", [True, False])
def test_steps_are_adam_on_the_mean_squared_error(batch_norm):
    generator = torch.Generator().manual_seed(1)
    data = list(torch.randn(30, 32, 10, generator=generator))
    reference, network, fresh = (dense.build([10, 8, 3, 8, 10], batch_norm, 5) for _ in range(3))
    steps = dense.Steps(network, 1e-3)
    before = float(((fresh.train()(data[0]) - data[0]) ** 2).mean())
    assert float(steps(data[0])) == pytest.approx(before, rel=1e-5)
    for batch in data[1:]:
        steps(batch)
    weights = numpy_adam(reference, data)
    for name, parameter in network.named_parameters():
        if name in weights:
            np.testing.assert_allclose(parameter.detach().numpy(), weights[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_normalisation_is_the_official_one_and_biases_before_it_stay_zero():
    """Momentum 0.01 and epsilon 1e-3; running variances are those of samples."""
    network = dense.build([6, 4, 6], True, 2)
    batch = torch.randn(16, 6, generator=torch.Generator().manual_seed(4))
    inputs = batch.numpy() @ network[0].weight.detach().numpy().T
    dense.Steps(network, 1e-3)(batch)
    np.testing.assert_allclose(network[1].running_mean, 0.01 * inputs.mean(0), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(network[1].running_var, 0.99 + 0.01 * inputs.var(0, ddof=1), rtol=1e-5)
    assert network[1].eps == 1e-3
    assert not network[0].bias.any()
    assert network[3].bias.requires_grad


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
