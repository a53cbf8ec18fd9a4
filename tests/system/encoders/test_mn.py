"""EfficientAT's MobileNetV3: torchvision's network and a plain NumPy front end as references, any block, any length."""

import json
from functools import partial

import numpy as np
import pytest
import torch
import torchaudio
from checks import FIXTURES, RATE, disturb, meta_shapes, published_shapes, relative, wave
from test_cnn import lively
from torch import nn
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3
from torchvision.ops import SqueezeExcitation

from system import audio
from system.adaptation.lora import add_lora
from system.config import EncoderConfig, LoraConfig
from system.embeddings.embed import frozen_network
from system.embeddings.precision import choose_precision
from system.embeddings.recordings import write_embeddings
from system.encoders import cards, checkpoints, load_encoder, wrapped
from system.encoders.cost import multiply_adds
from system.encoders.mn import MobileNet, MobileNetConfig, channels
from system.errors import WheeltapperError
from system.explain.gradcam import grad_cam, squared_length
from system.pipeline.frozen_encoder import frozen_encoder

OWN_RATE = 32000
# Kernel, expanded, out, squeezed, activation, stride, and the input before them, as MobileNetV3-large has them.
LARGE = [
    (16, 3, 16, 16, False, "RE", 1), (16, 3, 64, 24, False, "RE", 2), (24, 3, 72, 24, False, "RE", 1),
    (24, 5, 72, 40, True, "RE", 2), (40, 5, 120, 40, True, "RE", 1), (40, 5, 120, 40, True, "RE", 1),
    (40, 3, 240, 80, False, "HS", 2), (80, 3, 200, 80, False, "HS", 1), (80, 3, 184, 80, False, "HS", 1),
    (80, 3, 184, 80, False, "HS", 1), (80, 3, 480, 112, True, "HS", 1), (112, 3, 672, 112, True, "HS", 1),
    (112, 5, 672, 160, True, "HS", 2), (160, 5, 960, 160, True, "HS", 1), (160, 5, 960, 160, True, "HS", 1),
]  # fmt: skip


@pytest.fixture(scope="module")
def nano() -> MobileNet:
    return lively(disturb(MobileNet.build("nano", 0), 0.05)).requires_grad_(False)


def plain(encoder: MobileNet) -> nn.Sequential:
    """The same weights in torchvision's network, with one input channel and a plain sigmoid."""
    settings = [InvertedResidualConfig(*row, dilation=1, width_mult=encoder.config.width) for row in LARGE]
    norm = partial(nn.BatchNorm2d, eps=1e-3)
    network = MobileNetV3(settings, 8, 2, norm_layer=norm).features
    network[0][0] = nn.Conv2d(1, network[0][0].out_channels, 3, 2, 1, bias=False)
    for module in network.modules():
        if isinstance(module, SqueezeExcitation):
            module.scale_activation = nn.Sigmoid()
    published = encoder.to_published(encoder.state_dict())
    tensors = {name.replace(".conc_se_layers.0", "").removeprefix("features."): t for name, t in published.items()}
    own = network.state_dict()
    network.load_state_dict({name: tensor.reshape(own[name].shape) for name, tensor in tensors.items()})
    return network.eval()


def plain_spectrogram(samples: np.ndarray) -> np.ndarray:
    """Log-mel spectrogram (128, T) of (samples,) in double precision, frame by frame."""
    emphasised = samples[1:].astype(np.float64) - 0.97 * samples[:-1]
    window = np.pad(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(800) / 799), 112)
    padded = np.pad(emphasised, 512, mode="reflect")
    power = [np.abs(np.fft.rfft(padded[t : t + 1024] * window)) ** 2 for t in range(0, len(emphasised) + 1, 320)]
    filters, _ = torchaudio.compliance.kaldi.get_mel_banks(128, 1024, 32000.0, 0.0, 15000.0, 100.0, -500.0, 1.0)
    mel = np.stack(power)[:, :512] @ filters.numpy().astype(np.float64).T
    return ((np.log(mel + 1e-5) + 4.5) / 5.0).T


def test_names_shapes_and_parameters_of_the_published_size():
    parameters, shapes = meta_shapes(MobileNet, "mn04")
    listed = published_shapes("mn04_as.txt")
    assert parameters == 516_128
    assert shapes == {name: shape for name, shape in listed.items() if not name.startswith("classifier.")}
    assert (FIXTURES / "keys" / "mn04_as.txt").is_file()


