"""Which part of the encoder is trained (``tune``), at which rate, and on which clips (``learn_from``)."""

from dataclasses import replace

import pytest
import torch

from system.adaptation import ADAPTER, adapt, load_adapted
from system.adaptation.batches import CropBatches
from system.adaptation.model import AdaptationTask, AdaptedEncoder
from system.config import AugmentConfig, EncoderBranchConfig, LoopConfig
from system.encoders import checkpoints
from system.errors import WheeltapperError
from system.training.loop import parameter_groups

RATE = 8000


def config(**values) -> EncoderBranchConfig:
    loop = LoopConfig(steps=4, batch_size=4, learning_rate=5e-3, warmup_steps=1, weight_decay=0.0, save_every=2)
    augment = AugmentConfig(channel_swap=0.0, channel_drop=0.0, gain_db=0.0)
    return EncoderBranchConfig(**({"embedding_dim": 8, "crop_seconds": 0.3, "loop": loop, "augment": augment} | values))


def waves() -> torch.Tensor:
    return 0.1 * torch.randn(2, 2, 4000, generator=torch.Generator().manual_seed(0))


def test_a_frozen_encoder_leaves_the_rest_to_train(tiny_encoder, train_clips, tmp_path):
    task = adapt(tiny_encoder(), train_clips, config(tune="frozen"), RATE, tmp_path, 0)
    for name, tensor in tiny_encoder().state_dict().items():
        assert torch.equal(task.model.encoder.state_dict()[name], tensor), name
    names = {"fusion.gate.weight", "fusion.gate.bias", "projection.weight", "projection.bias"}
    kept = checkpoints.load_file(tmp_path / ADAPTER)["model"]
    assert set(kept) == {"attribute.weight", "domain.weight", *(f"model.{name}" for name in names)}
    loaded = load_adapted(tiny_encoder(), tmp_path / ADAPTER, config(tune="frozen"))
    torch.testing.assert_close(loaded.views(waves()).two_channel, task.eval().model.views(waves()).two_channel)


def test_fine_tuned_weights_are_in_the_file(tiny_encoder, train_clips, tmp_path):
    settings = config(tune="full")
    encoder, before = tiny_encoder(), dict(tiny_encoder().named_parameters())
    task = adapt(encoder, train_clips, settings, RATE, tmp_path, 0)
    kept = checkpoints.load_file(tmp_path / ADAPTER)["model"]
    for name, tensor in before.items():
        assert torch.equal(kept[f"model.encoder.{name}"], encoder.get_parameter(name))
        assert not torch.equal(kept[f"model.encoder.{name}"], tensor), name
    other = load_adapted(tiny_encoder(seed=7), tmp_path / ADAPTER, settings)  # independent of the initial weights
    expected = task.eval().model.views(waves())
    torch.testing.assert_close(other.views(waves()).two_channel, expected.two_channel)


def test_only_what_counts_is_trained(tiny_encoder):
    model = AdaptedEncoder(tiny_encoder(depth=3), config(tune="full", depth=2), RATE)
    still = {name for name, p in model.encoder.named_parameters() if not p.requires_grad}
    assert still == {name for name, _ in model.encoder.named_parameters() if name.startswith("blocks.2.")}


def test_the_encoder_learns_at_its_own_rate(tiny_encoder, train_clips, tmp_path):
    """The first step of AdamW changes each weight by its learning rate."""
    loop = LoopConfig(steps=1, batch_size=4, learning_rate=1e-3, warmup_steps=1, weight_decay=0.0)
    settings = config(tune="full", encoder_learning_rate=0.1, loop=loop)
    task = adapt(tiny_encoder(), train_clips, settings, RATE, tmp_path, 0)
    moved = task.model.encoder.blocks[0].attn.qkv.weight - tiny_encoder().blocks[0].attn.qkv.weight
    assert moved.abs().median().item() == pytest.approx(1e-4, rel=0.02)
    groups = parameter_groups(task, 0.05)
    assert [(group["factor"], group["weight_decay"]) for group in groups] == [
        (0.1, 0.05), (0.1, 0.0), (1.0, 0.05), (1.0, 0.0)
    ]  # fmt: skip
    count = sum(p.numel() for group in groups for p in group["params"])
    assert count == sum(p.numel() for p in task.parameters() if p.requires_grad)


def test_an_encoder_rate_of_nothing_is_a_frozen_encoder(tiny_encoder, train_clips, tmp_path):
    task = adapt(tiny_encoder(), train_clips, config(tune="full", encoder_learning_rate=0.0), RATE, tmp_path, 0)
    for name, tensor in tiny_encoder().state_dict().items():
        assert torch.equal(task.model.encoder.state_dict()[name], tensor), name


def test_low_rank_adapters_have_one_rate(tiny_encoder):
    task = AdaptationTask(AdaptedEncoder(tiny_encoder(), config(encoder_learning_rate=0.1), RATE), 2, 2)
    assert {group["factor"] for group in parameter_groups(task, 0.05)} == {1.0}


def test_resumed_fine_tuning_equals_running_through(tiny_encoder, train_clips, tmp_path):
    settings = config(tune="full", encoder_learning_rate=0.3)
    adapt(tiny_encoder(), train_clips, settings, RATE, tmp_path / "whole", 3)

    def stop(step, values):
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapt(tiny_encoder(), train_clips, settings, RATE, tmp_path / "cut", 3, progress=stop)
    steps = []
    adapt(tiny_encoder(), train_clips, settings, RATE, tmp_path / "cut", 3, progress=lambda s, v: steps.append(s))
    assert steps == [2, 3]
    whole, cut = (checkpoints.load_file(tmp_path / name / ADAPTER)["model"] for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_source_only_learning_is_blind_to_target_clips(tiny_encoder, train_clips, record, tmp_path):
    settings = config(learn_from="source", target_share=0.9)
    adapt(tiny_encoder(), train_clips, settings, RATE, tmp_path / "a", 0)
    other = [
        record(f"other_{clip.file}", seed=99 + i, machine=clip.machine, label="normal", domain="target")
        if clip.domain == "target"
        else clip
        for i, clip in enumerate(train_clips)
    ]
    gone = [replace(clip, path="/nowhere.wav") if clip.domain == "target" else clip for clip in train_clips]
    none = [clip for clip in train_clips if clip.domain != "target"]
    first = checkpoints.load_file(tmp_path / "a" / ADAPTER)["model"]
    for name, clips in (("b", other), ("c", gone), ("d", none)):
        adapt(tiny_encoder(), clips, settings, RATE, tmp_path / name, 0)
        found = checkpoints.load_file(tmp_path / name / ADAPTER)["model"]
        assert all(torch.equal(found[tensor], first[tensor]) for tensor in first)
    adapt(tiny_encoder(), other, config(target_share=0.9), RATE, tmp_path / "all", 0)
    found = checkpoints.load_file(tmp_path / "all" / ADAPTER)["model"]
    assert not torch.equal(found["model.projection.weight"], first["model.projection.weight"])


def test_nothing_to_learn_from(tiny_encoder, train_clips, tmp_path):
    clips = [replace(clip, domain="target") for clip in train_clips]
    with pytest.raises(WheeltapperError, match="learn_from source: expected source clips, found target clips only"):
        adapt(tiny_encoder(), clips, config(learn_from="source"), RATE, tmp_path, 0)
    assert CropBatches(clips, *2 * [torch.zeros(8).numpy()], config(), RATE, 0)(0)["wave"].shape[0] == 4
