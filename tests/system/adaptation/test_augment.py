"""Augmentations: probabilities, limits, shares, ranges."""

import pytest
import torch

from system.adaptation.augment import augment_waves, mask_spectrogram, mix
from system.config import AugmentConfig

OFF = {"channel_swap": 0.0, "channel_drop": 0.0, "gain_db": 0.0}


def waves(batch: int = 400) -> torch.Tensor:
    """Near channel 1 and far channel 2, times a factor per clip."""
    return torch.tensor([1.0, 2.0])[None, :, None] * torch.arange(1.0, batch + 1)[:, None, None] * torch.ones(1, 1, 3)


def ratio(augmented: torch.Tensor) -> torch.Tensor:
    """Factor of each channel relative to its clip's factor."""
    return augmented[:, :, 0] / torch.arange(1.0, len(augmented) + 1)[:, None]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_nothing_asked_nothing_done():
    assert torch.equal(augment_waves(waves(), AugmentConfig(**OFF)), waves())


def test_swap():
    found = ratio(augment_waves(waves(), AugmentConfig(**(OFF | {"channel_swap": 0.25}))))
    swapped = (found == torch.tensor([2.0, 1.0])).all(1)
    assert ((found == torch.tensor([1.0, 2.0])).all(1) ^ swapped).all()
    assert 0.15 < swapped.float().mean() < 0.35
    always = ratio(augment_waves(waves(), AugmentConfig(**(OFF | {"channel_swap": 1.0}))))
    assert (always == torch.tensor([2.0, 1.0])).all()


def test_drop_silences_one_channel_and_never_both():
    found = ratio(augment_waves(waves(), AugmentConfig(**(OFF | {"channel_drop": 0.5}))))
    silent = found == 0
    assert silent.sum(1).max() == 1
    assert 0.4 < silent.any(1).float().mean() < 0.6
    assert 0.35 < silent[silent.any(1)][:, 0].float().mean() < 0.65
    assert torch.equal(found[~silent], torch.tensor([1.0, 2.0]).expand(400, 2)[~silent])


def test_gain_stays_within_its_bounds():
    found = ratio(augment_waves(waves(), AugmentConfig(**(OFF | {"gain_db": 6.0})))) / torch.tensor([1.0, 2.0])
    decibels = 20 * found.log10()
    assert decibels.abs().max() <= 6.0 + 1e-4
    assert decibels.min() < -5.5
    assert decibels.max() > 5.5
    assert decibels.mean().abs() < 0.5
    assert (decibels[:, 0] - decibels[:, 1]).abs().max() > 6.0  # each channel independently


def test_mixup():
    config = AugmentConfig(mixup=0.5, mixup_alpha=0.5)
    mixed, partner, share = mix(waves(), config)
    number = torch.arange(1.0, 401.0)
    expected = share * number + (1 - share) * number[partner]
    torch.testing.assert_close(mixed[:, 0, 0], expected)
    torch.testing.assert_close(mixed[:, 1, 2], 2 * expected)
    assert sorted(partner.tolist()) == list(range(400))
    alone = share == 1.0
    assert 0.4 < alone.float().mean() < 0.6
    assert share.min() >= 0.5  # a clip keeps the larger share of its own label
    assert share[~alone].std() > 0.05
    assert torch.equal(mixed[alone], waves()[alone])


def test_no_mixup():
    mixed, _, share = mix(waves(), AugmentConfig(mixup=0.0))
    assert torch.equal(mixed, waves())
    assert (share == 1.0).all()


@pytest.mark.parametrize(("time", "frequency"), [(5, 0), (0, 7), (5, 7), (0, 0), (500, 0)])
def test_masks(time, frequency):
    spectrogram = torch.randn(200, 20, 30)
    found = mask_spectrogram(spectrogram, AugmentConfig(time_mask=time, frequency_mask=frequency))
    hidden = found != spectrogram
    means = spectrogram.mean((1, 2))[:, None, None].expand_as(found)
    torch.testing.assert_close(found[hidden], means[hidden])
    whole_frames, whole_bins = hidden.all(2), hidden.all(1)
    assert torch.equal(hidden, whole_frames[:, :, None] | whole_bins[:, None, :])
    for lines, longest in ((whole_frames, min(time, 20)), (whole_bins, min(frequency, 30))):
        if time == 500 and lines is whole_bins:
            continue  # all frames masked means all bins masked
        count = lines.sum(1)
        assert count.max() == longest
        assert count.min() == 0
        edges = lines.int().diff(dim=1).abs().sum(1)
        assert (edges <= 2).all()  # one range


@pytest.mark.parametrize("function", [augment_waves, lambda x, config: mix(x, config)[0]])
def test_works_where_the_waveforms_are(function):
    config = AugmentConfig(mixup=0.5, channel_swap=0.5, channel_drop=0.5)
    assert function(torch.zeros(4, 2, 10, device="meta"), config).device.type == "meta"
