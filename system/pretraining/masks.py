"""Inverse block masks: a few square blocks of patches stay visible, the rest is hidden (EAT; FISHER paper, 3.2)."""

from torch import Tensor, rand, randint, zeros

from system.config import MaskConfig


def inverse_block_mask(rows: int, height: int, width: int, config: MaskConfig) -> Tensor:
    """Which patches stay visible; every row keeps the same number.

    Centres are drawn with replacement, each opens a block around it (cut at the borders by clamping); then random
    patches are closed or opened until exactly ``visible_count`` are open.

    Args:
        rows: masks to draw. height, width: patches over time and frequency. config: MaskConfig.

    Returns:
        int64 (rows, visible_count), indices of the visible patches in ascending order. Uses torch's global random
        state.
    """
    length = height * width
    centres = max(1, int(length * (1.0 - config.ratio + config.adjust) / config.block**2))
    time, frequency = randint(0, height, (rows, centres)), randint(0, width, (rows, centres))
    reach = range(-(config.block // 2), config.block - config.block // 2)
    opened = zeros(rows, length)
    for dt in reach:
        for df in reach:
            cells = (time + dt).clamp(0, height - 1) * width + (frequency + df).clamp(0, width - 1)
            opened.scatter_(1, cells, 1.0)
    # Open patches come first, in random order; then closed ones, in random order.
    order = (opened + rand(rows, length)).argsort(dim=1, descending=True)
    return order[:, : visible_count(length, config)].sort(dim=1).values


def visible_count(length: int, config: MaskConfig) -> int:
    """How many of ``length`` patches stay visible, at least one."""
    return max(1, int(length * (1.0 - config.ratio)))


def clone_count(batch_bands: int, config: MaskConfig) -> int:
    """Masks per sub-band: as many as are wanted, as long as the batch stays within ``max_rows`` rows (m_b)."""
    return max(1, min(config.clones, config.max_rows // batch_bands))
