"""Which patches the student sees: inverse blocks (EAT; FISHER paper, 3.2) or scattered ones (ECHO's code)."""

import torch
from torch import Generator, Tensor

from system.config import MaskConfig


def inverse_block_mask(rows: int, height: int, width: int, config: MaskConfig, generator: Generator) -> Tensor:
    """A few square blocks stay visible; every row keeps the same number of patches.

    Centres are drawn with replacement, each opens a block around it (cut at the borders by clamping); then random
    patches are closed or opened until exactly ``visible_count`` are open.

    Args:
        rows: masks to draw. height, width: patches over time and frequency. generator: on the CPU.

    Returns:
        int64 (rows, visible_count), indices of the visible patches in ascending order.
    """
    length = height * width
    centres = max(1, int(length * (1.0 - config.ratio + config.adjust) / config.block**2))
    time = torch.randint(0, height, (rows, centres), generator=generator)
    frequency = torch.randint(0, width, (rows, centres), generator=generator)
    reach = range(-(config.block // 2), config.block - config.block // 2)
    opened = torch.zeros(rows, length)
    for dt in reach:
        for df in reach:
            cells = (time + dt).clamp(0, height - 1) * width + (frequency + df).clamp(0, width - 1)
            opened.scatter_(1, cells, 1.0)
    # Open patches come first, in random order; then closed ones, in random order.
    return _first(opened + torch.rand(rows, length, generator=generator), visible_count(length, config))


def random_mask(rows: int, length: int, config: MaskConfig, generator: Generator) -> Tensor:
    """Visible patches scattered at random, as in masked autoencoders. Returns and arguments as above."""
    return _first(torch.rand(rows, length, generator=generator), visible_count(length, config))


def _first(order: Tensor, count: int) -> Tensor:
    return order.argsort(dim=1, descending=True)[:, :count].sort(dim=1).values


def visible_count(length: int, config: MaskConfig) -> int:
    """How many of ``length`` patches stay visible, at least one."""
    return max(1, int(length * (1.0 - config.ratio)))


def clone_count(bands: int, config: MaskConfig) -> int:
    """Masks for each of a clip's ``bands`` sub-bands: as many as are wanted, as long as the clip stays within
    ``max_bands`` rows."""
    return max(1, min(config.clones, config.max_bands // bands))
