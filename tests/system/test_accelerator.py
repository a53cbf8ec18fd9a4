"""What is particular to a GPU and can be seen without one: front ends and cosines keep out of bf16."""

import pytest
import torch

from system.adaptation.heads import build_head
from system.config import HeadConfig
from system.encoders import FAMILIES, family_class


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_front_ends_are_the_same_within_autocast(family):
    encoder = family_class(family).build("nano", 0)
    wave = 0.1 * torch.randn(1, 9000, generator=torch.Generator().manual_seed(0))
    expected = encoder.spectrogram(wave, 8000)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder.spectrogram(wave, 8000), expected)


@pytest.mark.parametrize("kind", ["arcface", "adacos", "adaproj"])
def test_heads_compute_in_float32(kind):
    heads = [build_head(HeadConfig(kind=kind, subclusters=2, adaptive_scale=kind != "arcface"), 16, 5) for _ in "ab"]
    heads[1].load_state_dict(heads[0].state_dict())
    embedding = torch.randn(8, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    labels, share = torch.arange(8) % 5, torch.ones(8)
    expected = heads[0](embedding.float(), labels)
    heads[0].adapt_scale(embedding.float(), labels, labels, share)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(heads[1](embedding, labels), expected)
        heads[1].adapt_scale(embedding, labels, labels, share)
    assert torch.equal(torch.as_tensor(heads[1].scale), torch.as_tensor(heads[0].scale))
