"""Parts of a training batch computed at once on a CPU, each by a thread with random numbers of its own.

Two threads that each compute half of a batch take less time than two that share every operation: most operations of a
step are too short to be shared.
"""

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import torch
from torch import Generator, Tensor, nn

Figures = dict[str, Tensor]


class _Here(threading.local):
    generator: Generator | None = None


_here = _Here()


def generator() -> Generator | None:
    """The random generator of this thread, for operations on the cpu; None for torch's own.

    A module that is trained in streams draws all its random numbers from it.
    """
    return _here.generator


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Gives this thread, within, a generator of its own, whose numbers are those of ``torch.manual_seed(seed)``."""
    before, _here.generator = _here.generator, Generator().manual_seed(seed)
    try:
        yield
    finally:
        _here.generator = before


@contextlib.contextmanager
def threads_each(number: int) -> Iterator[None]:
    """Within, torch computes by ``number`` threads in this thread and in those that are begun."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Streams:
    """Computes the gradients of parts of a batch at once, at most as many as torch has threads.

    The result is the same bits however many are computed at once, if each has the same number of threads.

    Args:
        module: ``module(batch)`` returns scalar tensors by name, among them ``loss``.
        number: parts that are computed at once.

    Example:
        >>> with Streams(module, 2) as streams:
        ...     figures = list(streams(halves, seed=0, total=2))  # gradients are in the parameters
    """

    def __init__(self, module: nn.Module, number: int):
        self.module, self.number = module, number
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.threads = torch.get_num_threads()
        self.each = max(1, self.threads // number)
        self.pool = ThreadPoolExecutor(min(number, self.threads), "stream", torch.set_num_threads, (self.each,))

    def __enter__(self) -> "Streams":
        torch.set_num_threads(self.each)  # some libraries have one number for all threads
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self.threads)

    def __call__(self, parts: Iterable[Any], seed: int, total: int) -> Iterator[Figures]:
        """Adds the gradients of the mean loss of a batch to the parameters.

        Args:
            parts: of the batch.
            seed: from which the random numbers of every part start.
            total: number of parts.

        Yields:
            Figures of each part.
        """
        parts = iter(parts)
        while group := list(islice(parts, self.number)):
            for figures, gradients in self.pool.map(lambda part: self._gradients(part, seed, total), group):
                for parameter, gradient in zip(self.parameters, gradients, strict=True):
                    if gradient is not None:
                        parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
                yield figures

    def _gradients(self, part: Any, seed: int, total: int) -> tuple[Figures, Sequence[Tensor | None]]:
        with seeded(seed):
            figures = self.module(part)
            gradients = torch.autograd.grad(figures["loss"] / total, self.parameters, allow_unused=True)
        return {name: figure.detach() for name, figure in figures.items()}, gradients
