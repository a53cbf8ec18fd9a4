"""Masks of the student's patches: inverse blocks (EAT; FISHER paper, section 3.2) or random patches (ECHO's code)."""

import torch
from torch import Generator, Tensor

from system.config import MaskConfig


def inverse_block_mask(rows: int, height: int, width: int, config: MaskConfig, generator: Generator) -> Tensor:
    """A mask in which a few square blocks stay visible; every row has the same number of visible patches.

    Block centres are drawn with replacement, and blocks are cut at the borders. Then random patches are masked or
    unmasked until exactly ``visible_count`` are visible.

    Args:
        rows: number of masks.
        height: patches along time.
        width: patches along frequency.
        config: settings.
        generator: random generator on the CPU.

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
    # Visible patches come first, in random order, then masked ones, in random order.
    return _first(opened + torch.rand(rows, length, generator=generator), visible_count(length, config))


def random_mask(rows: int, length: int, config: MaskConfig, generator: Generator) -> Tensor:
    """A mask in which random patches stay visible, as in masked autoencoders.

    Args:
        rows: number of masks.
        length: number of patches.
        config: settings.
        generator: random generator on the CPU.

    Returns:
        int64 (rows, visible_count), indices of the visible patches in ascending order.
    """
    return _first(torch.rand(rows, length, generator=generator), visible_count(length, config))


def _first(order: Tensor, count: int) -> Tensor:
    return order.argsort(dim=1, descending=True)[:, :count].sort(dim=1).values


def visible_count(length: int, config: MaskConfig) -> int:
    """Number of visible patches out of ``length``, at least one."""
    return max(1, int(length * (1.0 - config.ratio)))


def clone_count(bands: int, config: MaskConfig) -> int:
    """Number of masks for each of a clip's ``bands`` sub-bands, limited so that the clip has at most ``max_bands``
    rows.
    """
    return max(1, min(config.clones, config.max_bands // bands))
