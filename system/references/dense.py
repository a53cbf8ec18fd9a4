"""Training steps of a small fully connected autoencoder, forward and backward written out.

At a batch of 256 vectors the products of the official network take about as long as all that automatic differentiation
does around them. Here every layer is a product, a fused normalisation and a clamp; gradients go straight into one flat
buffer, over which Adam runs once. The arithmetic is that of ``torch.autograd`` to rounding.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

MOMENTUM, EPSILON = 0.01, 1e-3  # of the official baseline's batch normalisation


@dataclass(frozen=True)
class Layer:
    """A linear layer, its normalisation if it has one, and views onto the flat buffer for their gradients."""

    linear: nn.Linear
    norm: nn.BatchNorm1d | None
    gradients: dict[str, Tensor]


def build(sizes: list[int], batch_norm: bool, seed: int) -> nn.Sequential:
    """Linear layers between ``sizes``, (B, sizes[0]) -> (B, sizes[-1]), with normalisation and ReLU after all but the
    last; torch's own initial weights, uniform within 1 / sqrt(inputs), drawn from ``seed`` alone.

    A normalisation takes away the bias in front of it, which therefore has no gradient: it is nothing and stays so.
    """
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        linear = nn.utils.skip_init(nn.Linear, before, after)
        with torch.no_grad():
            for parameter in (linear.weight, linear.bias):
                parameter.uniform_(-1 / math.sqrt(before), 1 / math.sqrt(before), generator=generator)
            if batch_norm and len(layers) < 3 * (len(sizes) - 2):
                linear.bias.zero_()
        norm = [nn.BatchNorm1d(after, momentum=MOMENTUM, eps=EPSILON)] if batch_norm else []
        layers += [linear, *norm, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[: -2 if batch_norm else -1])


class Steps:
    """Adam on the mean squared reconstruction error of a network from ``build``, which is changed in place."""

    def __init__(self, network: nn.Sequential, learning_rate: float):
        parameters = list(network.parameters())
        flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
        gradient = torch.zeros_like(flat)
        views, start = {}, 0
        for parameter in parameters:
            end = start + parameter.numel()
            parameter.data = flat[start:end].view_as(parameter)
            views[parameter], start = gradient[start:end].view_as(parameter), end
        self.layers = [_layer(module, after, views) for module, after in _linear_layers(network)]
        self.parameters = nn.Parameter(flat)
        self.parameters.grad = gradient
        self.optimizer = torch.optim.Adam([self.parameters], lr=learning_rate, fused=True)

    def __call__(self, batch: Tensor) -> Tensor:
        """One update from (B, inputs), B at least 2 with normalisation; the loss () before it, not yet waited for."""
        loss = self.gradient(batch)
        self.optimizer.step()
        return loss

    @torch.no_grad()
    def gradient(self, batch: Tensor) -> Tensor:
        """Fills the gradients of the mean squared error for (B, inputs) and returns it, ()."""
        *hidden, last = self.layers
        x, kept = batch, []
        for layer in hidden:
            linear, norm = layer.linear, layer.norm
            if norm is None:
                z = y = torch.addmm(linear.bias, x, linear.weight.t())
                mean = scale = None
            else:
                z = x @ linear.weight.t()
                y, mean, scale = torch.native_batch_norm(
                    z, norm.weight, norm.bias, norm.running_mean, norm.running_var, True, MOMENTUM, EPSILON
                )
            kept.append((x, z, y.relu_(), mean, scale))
            x = y
        error = torch.addmm(last.linear.bias, x, last.linear.weight.t()).sub_(batch)
        flat = error.view(-1)
        loss = torch.dot(flat, flat) / len(flat)
        self._backward(error.mul_(2.0 / len(flat)), x, kept)
        return loss

    def _backward(self, outer: Tensor, x: Tensor, kept: list[tuple]) -> None:
        """``outer``: gradient (B, inputs) of the loss by the output; ``x``: what the last layer was given."""
        *hidden, last = self.layers
        torch.mm(outer.t(), x, out=last.gradients["weight"])
        torch.sum(outer, 0, out=last.gradients["bias"])
        outer = outer @ last.linear.weight
        for layer, (x, z, y, mean, scale) in zip(reversed(hidden), reversed(kept), strict=True):
            outer = torch.ops.aten.threshold_backward(outer, y, 0)
            norm = layer.norm
            if norm is None:
                torch.sum(outer, 0, out=layer.gradients["bias"])
            else:
                outer, weight, bias = torch.ops.aten.native_batch_norm_backward(
                    outer, z, norm.weight, norm.running_mean, norm.running_var, mean, scale, True, EPSILON, [True] * 3
                )
                layer.gradients["norm.weight"].copy_(weight)
                layer.gradients["norm.bias"].copy_(bias)
            torch.mm(outer.t(), x, out=layer.gradients["weight"])
            if layer is not hidden[0]:
                outer = outer @ layer.linear.weight


def _linear_layers(network: nn.Sequential) -> list[tuple[nn.Linear, nn.Module | None]]:
    modules = [*network, None]
    return [(module, modules[i + 1]) for i, module in enumerate(network) if isinstance(module, nn.Linear)]


def _layer(linear: nn.Linear, after: nn.Module | None, views: dict[nn.Parameter, Tensor]) -> Layer:
    gradients = {"weight": views[linear.weight], "bias": views[linear.bias]}
    norm = after if isinstance(after, nn.BatchNorm1d) else None
    if norm is not None:
        gradients |= {"norm.weight": views[norm.weight], "norm.bias": views[norm.bias]}
    return Layer(linear, norm, gradients)


def multiply_adds(network: nn.Sequential) -> int:
    """Of one vector through the network, forward."""
    return sum(linear.weight.numel() for linear, _ in _linear_layers(network))
