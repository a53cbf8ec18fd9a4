"""Masks: number and position of visible patches."""

import pytest
import torch

from system.config import MaskConfig
from system.pretraining.masks import clone_count, inverse_block_mask, random_mask, visible_count

CONFIG = MaskConfig()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("height", "width", "visible"),
    [(64, 8, 102), (64, 6, 76), (64, 3, 38), (62, 6, 74), (18, 6, 21), (3, 6, 3), (1, 6, 1)],
)
def test_every_row_shows_the_same_number(height, width, visible):
    mask = inverse_block_mask(50, height, width, CONFIG, generator())
    assert mask.shape == (50, visible)
    assert visible == max(1, int(height * width * 0.2)) == visible_count(height * width, CONFIG)
    assert mask.dtype == torch.int64
    assert (mask.diff(dim=1) > 0).all()  # ascending, none twice
    assert mask.min() >= 0
    assert mask.max() < height * width


def neighbours(mask: torch.Tensor, height: int, width: int) -> float:
    """Mean number of visible patches among the four neighbours of a visible patch."""
    shown = torch.zeros(len(mask), height * width).scatter_(1, mask, 1.0).view(-1, height, width)
    pairs = (shown[:, 1:] * shown[:, :-1]).sum() + (shown[:, :, 1:] * shown[:, :, :-1]).sum()
    return float(2 * pairs / shown.sum())


@pytest.mark.parametrize(("height", "width"), [(64, 8), (62, 6), (18, 6)])
def test_visible_patches_lie_in_blocks(height, width):
    mask = inverse_block_mask(200, height, width, CONFIG, generator())
    scattered = random_mask(200, height * width, CONFIG, generator(1))
    assert scattered.shape == mask.shape
    assert neighbours(mask, height, width) > 2.5 * neighbours(scattered, height, width)


def test_every_patch_is_seen_now_and_then():
    seen = torch.bincount(inverse_block_mask(2000, 18, 6, CONFIG, generator()).flatten(), minlength=108) / 2000
    assert seen.min() > 0.05
    assert seen.mean().item() == pytest.approx(21 / 108, rel=1e-5)


@pytest.mark.parametrize(
    "draw", [lambda g: inverse_block_mask(4, 62, 6, CONFIG, g), lambda g: random_mask(4, 99, CONFIG, g)]
)
def test_masks_come_from_the_generator_alone(draw):
    before = torch.random.get_rng_state()
    source = generator(1)
    first, second = draw(source), draw(source)
    assert torch.equal(draw(generator(1)), first)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_scattered_masks_show_every_patch_alike():
    # ECHO's released settings: three quarters hidden.
    mask = random_mask(4000, 25, MaskConfig(ratio=0.75), generator())
    assert mask.shape == (4000, 6)
    assert (mask.diff(dim=1) > 0).all()
    seen = torch.bincount(mask.flatten(), minlength=25) / 4000
    assert (seen - 6 / 25).abs().max() < 4 * (0.24 * 0.76 / 4000) ** 0.5


@pytest.mark.parametrize(
    ("bands", "clones", "most", "expected"),
    # FISHER's code: 64 // bands, 32 at 16 kHz (2 bands), 10 at 48 kHz (6 bands).
    [(2, 64, 64, 32), (6, 64, 64, 10), (2, 16, 64, 16), (1, 8, 64, 8), (100, 8, 64, 1), (4, 99, 8, 2)],
)
def test_clones_stay_within_a_clip_s_rows(bands, clones, most, expected):
    assert clone_count(bands, MaskConfig(clones=clones, max_bands=most)) == expected
