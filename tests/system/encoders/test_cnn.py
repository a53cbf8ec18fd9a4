"""ResNeXt: timm's network on librosa's spectrogram, fixed statistics, strict loading."""

import pytest
import timm
import torch
import torchaudio
from checks import (
    FIXTURES,
    RATE,
    assert_batches_and_rates,
    assert_gradients,
    assert_low_precision,
    assert_saved,
    disturb,
    meta_shapes,
    published_shapes,
    relative,
    wave,
)
from safetensors.torch import save_file
from timm.models.resnet import Bottleneck, ResNet

from system.adaptation.lora import add_lora
from system.adaptation.model import AdaptationTask, AdaptedEncoder
from system.config import EncoderBranchConfig, EncoderConfig, LoraConfig
from system.encoders import checkpoints, load_encoder, wrapped
from system.encoders.cnn import ResNeXt, ResNeXtConfig
from system.errors import WheeltapperError

FRAMES = 1251  # of 10 s
CLASSIFIER = {"fc.weight": torch.ones(10, 128), "fc.bias": torch.ones(10)}


def lively(network: torch.nn.Module) -> torch.nn.Module:
    """Sets random statistics of batch normalisation."""
    generator = torch.Generator().manual_seed(2)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.add_(0.1 * torch.randn(buffer.shape, generator=generator))
        elif name.endswith("running_var"):
            buffer.mul_(0.5 + torch.rand(buffer.shape, generator=generator))
    return network


@pytest.fixture
def nano() -> ResNeXt:
    return lively(disturb(ResNeXt.build("nano", 0), 0.05)).requires_grad_(False)


def plain(encoder: ResNeXt) -> ResNet:
    """The same weights in a network built by timm."""
    sizes = encoder.config
    channels = [sizes.planes * 2**stage for stage in range(4)]
    network = ResNet(
        Bottleneck,
        sizes.layers,
        num_classes=0,
        cardinality=sizes.cardinality,
        base_width=sizes.base_width,
        channels=channels,
    )
    network.load_state_dict(encoder.to_published(encoder.state_dict()))
    return network.eval()


def pictures(spectrogram: torch.Tensor) -> torch.Tensor:
    return torch.stack([spectrogram.transpose(1, 2)] * 3, 1)


def test_names_shapes_and_parameters_of_the_published_size():
    parameters, shapes = meta_shapes(ResNeXt, "101-32x8d")
    assert parameters == 86_742_336
    assert shapes == published_shapes("resnext101_32x8d_timm.txt")
    assert len(shapes) == 624
    with torch.device("meta"):
        network = timm.create_model("resnext101_32x8d", num_classes=0)
    assert {name: tuple(t.shape) for name, t in network.state_dict().items()} == shapes
    assert (FIXTURES / "keys" / "resnext101_32x8d_timm.txt").is_file()


@torch.inference_mode()
def test_the_published_size_equals_timm():
    network = lively(timm.create_model("resnext101_32x8d", num_classes=0)).eval()
    with torch.device("meta"):
        encoder = ResNeXt(ResNeXt.SIZES["101-32x8d"]).eval()
    encoder.load_state_dict(encoder.from_published(network.state_dict()), assign=True)
    spectrogram = torch.randn(1, 64, 128, generator=torch.Generator().manual_seed(0))
    tokens = encoder(spectrogram)
    assert (encoder.dim, encoder.grid_bands(RATE), encoder.bands(RATE)) == (2048, 4, 1)
    assert tokens.grid.shape == (1, 2, 4, 2048)
    assert relative(tokens.summary[:, 0], network(pictures(spectrogram))) < 1e-5


@torch.inference_mode()
def test_equals_timm(nano):
    network = plain(nano)
    spectrogram = nano.spectrogram(wave(10.0, batch=2), RATE)
    image = pictures(spectrogram)
    tokens = nano(spectrogram)
    assert tokens.grid.shape == (2, 40, 4, 128)
    assert relative(tokens.grid.permute(0, 3, 2, 1), network.forward_features(image)) < 1e-5
    assert relative(tokens.summary[:, 0], network(image)) < 1e-5
    assert relative(nano.embed(wave(10.0, batch=2), RATE), network(image)) < 1e-5


