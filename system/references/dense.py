"""A small fully connected autoencoder and its training step."""

import contextlib
import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

MOMENTUM, EPSILON = 0.01, 1e-3  # of the official baseline's batch normalisation


def build(sizes: list[int], batch_norm: bool, seed: int) -> nn.Sequential:
    """Linear layers between ``sizes``, (B, sizes[0]) -> (B, sizes[-1]), with normalisation and ReLU after all but the
    last; torch's own initial weights, uniform within 1 / sqrt(inputs), drawn from ``seed`` alone.

    A normalisation takes away the bias in front of it, which has no gradient but rounding: it is zero and stays so.
    """
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        linear = nn.utils.skip_init(nn.Linear, before, after)
        with torch.no_grad():
            for parameter in (linear.weight, linear.bias):
                parameter.uniform_(-1 / math.sqrt(before), 1 / math.sqrt(before), generator=generator)
            if batch_norm and len(layers) < 3 * (len(sizes) - 2):
                linear.bias.zero_().requires_grad_(False)
        norm = [nn.BatchNorm1d(after, momentum=MOMENTUM, eps=EPSILON)] if batch_norm else []
        layers += [linear, *norm, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[: -2 if batch_norm else -1])


class Steps:
    """Adam on the mean squared reconstruction error of a network from ``build``, which is changed in place."""

    def __init__(self, network: nn.Sequential, learning_rate: float):
        self.network = network
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(parameters, lr=learning_rate, fused=True)

    def __call__(self, batch: Tensor) -> Tensor:
        """One update from (B, inputs), B at least 2 with normalisation; the loss () before it, not yet waited for."""
        loss = nn.functional.mse_loss(self.network.train()(batch), batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Lets torch compute in one thread. The layers are too small for more: two threads take twice the time of one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def multiply_adds(network: nn.Sequential) -> int:
    """Of one vector through the network, forward."""
    return sum(module.weight.numel() for module in network if isinstance(module, nn.Linear))
