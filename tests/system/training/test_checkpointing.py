"""Gradient checkpointing: the gradients of every family stay as they are; as many blocks as memory asks for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import dropout

from system import machine
from system.adaptation.batches import CropBatches
from system.adaptation.model import AdaptationTask, AdaptedEncoder
from system.config import AugmentConfig, EncoderBranchConfig, LoopConfig, LoraConfig
from system.encoders import FAMILIES, family_class
from system.encoders.base import Encoder
from system.training import checkpointing
from system.training.checkpointing import Checkpointing, room
from system.training.loop import fit

RATE = 16000


def gradients(encoder: Encoder, mode: str, budget: float = 0.0, seed: int = 0) -> tuple[list[torch.Tensor], set[int]]:
    """Gradients of all parameters through tokens with dropout after every block, in bf16 where autocast is on."""
    blocks = Checkpointing(encoder, mode, budget)
    spectrogram = encoder.spectrogram(0.1 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(1)), RATE)
    torch.manual_seed(seed)
    with blocks.active():
        tokens = encoder(spectrogram)
        loss = tokens.grid.float().square().mean() + tokens.summary.float().sum()
    weights = [p for p in encoder.parameters() if p.requires_grad and p.is_floating_point()]
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    assert not blocks.ledger.bytes  # nothing is kept once the gradient is there
    return [each for each in found if each is not None], blocks.again


def with_dropout(encoder: Encoder) -> Encoder:
    """The encoder with dropout before a layer of each block, as adapters have."""
    for stack in encoder.stacks:
        for block in encoder.get_submodule(stack).children():
            layer = next(each for each in block.modules() if hasattr(each, "weight") and each.weight.dim() > 1)
            layer.register_forward_pre_hook(lambda _, given: (dropout(given[0], 0.3), *given[1:]))
    return encoder.train()


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_gradients_are_the_same(family):
    encoder = with_dropout(family_class(family).build("nano", 0))
    blocks = sum(len(list(encoder.get_submodule(stack).children())) for stack in encoder.stacks)
    assert blocks == {"mn": 16}.get(family, 4)
    expected, again = gradients(encoder, "off")
    assert not again
    for mode, budget in (("on", 0.0), ("auto", float("inf")), ("auto", 1.0)):
        found, again = gradients(encoder, mode, budget)
        for mine, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, wanted, rtol=1e-6, atol=1e-6 * float(wanted.abs().max()))
        assert len(again) == (
            0 if budget > 1.0 else blocks if mode == "on" else blocks - 1
        )  # the first block is measured
    other, _ = gradients(encoder, "on", seed=1)
    assert any(not torch.allclose(a, b) for a, b in zip(other, expected, strict=True))  # there was dropout


def test_gradients_in_mixed_precision():
    encoder = with_dropout(family_class("beats").build("nano", 0))
    with torch.autocast("cpu", torch.bfloat16):
        expected, _ = gradients(encoder, "off")
        found, _ = gradients(encoder, "on")
    for mine, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-6, atol=1e-6 * float(wanted.abs().max()))


def test_blocks_keep_what_fits(tiny_encoder):
    """One block's activations, measured by torch's own hooks; a budget of five of them keeps four."""
    encoder = tiny_encoder(depth=8).train().requires_grad_(True)
    spectrogram, found = torch.randn(2, 96, 200), {}
    own = {p.untyped_storage().data_ptr() for p in encoder.parameters()}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    rows = encoder.embed_patches(encoder.split_bands(spectrogram)).detach()
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        kept = encoder.blocks[0](rows)
    whole = Checkpointing(encoder, "auto", 5.5 * sum(found.values()))
    with whole.active():
        loss = encoder(spectrogram).grid.square().mean()
        assert whole.again == {4, 5, 6, 7}
        assert whole.ledger.bytes <= whole.budget
    loss.backward()
    assert kept[0].shape == rows.shape
    assert "pretrain.loop.checkpointing" in whole.note("pretrain.loop")
    assert not Checkpointing(encoder, "on", 0.0).note("loop")
    assert all("forward" not in vars(block) for block in encoder.blocks)


def test_memory_of_this_machine(monkeypatch):
    module = torch.nn.Linear(1000, 1000)
    monkeypatch.setattr(machine, "memory", lambda: 2_000_000_000)
    monkeypatch.setattr(checkpointing, "_resident", lambda: 400_000_000)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    expected = 0.5 * (800_000_000 - 3 * 4 * 1_001_000)
    assert room(module, torch.device("cpu")) == pytest.approx(expected)
    monkeypatch.setattr(machine, "memory", lambda: 0)
    assert room(module, torch.device("cpu")) == float("inf")
    monkeypatch.undo()
    assert checkpointing._resident() > 50_000_000


@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_adaptation_is_the_same(tiny_encoder, train_clips, tmp_path: Path, accumulate):
    """With adapters, their dropout, mixup and heads of adaptive scale; the figures of every step to the bit."""
    rows = {}
    for mode in ("off", "on"):
        loop = LoopConfig(3, 8, accumulate, learning_rate=1e-2, warmup_steps=1, log_every=1, checkpointing=mode)
        lora = LoraConfig(rank=2, dropout=0.3)
        settings = EncoderBranchConfig(embedding_dim=8, crop_seconds=0.3, lora=lora, loop=loop)
        settings.augment, settings.heads.kind, settings.heads.adaptive_scale = AugmentConfig(mixup=0.5), "adacos", True
        torch.manual_seed(0)
        task = AdaptationTask(AdaptedEncoder(tiny_encoder(), settings, 8000), 2, 3)
        labels = np.arange(len(train_clips)) % 2
        batches = CropBatches(train_clips, labels, labels, settings, 8000, 0)
        rows[mode] = fit(task, batches, loop, tmp_path / mode, 0)
    for name in ("loss", "gradient_norm"):
        assert [row[name] for row in rows["on"]] == [row[name] for row in rows["off"]]