@torch.inference_mode()
@pytest.mark.parametrize(("depth", "shape"), [(1, (25, 32, 16)), (2, (13, 16, 32)), (3, (7, 8, 64)), (4, (4, 4, 128))])
def test_every_stage(nano, depth, shape):
    spectrogram = torch.randn(2, 100, 128, generator=torch.Generator().manual_seed(0))
    tokens = nano(spectrogram, depth)
    expected = plain(nano).forward_intermediates(pictures(spectrogram), indices=[depth], intermediates_only=True)[0]
    assert tokens.grid.shape == (2, *shape)
    assert relative(tokens.grid.permute(0, 3, 2, 1), expected) < 1e-5
    assert relative(tokens.summary[:, 0], expected.mean((2, 3))) < 1e-5


@pytest.mark.parametrize("depth", [0, 5])
def test_no_such_stage(nano, depth):
    with pytest.raises(WheeltapperError, match=f"ResNeXt depth: expected 1 to 4 blocks, found {depth}"):
        nano(torch.zeros(1, 64, 128), depth)


@pytest.mark.parametrize(("seconds", "loud"), [(10.0, 1.0), (0.3, 1e-4), (1.0, 30.0)])
def test_front_end_equals_torchaudio(nano, seconds, loud):
    samples = wave(seconds) * loud
    samples[:, : samples.shape[1] // 3] *= 1e-6  # more than 80 dB below the rest
    mel = torchaudio.transforms.MelSpectrogram(
        RATE, n_fft=2048, hop_length=128, n_mels=128, pad_mode="constant", norm="slaney", mel_scale="slaney"
    )
    level = torchaudio.transforms.AmplitudeToDB("power", top_db=80.0)(mel(samples)[0].double()).T
    expected = (level - level.mean()) / level.std(correction=0)
    found = nano.spectrogram(samples, RATE)[0]
    assert found.shape == expected.shape == (1 + samples.shape[1] // 128, 128)
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=0)


def test_front_end_of_ten_seconds(nano):
    found = nano.spectrogram(torch.cat([wave(10.0), torch.zeros(1, 10 * RATE)]), RATE)
    assert found.shape == (2, FRAMES, 128)
    assert nano.frame_limit == FRAMES
    assert found[0].mean().abs() < 1e-5
    assert (found[0].square().mean() - 1).abs() < 1e-4
    assert not found[1].any()  # silence
    assert relative(nano.spectrogram(0.01 * wave(10.0), RATE), found[:1]) < 1e-3  # at any level


@torch.inference_mode()
@pytest.mark.parametrize("seconds", [1 / RATE, 0.01, 0.1, 0.3, 10.0, 12.5])
def test_any_length(nano, seconds):
    for samples in (wave(seconds), torch.zeros(1, round(seconds * RATE))):
        frames = max(32, 1 + samples.shape[1] // 128)
        pieces = [min(FRAMES, frames - start) for start in range(0, frames, FRAMES)]
        tokens = nano(nano.spectrogram(samples, RATE))
        assert tokens.grid.shape == (1, sum(-(-piece // 32) for piece in pieces), 4, 128)
        assert tokens.summary.shape == (1, 1, 128)
        assert torch.isfinite(tokens.grid).all()
        assert torch.isfinite(nano.embed(samples, RATE)).all()


@torch.inference_mode()
def test_longer_recordings_go_in_pieces(nano):
    spectrogram = torch.randn(1, FRAMES + 400, 128, generator=torch.Generator().manual_seed(0))
    first, second = (nano(part) for part in (spectrogram[:, :FRAMES], spectrogram[:, FRAMES:]))
    tokens = nano(spectrogram)
    torch.testing.assert_close(tokens.grid, torch.cat([first.grid, second.grid], 1))
    expected = (FRAMES * first.summary + 400 * second.summary) / (FRAMES + 400)
    torch.testing.assert_close(tokens.summary, expected)
    torch.testing.assert_close(nano.embed_spectrogram(spectrogram), expected[:, 0])


def test_batches_and_rates(nano):
    assert_batches_and_rates(nano)


def test_low_precision(nano):
    assert_low_precision(nano)


def test_gradients(nano):
    assert_gradients(nano)


def test_statistics_stay_in_training(nano):
    spectrogram = 3.0 * torch.randn(4, 64, 128, generator=torch.Generator().manual_seed(0)) + 1.0
    expected = nano(spectrogram).summary
    before = {name: tensor.clone() for name, tensor in nano.state_dict().items()}
    assert nano.train() is nano
    assert nano.training
    assert nano.network.layer1.training
    assert torch.equal(nano(spectrogram).summary, expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in nano.state_dict().items())
    holder = torch.nn.Sequential(nano).eval()
    assert not nano.training
    holder.train()
    assert not nano.network.bn1.training


def test_no_adapters_unless_asked_for(nano):
    samples = wave(1.0)
    before = nano.embed(samples, RATE)
    encoder = add_lora(nano.requires_grad_(True), LoraConfig())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert torch.equal(encoder.embed(samples, RATE), before)
    adapted = add_lora(nano, LoraConfig(rank=2, targets=["layer4.0.conv1", "layer4.0.conv3"])).eval()
    assert {n: tuple(p.shape) for n, p in adapted.named_parameters() if p.requires_grad} == {
        "network.layer4.0.conv1.lora_A.default.weight": (2, 64, 1, 1),
        "network.layer4.0.conv1.lora_B.default.weight": (128, 2, 1, 1),
        "network.layer4.0.conv3.lora_A.default.weight": (2, 128, 1, 1),
        "network.layer4.0.conv3.lora_B.default.weight": (128, 2, 1, 1),
    }
    assert torch.equal(adapted.embed(samples, RATE), before)
    with pytest.raises(WheeltapperError, match=r"lora\.targets: expected names among 0, conv1, .*conv3, found qkv"):
        add_lora(ResNeXt.build("nano", 0), LoraConfig(targets=["qkv"]))


@pytest.mark.parametrize(("depth", "pool"), [(0, "band"), (2, "mean"), (3, "cls"), (1, "attentive")])
def test_a_branch_trains_on_any_stage(depth, pool):
    torch.manual_seed(0)
    branch = EncoderBranchConfig(depth=depth, pool=pool, embedding_dim=8)
    task = AdaptationTask(AdaptedEncoder(ResNeXt.build("nano", 0), branch, RATE), 2, 2).train()
    waves = 0.1 * torch.randn(2, 2, RATE)
    labels = torch.tensor([0, 1])
    task({"wave": waves, "attribute": labels, "domain": labels})["loss"].backward()
    gradients = {name: p.grad for name, p in task.named_parameters() if p.requires_grad}
    assert not any("encoder" in name for name in gradients)
    assert all(torch.isfinite(grad).all() for grad in gradients.values())
    assert gradients["model.projection.weight"].any()


def published(encoder: ResNeXt) -> dict[str, torch.Tensor]:
    """Copies of our tensors with timm's names, and a classifier."""
    tensors = encoder.to_published(encoder.state_dict())
    return {name: tensor.clone() for name, tensor in tensors.items()} | CLASSIFIER


def write_safetensors(tensors, folder):
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text('{"architecture": "resnext101_32x8d", "num_classes": 10, "layers": 3}')
    return folder / "model.safetensors"


def write_torch(tensors, folder):
    torch.save(tensors, folder / "resnext.pth")
    return folder / "resnext.pth"


def write_training_state(tensors, folder):
    state = {f"module.{name}": tensor for name, tensor in tensors.items()}
    return write_torch({"epoch": 3, "arch": "resnext101_32x8d", "state_dict": state}, folder)


def write_without_counters(tensors, folder):
    return write_torch({n: t for n, t in tensors.items() if not n.endswith("num_batches_tracked")}, folder)


@pytest.mark.parametrize("write", [write_safetensors, write_torch, write_training_state, write_without_counters])
def test_published_layouts(nano, tmp_path, write):
    path = write(published(nano), tmp_path)
    found = ResNeXt.load(path)
    assert found.config == nano.config
    assert not found.training
    samples = wave(0.5)
    assert torch.equal(found.embed(samples, RATE), nano.embed(samples, RATE))
    again = load_encoder(EncoderConfig(family="cnn", checkpoint=str(path)), 0)
    assert torch.equal(again.embed(samples, RATE), nano.embed(samples, RATE))


def test_sizes_are_told_by_the_shapes(tmp_path):
    config = ResNeXtConfig(layers=(2, 1, 3, 1), cardinality=2, base_width=32, planes=8)
    encoder = ResNeXt.untrained(config, 0)
    assert ResNeXt.load(write_torch(published(encoder), tmp_path)).config == config
    shapes = published_shapes("resnext101_32x8d_timm.txt")
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    assert ResNeXt.published(wrapped.unwrap(tensors), {}, "x")[0] == ResNeXt.SIZES["101-32x8d"] == ResNeXtConfig()


def test_own_file(nano, tmp_path):
    assert_saved(nano, "layer4.0.bn3.running_var", tmp_path / "own.safetensors")


LAST = "layer4.0.bn3.weight"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.pop(LAST), f"missing network.{LAST}"),
        (lambda t: t.pop("bn1.running_mean"), r"missing network.bn1.running_mean"),
        (lambda t: t.update({"layer4.0.se.weight": torch.ones(2)}), "unexpected network.layer4.0.se.weight"),
        (lambda t: t.update({LAST: torch.ones(64)}), r"bn3.weight \(64,\) instead of \(128,\)"),
        (lambda t: t.update({"conv1.weight": torch.ones(64, 1, 7, 7)}), "conv1.weight .* instead of"),
        (lambda t: t.update({LAST: torch.full((128,), torch.nan)}), "bn3.weight holds NaN or infinity"),
        (lambda t: t.update({LAST: [1.0]}), "bn3.weight is not an ordinary tensor"),
        (lambda t: t.pop("layer1.0.conv3.weight"), "expected a ResNeXt checkpoint .* found the keys conv1.weight"),
        (lambda t: t.update({"layer1.0.conv3.weight": 3}), "expected a ResNeXt checkpoint"),
        (lambda t: t.update({"layer1.0.conv2.weight": torch.ones(4)}), r"layer1.0: expected kernels .* \(4,\)"),
        (lambda t: t.update({"layer1.0.conv2.weight": torch.ones(0, 4, 3, 3)}), "layer1.0: expected kernels"),
        (lambda t: t.update({"layer1.0.conv2.weight": torch.ones(1, 16, 3, 3)}), "impossible sizes"),
        (lambda t: [t.pop(name) for name in list(t) if name.startswith("layer4")], "impossible sizes"),
        (lambda t: t.clear(), "expected a ResNeXt checkpoint"),
    ],
)
def test_bad_checkpoints(nano, tmp_path, change, text):
    tensors = published(nano)
    change(tensors)
    with pytest.raises(WheeltapperError, match=rf"resnext\.pth: .*{text}") as caught:
        ResNeXt.load(write_torch(tensors, tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        '{"layers": [1, 1, 1]}',
        '{"layers": [1, 1, 1, "2"]}',
        '{"layers": 4}',
        '{"planes": 0}',
        '{"planes": 4, "base_width": 8}',
        '{"cardinality": "many"}',
    ],
)
def test_bad_metadata(nano, tmp_path, config):
    path = tmp_path / "bad.safetensors"
    checkpoints.save(path, nano.to_published(nano.state_dict()), {"family": "ResNeXt", "config": config})
    with pytest.raises(WheeltapperError, match=r"bad\.safetensors: (cfg|does not fit)"):
        ResNeXt.load(path)


def test_another_family_is_refused(tmp_path):
    checkpoint = FIXTURES / "encoders" / "fisher" / "fisher.pt"
    with pytest.raises(WheeltapperError, match=r"fisher\.pt: expected a ResNeXt checkpoint"):
        ResNeXt.load(checkpoint)


def test_build_is_deterministic():
    first, second, other = (ResNeXt.build("nano", seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["network.conv1.weight"], other["network.conv1.weight"])
    assert all(first[f"network.layer{stage}.0.bn3.weight"].eq(1).all() for stage in (1, 2, 3, 4))  # every block counts
    with pytest.raises(WheeltapperError, match="ResNeXt size: expected one of nano, 101-32x8d, found '50'"):
        ResNeXt.build("50", 0)


def test_front_end_options(nano):
    with pytest.raises(WheeltapperError, match="filterbank: expected mel with ResNeXt, found 'even'"):
        nano.set_front_end("even")
    samples = wave(0.5)
    before = nano.spectrogram(samples, RATE)
    assert not torch.equal(nano.set_front_end("mel", "local").spectrogram(samples, RATE), before)