@pytest.mark.parametrize(
    ("size", "millions"), [("mn05", 1.43), ("mn10", 4.88), ("mn20", 17.91), ("mn30", 39.09), ("mn40", 68.43)]
)
def test_parameters_of_the_wider_sizes(size, millions):
    """With the classifier, as the authors print them."""
    parameters, _ = meta_shapes(MobileNet, size)
    width = MobileNet.SIZES[size]
    hidden = channels(1280 * width.width)
    head = (width.last + 1) * hidden + (hidden + 1) * 527
    assert round((parameters + head) / 1e6, 2) == millions


@torch.inference_mode()
def test_every_block_equals_torchvision(nano):
    spectrogram = torch.randn(2, 77, 128, generator=torch.Generator().manual_seed(0))
    network, x = plain(nano), spectrogram.transpose(1, 2)[:, None]
    x = network[0](x)
    for number in range(1, 17):
        x = network[number](x)
        tokens = nano(spectrogram, number)
        assert relative(tokens.grid.permute(0, 3, 2, 1), x) < 1e-5
        assert relative(tokens.summary[:, 0], x.mean((2, 3))) < 1e-5
    assert tokens.grid.shape == (2, 3, nano.grid_bands(RATE), nano.dim)
    with pytest.raises(WheeltapperError, match="EfficientAT depth: expected 1 to 16 blocks, found 17"):
        nano(spectrogram, 17)


@torch.inference_mode()
def test_the_published_size_equals_torchvision():
    encoder = lively(MobileNet.build("mn04", 0))
    spectrogram = torch.randn(1, 100, 128, generator=torch.Generator().manual_seed(0))
    expected = plain(encoder)(spectrogram.transpose(1, 2)[:, None]).mean((2, 3))
    assert relative(encoder.embed_spectrogram(spectrogram), expected) < 1e-5


@pytest.mark.parametrize(("samples", "loud"), [(48000, 1.0), (32320, 1e-4), (700, 1.0), (64000, 0.0)])
def test_front_end_equals_numpy(nano, samples, loud):
    wave_ = loud * 0.1 * np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    found = nano.spectrogram(torch.from_numpy(wave_)[None], OWN_RATE)[0].T.numpy()
    assert found.shape == (128, 1 + (samples - 1) // 320)
    np.testing.assert_allclose(found, plain_spectrogram(wave_), atol=1e-4)
    if not loud:
        np.testing.assert_allclose(found, (np.log(1e-5) + 4.5) / 5.0, rtol=1e-6)


@torch.inference_mode()
def test_the_whole_recording_and_pieces(nano):
    samples = wave(12.0, OWN_RATE)
    spectrogram = nano.spectrogram(samples, OWN_RATE)
    network = plain(nano)

    def mean(part: torch.Tensor) -> torch.Tensor:
        return network(part.transpose(1, 2)[:, None]).mean((2, 3))

    assert spectrogram.shape == (1, 1200, 128)
    assert relative(nano.embed(samples, OWN_RATE), mean(spectrogram)) < 1e-5
    first, last = mean(spectrogram[:, :1000]), mean(spectrogram[:, -1000:])
    assert relative(nano.embed(samples, OWN_RATE, "chunks"), (first + last) / 2) < 1e-5
    rest = mean(spectrogram[:, 1000:])
    assert relative(nano(spectrogram).summary[:, 0], (5 * first + rest) / 6) < 1e-5
    # Each piece is seen whole by its blocks, so that half a recording's features are not half of its features.
    spectrogram[:, 480:] *= -2.0
    half = nano(spectrogram[:, :480], 10).grid
    assert relative(nano(spectrogram[:, :960], 10).grid[:, :25], half[:, :25]) > 1e-3


@torch.inference_mode()
@pytest.mark.parametrize("seconds", [1 / OWN_RATE, 0.01, 0.1, 0.3, 11.0])
def test_any_length(nano, seconds):
    for samples in (wave(seconds, OWN_RATE), torch.zeros(1, round(seconds * OWN_RATE))):
        frames = nano.spectrogram(samples, OWN_RATE).shape[1]
        tokens = nano(nano.spectrogram(samples, OWN_RATE))
        pieces = [1000, frames - 1000] if frames > 1000 else [frames]
        assert tokens.grid.shape == (1, sum(-(-piece // 32) for piece in pieces), 4, nano.dim)
        assert all(torch.isfinite(nano.embed(samples, OWN_RATE, mode)).all() for mode in nano.modes)
    if 0.05 < seconds < 1.0:  # what is short is not padded
        spectrogram = nano.spectrogram(samples, OWN_RATE)
        expected = plain(nano)(spectrogram.transpose(1, 2)[:, None]).mean((2, 3))
        assert relative(nano.embed(samples, OWN_RATE), expected) < 1e-5


@torch.inference_mode()
def test_batches_and_the_resampler(nano):
    samples = wave(1.3, batch=3)
    for mode in nano.modes:
        together = nano.embed(samples, RATE, mode)
        alone = torch.cat([nano.embed(row, RATE, mode) for row in samples.split(1)])
        torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)
    kernel = torchaudio.transforms.Resample(RATE, OWN_RATE)
    assert torch.equal(nano.embed(samples, RATE), nano.embed(kernel(samples), OWN_RATE))
    assert not torch.allclose(nano.embed(samples, RATE), nano.embed(audio.resampler(RATE, OWN_RATE)(samples), OWN_RATE))


@torch.inference_mode()
def test_pooling_of_a_block_keeps_frequency(nano):
    spectrogram = nano.spectrogram(wave(1.0), RATE)
    for number, bands in ((4, 16), (10, 8), (12, 8), (16, 4)):
        grid = nano(spectrogram, number).grid
        found = frozen_network(nano, pool="band", depth=number, rate=RATE)(spectrogram)
        assert grid.shape[2] == bands
        torch.testing.assert_close(found[0], grid[0].mean(0).flatten())
        for pool in ("gem", "rdp"):
            assert frozen_network(nano, pool=pool, depth=number, rate=RATE)(spectrogram).shape == found.shape


def test_statistics_stay_and_weights_learn(nano):
    encoder = MobileNet.build("nano", 0).train()
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    tokens = encoder(torch.randn(2, 200, 128, generator=torch.Generator().manual_seed(0)))
    (tokens.grid.square().mean() + tokens.summary.sum()).backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in encoder.named_buffers())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in encoder.parameters())
    groups = encoder.layer_groups()
    assert len(groups) == 17
    assert sum(map(len, groups)) == len(list(encoder.parameters()))


def test_adapters(nano):
    samples = wave(0.5)
    before = nano.embed(samples, RATE)
    adapted = add_lora(MobileNet.build("nano", 0), LoraConfig(rank=2, targets=["expand", "project", "fc1"])).eval()
    trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in trained)
    assert trained["blocks.9.project.lora_B.default.weight"].shape == (8, 2, 1, 1)
    assert trained["blocks.9.expand.lora_A.default.weight"].shape == (2, 8, 1, 1)
    assert "blocks.11.squeeze.fc1.lora_A.default.weight" in trained
    assert torch.equal(nano.embed(samples, RATE), before)
    unchanged = MobileNet.build("nano", 0).embed(samples, RATE)
    torch.testing.assert_close(adapted.embed(samples, RATE), unchanged)
    with pytest.raises(WheeltapperError, match=r"lora\.targets: expected names among conv, .*project, found qkv"):
        add_lora(MobileNet.build("nano", 0), LoraConfig(targets=["qkv"]))


