"""Adapted encoders from training to inference: trained weights, saved weights, use of the channels."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from system import adaptation
from system.adaptation import ADAPTER, adapt, attribute_labels, domain_labels, load_adapted
from system.adaptation.batches import CropBatches
from system.adaptation.model import AdaptationTask, AdaptedEncoder, _mixed
from system.config import AugmentConfig, EncoderBranchConfig, HeadConfig, LoopConfig, LoraConfig
from system.encoders import checkpoints, noise_aware
from system.encoders.fisher import Fisher
from system.errors import WheeltapperError
from system.training.state import step_seed

RATE = 8000


def config(**values) -> EncoderBranchConfig:
    loop = LoopConfig(steps=6, batch_size=4, learning_rate=5e-3, warmup_steps=2, save_every=2, log_every=1)
    settings = {"embedding_dim": 8, "crop_seconds": 0.3, "loop": loop} | values
    return EncoderBranchConfig(**settings)


def waves(batch: int = 2, channels: int = 2, samples: int = 4000) -> torch.Tensor:
    return 0.1 * torch.randn(batch, channels, samples, generator=torch.Generator().manual_seed(0))


def trained(encoder) -> AdaptedEncoder:
    """An adapted encoder whose adapters and gate have an effect."""
    torch.manual_seed(0)
    model = AdaptedEncoder(encoder, config(), RATE).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape))
    return model


def test_what_trains_in_a_branch():
    task = AdaptationTask(AdaptedEncoder(Fisher.build("nano", 0), EncoderBranchConfig(), 16000), 5, 4)
    names = [name for name, p in task.named_parameters() if p.requires_grad]
    lora = [f"model.encoder.blocks.{b}.attn.qkv.lora_{x}.default.weight" for b in range(4) for x in "AB"]
    rest = ["fusion.gate.weight", "fusion.gate.bias", "projection.weight", "projection.bias"]
    assert sorted(names) == sorted([*lora, *(f"model.{name}" for name in rest), "attribute.weight", "domain.weight"])
    count = sum(p.numel() for p in task.parameters() if p.requires_grad)
    assert count == 16384 + 257 + (12 * 128 * 256 + 256) + 5 * 256 + 4 * 256


@pytest.mark.parametrize(("pool", "width"), [("mean", 16), ("band", 12 * 16), ("cls", 2 * 16)])
def test_pooling_width(tiny_encoder, pool, width):
    model = AdaptedEncoder(tiny_encoder(), config(pool=pool), 16000).eval()
    assert model.projection.in_features == width
    views = model.views(waves(samples=8000))
    assert views.two_channel.shape == views.near_only.shape == (2, 8)
    assert views.gate.shape == (2, 1 if pool == "cls" else 3)


def test_noise_aware_layers_take_the_place_of_the_gate(tiny_encoder):
    encoder = tiny_encoder()
    layers = noise_aware.NoiseAwareLayers("cross_attention", encoder.dim, encoder.depth)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    model = AdaptedEncoder(noise_aware.attach(encoder, layers), config(tune="frozen"), RATE).eval()
    samples = waves(2)
    near, far = (encoder.spectrogram(samples[:, c], RATE) for c in (0, 1))
    views = model.views(samples)
    aware = model.projection(encoder(near, None, far).grid.mean(1).flatten(1))
    plain = model.projection(encoder(near).grid.mean(1).flatten(1))
    torch.testing.assert_close(views.two_channel, aware)
    torch.testing.assert_close(model(torch.stack([near, far], 1)), aware)
    torch.testing.assert_close(views.near_only, plain)
    torch.testing.assert_close(model.views(samples[:, :1]).two_channel, plain)  # a mono recording
    assert model.fusion is None
    assert not any(name.startswith("encoder.") for name, p in model.named_parameters() if p.requires_grad)


def test_views_by_hand(tiny_encoder):
    model = trained(tiny_encoder())
    samples = waves(1)
    encoder = model.encoder
    near, far = (encoder(encoder.spectrogram(samples[:, c], RATE)).grid for c in (0, 1))
    alpha = torch.sigmoid(model.fusion.gate(torch.cat([near, far], -1)))
    both = model.projection((alpha * near + (1 - alpha) * far).mean(1).flatten(1))
    views = model.views(samples)
    torch.testing.assert_close(views.two_channel, both, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(views.near_only, model.projection(near.mean(1).flatten(1)))
    torch.testing.assert_close(views.gate, alpha.squeeze(-1).mean(2))
    spectrograms = torch.stack([encoder.spectrogram(samples[:, c], RATE) for c in (0, 1)], 1)
    torch.testing.assert_close(model(spectrograms), views.two_channel, rtol=1e-4, atol=1e-6)


def test_left_duplication_is_the_near_channel_twice(tiny_encoder):
    model = trained(tiny_encoder())
    samples = waves()
    twice = model.views(samples[:, :1].expand(-1, 2, -1))
    torch.testing.assert_close(model.views(samples).near_only, twice.two_channel)
    assert not torch.allclose(model.views(samples).near_only, model.views(samples).two_channel, atol=1e-4)


def test_a_mono_recording_is_its_own_far_channel(tiny_encoder):
    views = trained(tiny_encoder()).views(waves(channels=1))
    assert torch.equal(views.two_channel, views.near_only)


@pytest.mark.parametrize("clips", [3, 40])
def test_the_aligned_projection_keeps_lengths_and_angles(tiny_encoder, clips):
    torch.manual_seed(0)
    model = AdaptedEncoder(tiny_encoder(), config(embedding_dim=32), RATE)
    pooled = torch.randn(clips, 8) @ torch.randn(8, 6 * 16)  # eight directions: fewer than the embedding has
    model.align_projection(pooled)
    weight, embedding = model.projection.weight.detach(), model.projection(pooled).detach()
    torch.testing.assert_close(embedding @ embedding.T, pooled @ pooled.T, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(weight @ weight.T, torch.eye(32), rtol=0, atol=1e-5)
    assert not model.projection.bias.any()


def test_an_embedding_wider_than_its_tokens_is_filled_with_zeros(tiny_encoder):
    model = AdaptedEncoder(tiny_encoder(), config(pool="mean", embedding_dim=20), RATE)
    pooled = torch.randn(30, 16)
    model.align_projection(pooled)
    embedding = model.projection(pooled).detach()
    torch.testing.assert_close(embedding @ embedding.T, pooled @ pooled.T, rtol=1e-3, atol=1e-3)
    assert not embedding[:, 16:].any()


def test_labels(train_clips):
    attributes = attribute_labels(train_clips)
    assert attributes.tolist() == [0, 1, 0, 1, -1, -1, -1, -1]  # fan's speeds; pump has none
    assert domain_labels(train_clips, "machine").tolist() == [0, 0, 0, 1, 2, 2, 2, 3]
    assert domain_labels(train_clips, "domain").tolist() == [0, 0, 0, 1, 0, 0, 0, 1]


def test_target_clips_are_drawn_as_often_as_asked(train_clips):
    clips = [clip for clip in train_clips for _ in range(1 if clip.domain == "target" else 5)]
    attributes, domains = attribute_labels(clips), domain_labels(clips, "domain")
    settings = config(target_share=0.5, loop=LoopConfig(batch_size=20))
    batches = CropBatches(clips, attributes, domains, settings, RATE, 0)
    drawn = torch.cat([batches(step)["domain"] for step in range(10)])
    assert 0.4 < drawn.float().mean() < 0.6
    none = CropBatches(clips, attributes, domains, config(target_share=0.0), RATE, 0)(0)
    assert none["wave"].shape == (4, 2, round(0.3 * RATE))
    assert not none["domain"].any()


@pytest.mark.parametrize("keep", ["source", "target", ""])
def test_a_machine_of_one_domain_can_be_drawn(train_clips, keep):
    clips = [replace(clip, domain=keep) for clip in train_clips]
    batch = CropBatches(clips, attribute_labels(clips), domain_labels(clips, "machine"), config(), RATE, 0)(0)
    assert len(batch["wave"]) == 4


def off() -> AugmentConfig:
    return AugmentConfig(channel_swap=0.0, channel_drop=0.0, gain_db=0.0)


def test_objective_by_hand(tiny_encoder):
    torch.manual_seed(0)
    heads = HeadConfig(attribute_weight=0.7, domain_weight=0.3)
    task = AdaptationTask(AdaptedEncoder(tiny_encoder(), config(augment=off(), heads=heads), RATE), 2, 3).eval()
    batch = {"wave": waves(4), "attribute": torch.tensor([0, -1, 1, -1]), "domain": torch.tensor([0, 1, 2, 0])}
    found = task(batch)
    embedding = task.model.views(batch["wave"]).two_channel
    attribute = task.attribute(embedding[[0, 2]], torch.tensor([0, 1])).mean()  # clips without attributes are left out
    domain = task.domain(embedding, batch["domain"]).mean()
    torch.testing.assert_close(found["loss_attribute"], attribute, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["loss_domain"], domain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["loss"], 0.7 * attribute + 0.3 * domain, rtol=1e-4, atol=1e-5)


def test_without_any_attribute(tiny_encoder):
    task = AdaptationTask(AdaptedEncoder(tiny_encoder(), config(), RATE), 0, 2)
    found = task({"wave": waves(), "attribute": torch.tensor([-1, -1]), "domain": torch.tensor([0, 1])})
    assert found["loss_attribute"] == 0
    assert torch.isfinite(found["loss"])


def test_mixed_losses(tiny_encoder):
    task = AdaptationTask(AdaptedEncoder(tiny_encoder(), config(), RATE), 2, 3).eval()
    embedding, labels = torch.randn(3, 8), torch.tensor([0, 1, 2])
    partner, share = torch.tensor([1, 2, 0]), torch.tensor([0.7, 1.0, 0.6])
    found = _mixed(task.domain, embedding, labels, labels[partner], share)
    expected = share * task.domain(embedding, labels) + (1 - share) * task.domain(embedding, labels[partner])
    torch.testing.assert_close(found, expected)


def test_training_moves_what_it_should(tiny_encoder, train_clips, tmp_path):
    before = {name: tensor.clone() for name, tensor in tiny_encoder().state_dict().items()}
    losses = []
    task = adapt(
        tiny_encoder(),
        train_clips,
        config(loop=LoopConfig(steps=25, batch_size=8, learning_rate=2e-2, warmup_steps=2), augment=off()),
        RATE,
        tmp_path,
        0,
        progress=lambda step, values: losses.append(values["loss"]),
    )
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    after = {name.replace(".base_layer", ""): t for name, t in task.model.encoder.state_dict().items()}
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name
    assert all(t.any() for name, t in after.items() if "lora_B" in name)  # zero before
    assert (tmp_path / ADAPTER).is_file()
    kept = checkpoints.load_file(tmp_path / ADAPTER)["model"]
    assert set(kept) == {name for name, p in task.named_parameters() if p.requires_grad}


def test_a_saved_branch_gives_the_same_embedding(tiny_encoder, train_clips, tmp_path):
    task = adapt(tiny_encoder(), train_clips, config(), RATE, tmp_path, 0)
    loaded = load_adapted(tiny_encoder(), tmp_path / ADAPTER, config())
    assert not any(p.requires_grad for p in loaded.parameters())
    assert not loaded.training
    task.eval()
    with torch.inference_mode():
        for found, expected in zip(loaded.views(waves()), task.model.views(waves()), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_resuming_equals_running_through(tiny_encoder, train_clips, tmp_path):
    adapt(tiny_encoder(), train_clips, config(), RATE, tmp_path / "whole", 3)

    def stop(step, values):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapt(tiny_encoder(), train_clips, config(), RATE, tmp_path / "cut", 3, progress=stop)
    assert not (tmp_path / "cut" / ADAPTER).exists()
    steps = []
    adapt(tiny_encoder(), train_clips, config(), RATE, tmp_path / "cut", 3, progress=lambda s, v: steps.append(s))
    assert steps == [4, 5]
    whole, cut = (checkpoints.load_file(tmp_path / name / ADAPTER) for name in ("whole", "cut"))
    assert whole["metadata"] == cut["metadata"]
    assert set(whole["model"]) == set(cut["model"])
    assert all(torch.equal(whole["model"][name], cut["model"][name]) for name in whole["model"])
    with open(tmp_path / "cut" / "curve.csv") as file:
        rows = list(csv.DictReader(file))
    names = ["step", "loss", "loss_attribute", "loss_domain", "learning_rate", "gradient_norm"]
    assert list(rows[0]) == [*names, "seconds", "clips_per_second"]


def test_all_augmentations_together(tiny_encoder, train_clips, tmp_path):
    augment = AugmentConfig(0.5, 0.5, 6.0, 0.5, 0.5, time_mask=5, frequency_mask=10)
    settings = config(augment=augment, loop=LoopConfig(steps=2, batch_size=4))
    adapt(tiny_encoder(), train_clips, settings, RATE, tmp_path, 0)


def test_adapters_accumulated(tiny_encoder, train_clips, tmp_path):
    """With dropout, mixtures and masks; parts of other encoders and heads: test_adaptation_parts.py."""
    settings = config(lora=LoraConfig(dropout=0.3), augment=AugmentConfig(mixup=0.5, time_mask=5))
    rows = []
    for parts in (1, 2):
        loop = replace(settings.loop, accumulate=parts)
        adapt(tiny_encoder(), train_clips, replace(settings, loop=loop), RATE, tmp_path / str(parts), 0)
        with open(tmp_path / str(parts) / "curve.csv") as file:
            rows.append(
                [[float(row[name]) for name in ("loss_attribute", "loss_domain")] for row in csv.DictReader(file)]
            )
    np.testing.assert_allclose(*rows, rtol=5e-6)
    whole, parts = (checkpoints.load_file(tmp_path / name / ADAPTER)["model"] for name in ("1", "2"))
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("content", ["truncated", "other", "torch"])
def test_damaged_adapters(tiny_encoder, train_clips, tmp_path, content):
    path = tmp_path / ADAPTER
    adapt(tiny_encoder(), train_clips, config(), RATE, tmp_path, 0)
    if content == "truncated":
        path.write_bytes(path.read_bytes()[:100])
    elif content == "other":
        tiny_encoder().save(path)
    else:
        path = tmp_path / "adapter.pt"
        torch.save({"metadata": 3}, path)
    with pytest.raises(WheeltapperError, match=path.name):
        load_adapted(tiny_encoder(), path, config())


def test_an_adapter_of_another_shape_is_refused(tiny_encoder, train_clips, tmp_path):
    adapt(tiny_encoder(), train_clips, config(), RATE, tmp_path, 0)
    with pytest.raises(WheeltapperError, match=rf"{ADAPTER}: does not fit"):
        load_adapted(tiny_encoder(), tmp_path / ADAPTER, config(embedding_dim=9))


def test_test_clips_are_refused(tiny_encoder, record, tmp_path):
    with pytest.raises(WheeltapperError, match="expected a normal training clip"):
        adapt(tiny_encoder(), [record("a.wav", split="test")], config(), RATE, tmp_path, 0)


def test_crops_for_the_projection_are_those_of_one_by_one(tiny_encoder, train_clips, monkeypatch):
    monkeypatch.setattr(adaptation, "ALIGNMENT_BATCH", 3)
    settings = config()
    model = AdaptedEncoder(tiny_encoder(), settings, RATE).eval()
    found = adaptation._pooled_crops(model, train_clips, settings, 4, "cpu")
    generator = np.random.default_rng(step_seed(4, -2))
    expected = []
    for index in sorted(generator.permutation(len(train_clips))):
        near = torch.from_numpy(adaptation.input_crop(train_clips[index], settings, RATE, generator)[:1])
        with torch.no_grad():
            expected.append(model.pooling(model.tokens(model.spectrogram(near)))[0])
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-5)
