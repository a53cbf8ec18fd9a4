"""AudioMAE: equal to the official embedding, to timm and to torchaudio's filter bank; every layout of its weights."""

import argparse
import json
import shutil

import checks
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from checks import FIXTURES, RATE, relative, wave
from numpy_fisher import position

from system.config import EncoderConfig
from system.encoders import load_encoder
from system.encoders.audiomae import AudioMae, AudioMaeConfig
from system.encoders.eat import Eat
from system.encoders.fisher import Fisher
from system.errors import WheeltapperError

CHECKPOINT = FIXTURES / "encoders" / "audiomae" / "audiomae.pth"
CASES = np.load(FIXTURES / "encoders" / "audiomae" / "audiomae_cases.npz")
TENSORS = torch.load(CHECKPOINT, weights_only=True)["model"]
TOY = AudioMaeConfig(embed_dim=16, depth=3, num_heads=2, mlp_ratio=2.0)
MEAN, DEVIATION = -4.2677393, 4.5689974


@pytest.fixture(scope="module")
def official() -> AudioMae:
    return AudioMae.load(CHECKPOINT).requires_grad_(False)


@pytest.fixture(scope="module")
def toy() -> AudioMae:
    return checks.toy(AudioMae, TOY)


def timm_model(tensors: dict, frames: int = 1024) -> torch.nn.Module:
    """timm's ViT of the fixture's sizes, its position table cut to ``frames``."""
    module = timm.models.VisionTransformer(
        img_size=(frames, 128), in_chans=1, embed_dim=64, depth=2, num_heads=2, num_classes=0, global_pool="avg"
    )
    cut = tensors["pos_embed"][:, : 1 + frames // 16 * 8]
    module.load_state_dict({**tensors, "pos_embed": cut})
    return module.eval().requires_grad_(False)


@pytest.mark.parametrize("case", [0, 1])
@torch.inference_mode()
def test_equals_the_official_embedding(official, case):
    found = official.embed(torch.from_numpy(CASES[f"case{case}.wav"])[None], int(CASES[f"case{case}.sr"]))[0]
    assert relative(found, CASES[f"case{case}.embedding"]) < 1e-5  # asked for: 1e-4; reached: 1e-6


@pytest.mark.parametrize("seconds", [0.4, 10.0, 11.0])
@torch.inference_mode()
def test_equals_timm(official, seconds):
    samples = wave(seconds)
    image = checks.kaldi_spectrogram(samples, 1024, MEAN, DEVIATION)
    model = timm_model(TENSORS)
    assert relative(official.embed(samples, RATE), model(image[:, None])) < 1e-5
    # RMIS: the same mean with a norm that was never trained.
    mean = model.forward_features(image[:, None])[:, 1:].mean(1)
    plain = torch.nn.functional.layer_norm(mean, (64,), eps=1e-6)
    assert relative(official.embed(samples, RATE, "rmis"), plain) < 1e-5


@pytest.mark.parametrize("frames", [16, 160, 1024])
@torch.inference_mode()
def test_tokens_of_any_depth_equal_timm(official, frames):
    """Shorter clips take the first rows of the position table."""
    spectrogram = torch.randn(2, frames, 128, generator=torch.Generator().manual_seed(0))
    model = timm_model(TENSORS, frames)
    last, layers = model.forward_intermediates(
        spectrogram[:, None], norm=False, output_fmt="NLC", return_prefix_tokens=True
    )
    tokens = official(spectrogram, 1)
    assert relative(tokens.grid.flatten(1, 2), layers[0][0]) < 1e-5
    assert relative(tokens.summary, layers[0][1]) < 1e-5
    for depth in (None, 2):
        tokens = official(spectrogram, depth)
        assert tokens.grid.shape == (2, frames // 16, 8, 64)
        assert relative(tokens.grid.flatten(1, 2), model.fc_norm(last[:, 1:])) < 1e-5
        assert relative(tokens.summary, model.fc_norm(last[:, :1])) < 1e-5
    with pytest.raises(WheeltapperError, match="AudioMAE depth: expected 1 to 2 blocks, found 3"):
        official(spectrogram, 3)


@torch.inference_mode()
def test_chunks_are_averaged(official):
    samples = wave(21.0)
    spectrogram = official.spectrogram(samples, RATE)
    assert spectrogram.shape == (1, 2098, 128)
    model = timm_model(TENSORS)
    parts = [model(spectrogram[:, None, start : start + 1024]) for start in (0, 1024, 2098 - 1024)]
    assert relative(official.embed(samples, RATE, "chunks"), torch.stack(parts).mean(0)) < 1e-5


def test_parameters_and_names_of_the_published_size():
    parameters, shapes = checks.meta_shapes(AudioMae, "base")
    assert parameters == 85_648_128
    assert shapes == checks.published_shapes("audiomae_timm_vit_b16_1024x128_avgpool.txt")
    assert len(shapes) == 150


def test_untrained_weights():
    module = AudioMae.build("nano", 0)
    assert module.blocks[0].mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not module.pos_embed[0, 0].any()
    assert module.pos_embed.shape == (1, 513, 128)
    for row in (0, 7, 8, 511):
        expected = position(row, 128, columns=8)
        np.testing.assert_allclose(module.pos_embed[0, 1 + row].detach(), expected, atol=2e-6)


def save_original(path):
    """The authors' pre-trained file: a norm over tokens, a decoder, and state of the trainer."""
    tensors = {name.replace("fc_norm", "norm"): tensor for name, tensor in TENSORS.items()}
    decoder = {
        "mask_token": torch.zeros(1, 1, 32),
        "decoder_pos_embed": torch.zeros(1, 513, 32),
        "decoder_embed.weight": torch.zeros(32, 64),
        "decoder_blocks.0.attn.relative_position_index": torch.zeros(4, 4, dtype=torch.long),
        "decoder_norm.weight": torch.zeros(32),
    }
    torch.save({"model": decoder | tensors, "epoch": 32, "args": argparse.Namespace(lr=0.1)}, path)
    return path


def save_classifier(path):
    tensors = {**TENSORS, "head.weight": torch.zeros(527, 64), "head.bias": torch.zeros(527)}
    torch.save({"model": tensors}, path)
    return path


def save_timm(path):
    path = path.with_suffix(".safetensors")
    safetensors.torch.save_file(TENSORS, path, {"format": "pt"})
    settings = {"architecture": "vit_base_patch16_224", "num_classes": 0, "model_args": {"num_heads": 2, "in_chans": 1}}
    path.with_name("config.json").write_text(json.dumps(settings))
    return path


def save_wrapped(path):
    torch.save({f"module.encoder.{name}": tensor.half() for name, tensor in TENSORS.items()}, path)
    return path


@pytest.mark.parametrize("save", [save_original, save_classifier, save_timm, save_wrapped])
@torch.inference_mode()
def test_layouts(official, tmp_path, save):
    loaded = AudioMae.load(save(tmp_path / "weights.pth"))
    assert loaded.config == official.config
    assert loaded.cls_token.dtype == torch.float32
    samples = wave(1.0)
    assert relative(loaded.embed(samples, RATE), official.embed(samples, RATE)) < 2e-3
    if save is not save_wrapped:  # in half precision
        assert torch.equal(loaded.embed(samples, RATE), official.embed(samples, RATE))


def test_heads_of_settings_go_before_the_shapes(tmp_path):
    path = shutil.copy(CHECKPOINT, tmp_path / "x.pth")
    assert AudioMae.load(path).config.num_heads == 2
    assert AudioMae.load(path, {"num_heads": 4}).config.num_heads == 4
    assert load_encoder(EncoderConfig(family="audiomae", checkpoint=str(path), heads=8), 0).config.num_heads == 8
    (tmp_path / "config.json").write_text('{"model_args": {"num_heads": 16}}')
    assert AudioMae.load(path).config.num_heads == 16
    assert AudioMae.load(path, {"num_heads": 4}).config.num_heads == 4


def test_save_and_load(toy, tmp_path):
    checks.assert_saved(toy, "fc_norm.weight", tmp_path / "own.safetensors")
    with pytest.raises(WheeltapperError, match="EAT config in its metadata, found AudioMAE"):
        Eat.load(tmp_path / "own.safetensors")


def change(**values):
    return lambda tensors: tensors.update({name.replace("__", "."): value for name, value in values.items()})


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda tensors: tensors.pop("fc_norm.bias"), "does not fit AudioMae: missing norm.bias"),
        (lambda tensors: tensors.pop("blocks.1.attn.qkv.weight"), "missing blocks.1.attn.qkv.weight"),
        (
            lambda tensors: tensors.pop("pos_embed"),
            "expected an AudioMAE checkpoint .* the keys cls_token, patch",
        ),
        (change(norm__bias=torch.zeros(64)), "missing norm.weight|unexpected fc_norm.bias"),
        (change(dist_token=torch.zeros(1, 1, 64)), "unexpected dist_token"),
        (change(blocks__0__norm1__bias=torch.full((64,), torch.nan)), "blocks.0.norm1.bias holds NaN or infinity"),
        (change(patch_embed__proj__weight=torch.zeros(64, 3, 16, 16)), r"patch_embed.weight \(64, 3, 16, 16\) instead"),
        (change(pos_embed=torch.zeros(1, 512, 64)), r"pos_embed \(1, 512, 64\) instead of"),
        (change(pos_embed=torch.zeros(64)), "misshapen tensors"),
        (change(pos_embed=[0.0]), "expected an AudioMAE checkpoint"),
        (change(cls_token=torch.zeros(0)), "misshapen tensors"),
        (change(patch_embed__proj__weight=torch.tensor(1.0)), "misshapen tensors"),
        (change(blocks__0__mlp__fc1__weight=torch.tensor(1.0)), "misshapen tensors"),
        (change(cls_token=torch.zeros(1, 1, 10)), "impossible sizes"),
        (lambda tensors: tensors.clear(), "expected an AudioMAE checkpoint .* found the keys model"),
    ],
)
def test_bad_checkpoints(tmp_path, edit, text):
    tensors = dict(TENSORS)
    edit(tensors)
    torch.save({"model": tensors}, tmp_path / "bad.pth")
    with pytest.raises(WheeltapperError, match=rf"bad\.pth: .*({text})") as caught:
        AudioMae.load(tmp_path / "bad.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("other", ["fisher/fisher.pt", "eat/eat.pt"])
def test_other_families_are_refused(other):
    with pytest.raises(WheeltapperError, match=r"\.pt: expected an AudioMAE checkpoint .*, found the keys"):
        AudioMae.load(FIXTURES / "encoders" / other)
    for kind in (Eat, Fisher):
        with pytest.raises(WheeltapperError, match=rf"audiomae\.pth: expected a {kind.family} checkpoint"):
            kind.load(CHECKPOINT)


def test_any_length(toy):
    checks.assert_any_length(toy, lambda frames: frames // 16)


def test_batches_and_rates(toy):
    checks.assert_batches_and_rates(toy)


def test_gradients(toy):
    checks.assert_gradients(toy)


def test_low_precision():
    checks.assert_low_precision(AudioMae.build("nano", 0))


def test_lora(tmp_path):
    expected = {}
    for block in range(4):
        expected[f"blocks.{block}.attn.qkv.lora_A.default.weight"] = (8, 128)
        expected[f"blocks.{block}.attn.qkv.lora_B.default.weight"] = (384, 8)
    assert sum(np.prod(shape) for shape in expected.values()) == 16384
    checks.assert_lora(lambda: AudioMae.build("nano", 0), expected, tmp_path)