def test_precision_and_cost(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    with torch.device("meta"):
        small, wide = (MobileNet(MobileNet.SIZES[size]) for size in ("mn04", "mn20"))
    assert (choose_precision("auto", "cpu", small), choose_precision("auto", "cpu", wide)) == ("fp32", "fp32")
    with pytest.raises(WheeltapperError, match="expected fp32, bf16 or auto with EfficientAT, found int8"):
        choose_precision("int8", "cpu", small)
    encoder = MobileNet.build("mn04", 0)
    macs = multiply_adds(encoder, torch.zeros(1, 1000, 128))
    assert round(macs / 1e9, 2) == 0.11  # as the authors print it
    low = MobileNet.build("nano", 0).to(torch.bfloat16)
    exact = MobileNet.build("nano", 0).embed(wave(1.0), RATE)
    found = low.embed(wave(1.0), RATE)
    assert found.dtype == torch.float32
    assert torch.cosine_similarity(found, exact).min() > 0.999


@pytest.mark.parametrize("frames", [1, 20, 77, 1010])
def test_grad_cam(nano, frames):
    spectrogram = torch.randn(1, frames, 128, generator=torch.Generator().manual_seed(0))
    found = grad_cam(nano, squared_length(nano), spectrogram, nano.shown)
    assert found.shape == (3, frames, 128)
    assert np.isfinite(found).all()
    assert (found.max((1, 2)) > 0).any()


def published(encoder: MobileNet) -> dict[str, torch.Tensor]:
    """Copies of our tensors with the published names, and a classifier."""
    tensors = encoder.to_published(encoder.state_dict())
    head = {"classifier.2.weight": torch.ones(8, encoder.dim), "classifier.5.bias": torch.ones(527)}
    return {name: tensor.clone() for name, tensor in tensors.items()} | head


def test_published_files(nano, tmp_path):
    samples, path = wave(0.5), tmp_path / "mn.pt"
    for tensors in (published(nano), {"state_dict": {f"module.{n}": t for n, t in published(nano).items()}}):
        torch.save(tensors, path)
        found = MobileNet.load(path)
        assert found.config == nano.config
        assert torch.equal(found.embed(samples, RATE), nano.embed(samples, RATE))
    assert cards.family_of(path) == "mn"
    again = load_encoder(EncoderConfig(family="mn", size="mn04", checkpoint=str(path)), 0)
    assert torch.equal(again.embed(samples, RATE), nano.embed(samples, RATE))


@pytest.mark.parametrize("size", [*MobileNet.SIZES, 0.75])
def test_the_width_is_told_by_the_shapes(size):
    config = MobileNet.SIZES.get(size) or MobileNetConfig(size)
    with torch.device("meta"):
        encoder = MobileNet(config)
    tensors = encoder.to_published(encoder.state_dict())
    found, own = MobileNet.published(wrapped.unwrap(tensors), {}, "x")
    assert found == config
    assert {name: t.shape for name, t in own.items()} == {n: t.shape for n, t in encoder.state_dict().items()}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.pop("features.16.1.weight"), r"missing blocks\.15\.norm\.weight"),
        (lambda t: t.pop("features.14.block.2.conc_se_layers.0.fc1.bias"), r"missing blocks\.13\.squeeze\.fc1\.bias"),
        (lambda t: t.update({"features.3.block.7.0.weight": torch.ones(2)}), "does not fit"),
        (lambda t: t.update({"features.17.0.weight": torch.ones(2)}), r"unexpected blocks\.16\.conv\.weight"),
        (lambda t: t.update({"features.0.0.weight": torch.ones(8, 3, 3, 3)}), r"stem\.conv\.weight .* instead of"),
        (lambda t: t.update({"features.16.0.weight": torch.ones(0, 8, 1, 1)}), "impossible sizes"),
        (lambda t: t.update({"features.16.0.weight": torch.ones(())}), "impossible sizes"),
        (lambda t: t.update({"features.9.block.0.0.weight": torch.full((16, 8, 1, 1), torch.nan)}), "NaN or infinity"),
        (lambda t: t.pop("features.16.0.weight"), "expected an EfficientAT checkpoint .* found the keys features"),
        (lambda t: t.clear(), "expected an EfficientAT checkpoint"),
    ],
)
def test_bad_checkpoints(nano, tmp_path, change, text):
    tensors = published(nano)
    change(tensors)
    torch.save(tensors, tmp_path / "mn.pt")
    with pytest.raises(WheeltapperError, match=rf"mn\.pt: .*{text}") as caught:
        MobileNet.load(tmp_path / "mn.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", ['{"width": 0}', '{"width": -1}', '{"width": 1e9}', '{"width": "wide"}'])
