"""Augmentations: probabilities, limits, shares, ranges."""

import pytest
import torch

from system.adaptation.augment import Part, augment_waves, draw, mask_spectrogram, mix
from system.config import AugmentConfig

OFF = {"channel_swap": 0.0, "channel_drop": 0.0, "gain_db": 0.0}


def waves(batch: int = 400) -> torch.Tensor:
    """Near channel 1 and far channel 2, times a factor per clip."""
    return torch.tensor([1.0, 2.0])[None, :, None] * torch.arange(1.0, batch + 1)[:, None, None] * torch.ones(1, 1, 3)


def ratio(augmented: torch.Tensor) -> torch.Tensor:
    """Factor of each channel relative to its clip's factor."""
    return augmented[:, :, 0] / torch.arange(1.0, len(augmented) + 1)[:, None]


def augmented(config: AugmentConfig) -> torch.Tensor:
    return augment_waves(waves(), draw(config, 400, 2))


def mixed_waves(config: AugmentConfig) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draws = draw(config, 400, 2)
    return mix(waves(), waves()[draws.partner], draws.share), draws.partner, draws.share


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_nothing_asked_nothing_done():
    assert torch.equal(augmented(AugmentConfig(**OFF)), waves())


def test_swap():
    found = ratio(augmented(AugmentConfig(**(OFF | {"channel_swap": 0.25}))))
    swapped = (found == torch.tensor([2.0, 1.0])).all(1)
    assert ((found == torch.tensor([1.0, 2.0])).all(1) ^ swapped).all()
    assert 0.15 < swapped.float().mean() < 0.35
    always = ratio(augmented(AugmentConfig(**(OFF | {"channel_swap": 1.0}))))
    assert (always == torch.tensor([2.0, 1.0])).all()


def test_drop_silences_one_channel_and_never_both():
    found = ratio(augmented(AugmentConfig(**(OFF | {"channel_drop": 0.5}))))
    silent = found == 0
    assert silent.sum(1).max() == 1
    assert 0.4 < silent.any(1).float().mean() < 0.6
    assert 0.35 < silent[silent.any(1)][:, 0].float().mean() < 0.65
    assert torch.equal(found[~silent], torch.tensor([1.0, 2.0]).expand(400, 2)[~silent])


def test_gain_stays_within_its_bounds():
    found = ratio(augmented(AugmentConfig(**(OFF | {"gain_db": 6.0})))) / torch.tensor([1.0, 2.0])
    decibels = 20 * found.log10()
    assert decibels.abs().max() <= 6.0 + 1e-4
    assert decibels.min() < -5.5
    assert decibels.max() > 5.5
    assert decibels.mean().abs() < 0.5
    assert (decibels[:, 0] - decibels[:, 1]).abs().max() > 6.0  # each channel independently


def test_mixup():
    config = AugmentConfig(mixup=0.5, mixup_alpha=0.5)
    mixed, partner, share = mixed_waves(config)
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
    mixed, _, share = mixed_waves(AugmentConfig(mixup=0.0))
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


@pytest.mark.parametrize("channels", [1, 2])
def test_works_where_the_waveforms_are(channels):
    draws = draw(AugmentConfig(mixup=0.5, channel_swap=0.5, channel_drop=0.5), 4, channels)
    found = augment_waves(torch.zeros(4, channels, 10, device="meta"), draws)
    assert found.shape == (4, channels, 10)
    assert mix(found, found, draws.share).device.type == "meta"


def test_draws_by_hand():
    """As torch's global generator gives them one after the other."""
    config = AugmentConfig(channel_swap=0.5, channel_drop=0.5, gain_db=6.0, mixup=0.5)
    found = draw(config, 9, 2, torch.Generator().manual_seed(4))
    torch.manual_seed(4)
    assert torch.equal(found.swap, torch.rand(9) < 0.5)
    gains = 10 ** ((2 * torch.rand(9, 2) - 1) * 6.0 / 20)
    dropped, silent = torch.rand(9) < 0.5, torch.randint(0, 2, (9,))
    gains[torch.arange(9)[dropped], silent[dropped]] = 0
    assert torch.equal(found.gains, gains)
    assert torch.equal(found.partner, torch.randperm(9))
    beta = torch.distributions.Beta(0.5, 0.5).sample((9,))
    share = torch.where(torch.rand(9) < 0.5, torch.maximum(beta, 1 - beta), torch.ones(9))
    assert torch.equal(found.share, share)


@pytest.mark.parametrize("parts", [2, 3])
def test_masks_of_parts_are_those_of_the_whole(parts):
    spectrogram, config = torch.randn(12, 20, 30), AugmentConfig(time_mask=5, frequency_mask=7)
    found = []
    for number, rows in enumerate([spectrogram, *spectrogram.chunk(parts)]):
        torch.manual_seed(1)
        found.append(mask_spectrogram(rows, config, Part(number - 1, parts) if number else Part()))
    assert torch.equal(torch.cat(found[1:]), found[0])
    assert not torch.equal(found[0], spectrogram)
