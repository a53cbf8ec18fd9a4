"""Inverse block masks: how many patches stay visible, and that they lie in blocks."""

import pytest
import torch

from system.config import MaskConfig
from system.pretraining.masks import clone_count, inverse_block_mask, visible_count

CONFIG = MaskConfig()


@pytest.mark.parametrize(
    ("height", "width", "visible"),
    [(64, 8, 102), (64, 6, 76), (64, 3, 38), (62, 6, 74), (18, 6, 21), (3, 6, 3), (1, 6, 1)],
)
def test_every_row_shows_the_same_number(height, width, visible):
    torch.manual_seed(0)
    mask = inverse_block_mask(50, height, width, CONFIG)
    assert mask.shape == (50, visible)
    assert visible == max(1, int(height * width * 0.2)) == visible_count(height * width, CONFIG)
    assert mask.dtype == torch.int64
    assert (mask.diff(dim=1) > 0).all()  # ascending, none twice
    assert mask.min() >= 0
    assert mask.max() < height * width


def neighbours(mask: torch.Tensor, height: int, width: int) -> float:
    """Mean number of visible patches among the four beside a visible patch."""
    shown = torch.zeros(len(mask), height * width).scatter_(1, mask, 1.0).view(-1, height, width)
    pairs = (shown[:, 1:] * shown[:, :-1]).sum() + (shown[:, :, 1:] * shown[:, :, :-1]).sum()
    return float(2 * pairs / shown.sum())


@pytest.mark.parametrize(("height", "width"), [(64, 8), (62, 6), (18, 6)])
def test_visible_patches_lie_in_blocks(height, width):
    torch.manual_seed(0)
    mask = inverse_block_mask(200, height, width, CONFIG)
    scattered = torch.rand(200, height * width).argsort(1)[:, : mask.shape[1]]
    assert neighbours(mask, height, width) > 2.5 * neighbours(scattered, height, width)


def test_every_patch_is_seen_now_and_then():
    torch.manual_seed(0)
    seen = torch.bincount(inverse_block_mask(2000, 18, 6, CONFIG).flatten(), minlength=108) / 2000
    assert seen.min() > 0.05
    assert seen.mean().item() == pytest.approx(21 / 108, rel=1e-5)


def test_masks_come_from_the_global_random_state():
    torch.manual_seed(1)
    first = inverse_block_mask(4, 62, 6, CONFIG)
    second = inverse_block_mask(4, 62, 6, CONFIG)
    torch.manual_seed(1)
    assert torch.equal(inverse_block_mask(4, 62, 6, CONFIG), first)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize(
    ("rows", "clones", "most", "expected"),
    [(8, 8, 64, 8), (16, 8, 64, 4), (48, 8, 64, 1), (64, 16, 64, 1), (100, 8, 64, 1), (2, 8, 64, 8), (2, 99, 64, 32)],
)
def test_clones_stay_within_the_batch(rows, clones, most, expected):
    assert clone_count(rows, MaskConfig(clones=clones, max_rows=most)) == expected