def test_bad_metadata(nano, tmp_path, config):
    path = tmp_path / "bad.safetensors"
    checkpoints.save(path, nano.to_published(nano.state_dict()), {"family": "EfficientAT", "config": config})
    with pytest.raises(WheeltapperError, match=r"bad\.safetensors: cfg"):
        MobileNet.load(path)


def test_the_enhanced_front_end(nano):
    samples = wave(0.5)
    before = nano.spectrogram(samples, RATE)
    assert not torch.equal(MobileNet.build("nano", 0).set_front_end("mel", "local").spectrogram(samples, RATE), before)
    with pytest.raises(WheeltapperError, match="filterbank: expected mel with EfficientAT, found 'even'"):
        nano.set_front_end("even")


def test_a_checkpoint_s_name_stands_for_its_architecture():
    assert frozen_encoder("mn04", "random").config == frozen_encoder("mn", "random").config == MobileNetConfig(0.4)
    assert frozen_encoder("mn10", "random").config == frozen_encoder("mn-mn10", "random").config == MobileNetConfig(1.0)
    assert frozen_encoder("fisher-tiny", "random").config.embed_dim == 192


def test_the_resampler_is_recorded(nano, tmp_path):
    audio.write(tmp_path / "a.wav", wave(0.5).numpy(), RATE)
    write_embeddings(tmp_path / "x.npz", nano, [tmp_path / "a.wav"], tmp_path, "nano")
    with np.load(tmp_path / "x.npz") as found:
        record = json.loads(str(found["record"]))
    assert record["resampler"] == "torchaudio sinc_interp_hann, width 6, roll-off 0.99, to 32000 Hz"
