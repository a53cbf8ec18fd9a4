"""Adaptation of every family: trained weights, learning, and that a saved branch is restored, merged and equal."""

import copy

import numpy as np
import pytest
import torch

from system.adaptation import ADAPTER, adapt, load_adapted
from system.adaptation.model import AdaptationTask, AdaptedEncoder
from system.config import EncoderBranchConfig, HeadConfig, LoopConfig, LoraConfig
from system.encoders import FAMILIES, family_class
from system.errors import WheeltapperError

RATE = 16000
# Layers that get adapters in each block by default.
LAYERS = {
    "fisher": ("blocks.{}.attn.qkv",),
    "echo": ("blocks.{}.attn.qkv",),
    "beats": ("encoder.layers.{}.self_attn.q_proj", "encoder.layers.{}.self_attn.v_proj"),
    "eat": ("blocks.{}.attn.qkv",),
    "audiomae": ("blocks.{}.attn.qkv",),
    "ast": ("blocks.{}.attn.q_proj", "blocks.{}.attn.v_proj"),
    "cnn": (),
    "mn": (),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_trains(family):
    encoder = family_class(family).build("nano", 0)
    task = AdaptationTask(AdaptedEncoder(encoder, EncoderBranchConfig(), RATE), 3, 4)
    found = sorted(name for name, p in task.named_parameters() if p.requires_grad)
    adapters = [
        f"model.encoder.{layer.format(block)}.lora_{x}.default.weight"
        for layer in LAYERS[family]
        for block in range(4)
        for x in "AB"
    ]
    others = ["attribute.weight", "domain.weight"]
    others += [f"model.{part}.{kind}" for part in ("fusion.gate", "projection") for kind in ("weight", "bias")]
    assert found == sorted(adapters + others)
    dim = encoder.dim
    wide = 3 if any("qkv" in layer for layer in LAYERS[family]) else 1
    count = sum(p.numel() for n, p in task.named_parameters() if "lora_" in n)
    assert count == len(LAYERS[family]) * 4 * 8 * (dim + wide * dim)


@pytest.mark.parametrize("family", [family for family in FAMILIES if LAYERS[family]])
def test_adapters_of_rank_64(family):
    """On q and v, or on the joint q, k, v layer: every matrix gets a gradient at the latest in the second step."""
    encoder = family_class(family).build("nano", 0)
    task = AdaptationTask(
        AdaptedEncoder(encoder, EncoderBranchConfig(lora=LoraConfig(64, 64), pool="attentive"), RATE), 3, 4
    )
    adapters = {name: p for name, p in task.named_parameters() if "lora_" in name}
    assert {p.shape[0] if "lora_A" in name else p.shape[1] for name, p in adapters.items()} == {64}
    with torch.no_grad():
        for name, parameter in adapters.items():
            if "lora_B" in name:  # zero at the start, so that A has no gradient yet
                parameter.normal_(std=0.02)
    wave = 0.1 * torch.randn(2, 2, RATE // 2, generator=torch.Generator().manual_seed(0))
    task({"wave": wave, "attribute": torch.tensor([0, 2]), "domain": torch.tensor([1, 3])})["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in adapters.values())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pool", ["cls", "attentive", "rdp"])
def test_a_branch_of_each_family(family, pool, train_clips, tmp_path):
    depth = 3 if pool == "rdp" else 0
    config = EncoderBranchConfig(
        pool=pool,
        depth=depth,
        embedding_dim=8,
        crop_seconds=0.3,
        lora=LoraConfig(dropout=0.0),
        heads=HeadConfig(domain_classes="domain"),
        loop=LoopConfig(steps=3, batch_size=3, warmup_steps=1, learning_rate=1e-2),
    )
    encoder = family_class(family).build("nano", 0)
    before = copy.deepcopy(encoder).state_dict()
    task = adapt(encoder, train_clips, config, RATE, tmp_path, seed=1)
    kept = {name.replace(".base_layer", ""): value for name, value in task.model.encoder.state_dict().items()}
    assert all(torch.equal(kept[name], value) for name, value in before.items())  # the network itself is unchanged
    moved = [p for n, p in task.named_parameters() if "lora_B" in n]
    assert sum(p.abs().sum() for p in moved) > 0 or not LAYERS[family]
    loaded = load_adapted(family_class(family).build("nano", 0), tmp_path / ADAPTER, config)
    wave = 0.1 * torch.randn(2, 2, 6000, generator=torch.Generator().manual_seed(0))
    task.eval()
    with torch.inference_mode():
        for found, expected in zip(loaded.views(wave), task.model.views(wave), strict=True):
            assert found.shape[0] == 2
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(1, 0), (16000,), (1, 2, 16000)])
def test_a_waveform_of_another_shape_is_refused(family, shape):
    with pytest.raises(WheeltapperError, match="waveform: expected"):
        family_class(family).build("nano", 0).embed(torch.zeros(shape), RATE)


@pytest.mark.parametrize("family", FAMILIES)
def test_fine_tuning_of_each_family(family, train_clips, tmp_path):
    """Every weight that influences the pooled tokens changes, is saved and counted; buffers do not change."""
    config = EncoderBranchConfig(
        tune="full",
        depth=2,
        embedding_dim=8,
        crop_seconds=0.3,
        loop=LoopConfig(steps=2, batch_size=3, warmup_steps=1, learning_rate=1e-2),
    )
    encoder = family_class(family).build("nano", 0)
    before = copy.deepcopy(encoder)
    task = adapt(encoder, train_clips, config, RATE, tmp_path, seed=1)
    moved = {n for n, p in before.named_parameters() if not torch.equal(p, encoder.get_parameter(n))}
    assert moved == {n for n, p in task.model.encoder.named_parameters() if p.requires_grad}
    assert 0 < len(moved) < len(list(before.parameters()))  # blocks above the second are unchanged
    assert all(torch.equal(b, encoder.get_buffer(n)) for n, b in before.named_buffers())
    loaded = load_adapted(family_class(family).build("nano", 0), tmp_path / ADAPTER, config)
    wave = 0.1 * torch.randn(2, 2, 6000, generator=torch.Generator().manual_seed(0))
    task.eval()
    with torch.inference_mode():
        for found, expected in zip(loaded.views(wave), task.model.views(wave), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
