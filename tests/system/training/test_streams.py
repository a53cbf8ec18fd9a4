"""Parts of a batch computed at once: gradients, random numbers, bits whatever the number of threads, errors."""

import pytest
import torch
from torch import nn

from system.config import LoopConfig
from system.errors import WheeltapperError
from system.training import streams
from system.training.loop import fit
from system.training.streams import Streams

X, Y = torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), torch.linspace(-1.0, 1.0, 8)


class Noisy(nn.Module):
    """A linear regression of inputs to which noise is added; one weight is not used."""

    def __init__(self):
        super().__init__()
        self.weight, self.unused = nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(2))

    def forward(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        noise = torch.randn(8, 5, generator=streams.generator())[rows]
        return {"loss": ((X[rows] + noise) @ self.weight - Y[rows]).square().mean()}


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def gradient(parts: int, at_once: int) -> tuple[torch.Tensor, list[float]]:
    module = Noisy()
    with Streams(module, at_once) as together:
        figures = list(together(torch.arange(8).chunk(parts), 3, parts))
    assert module.unused.grad is None
    return module.weight.grad, [float(each["loss"]) for each in figures]


@pytest.mark.parametrize(("parts", "at_once"), [(2, 2), (4, 2), (8, 3)])
def test_gradients_are_those_of_the_whole(threads, parts, at_once):
    threads(2)
    torch.manual_seed(3)  # noise of the whole batch is that of its parts
    inputs = (X + torch.randn(8, 5)).numpy().astype(float)
    error = inputs.sum(1) - Y.numpy()
    found, losses = gradient(parts, at_once)
    torch.testing.assert_close(found, torch.tensor(2.0 * error @ inputs / 8).float())
    torch.testing.assert_close(sum(losses) / parts, float((error**2).mean()), rtol=1e-6, atol=0.0)


def test_bits_do_not_depend_on_the_number_of_threads(threads, tmp_path):
    weights = []
    for number, checkpointing in ((1, "auto"), (2, "auto"), (2, "off")):  # auto: the first step one part at a time
        threads(number)
        module = Noisy()
        loop = LoopConfig(steps=4, batch_size=8, learning_rate=0.1, checkpointing=checkpointing)
        rows = fit(
            module,
            lambda step, part, parts: torch.arange(8).chunk(parts)[part],
            loop,
            tmp_path / str(len(weights)),
            0,
            streams=2,
        )
        weights.append(module.weight.detach())
        assert torch.get_num_threads() == number
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])
    assert len(rows) == 2
    assert not torch.equal(weights[0], torch.ones(5))


def test_generator_is_of_the_thread_and_of_torch_outside():
    assert streams.generator() is None
    with streams.seeded(5):
        found = torch.rand(4, generator=streams.generator())
        assert streams.generator() is not None
    torch.manual_seed(5)
    assert torch.equal(found, torch.rand(4, generator=streams.generator()))


def test_error_in_a_part_is_raised(threads):
    class Failing(Noisy):
        def forward(self, rows):
            raise WheeltapperError("expected another batch, found this one")

    threads(2)
    with Streams(Failing(), 2) as together, pytest.raises(WheeltapperError, match="another batch"):
        list(together(torch.arange(8).chunk(2), 3, 2))
    assert torch.get_num_threads() == 2
