"""EAT: equal to the official embedding, each mode as in its program, all layouts of the weights."""

import argparse
import copy
import json

import checks
import numpy as np
import pytest
import safetensors.torch
import torch
from checks import FIXTURES, RATE, relative, wave
from numpy_fisher import position

from system.config import EncoderConfig
from system.encoders import load_encoder
from system.encoders.eat import TABLE, Eat
from system.encoders.fisher import Fisher
from system.encoders.subband import SubbandConfig
from system.errors import WheeltapperError

CHECKPOINT = FIXTURES / "encoders" / "eat" / "eat.pt"
CASES = np.load(FIXTURES / "encoders" / "eat" / "eat_cases.npz")
STATE = torch.load(CHECKPOINT, weights_only=True)
IMAGE = "modality_encoders.IMAGE."
TOY = SubbandConfig(embed_dim=16, depth=3, num_heads=2, mlp_ratio=2.0, **TABLE)


@pytest.fixture(scope="module")
def official() -> Eat:
    return Eat.load(CHECKPOINT).requires_grad_(False)


@pytest.fixture(scope="module")
def toy() -> Eat:
    return checks.toy(Eat, TOY)


def cls(encoder: Eat, spectrogram: torch.Tensor) -> torch.Tensor:
    return encoder.encode(encoder.embed_patches(spectrogram))[0][:, 0]


@pytest.mark.parametrize("case", [0, 1])
@torch.inference_mode()
def test_equals_the_official_embedding(official, case):
    found = official.embed(torch.from_numpy(CASES[f"case{case}.wav"])[None], int(CASES[f"case{case}.sr"]))[0]
    assert relative(found, CASES[f"case{case}.embedding"]) < 1e-5  # asked for: 1e-4; reached: 7e-7


@pytest.mark.parametrize("seconds", [0.1, 3.37, 10.0, 10.265, 12.0])
@torch.inference_mode()
def test_modes(official, seconds):
    """Padding comes before the normalisation, so its value depends on the digits of the mean (RMIS)."""
    samples = wave(seconds) + 0.02
    frames = 1 + (samples.shape[1] - 400) // 160
    expected = {
        "official": cls(official, checks.kaldi_spectrogram(samples, 1024, -4.268, 4.569)),
        "rmis": cls(official, checks.kaldi_spectrogram(samples, 1024, -4.2677393, 4.5689974)),
        "toolkit": cls(official, checks.kaldi_spectrogram(samples, -(-frames // 32) * 32, -4.268, 4.569)),
    }
    assert relative(expected["official"], expected["rmis"]) > 1e-5
    for mode, embedding in expected.items():
        assert relative(official.embed(samples, RATE, mode), embedding) < 5e-6, mode
    whole = checks.kaldi_spectrogram(samples, max(16, frames), -4.268, 4.569)
    parts = [whole] if frames <= 1024 else [whole[:, :1024], whole[:, -1024:]]
    chunks = torch.stack([cls(official, part) for part in parts]).mean(0)
    assert relative(official.embed(samples, RATE, "chunks"), chunks) < 5e-6


@torch.inference_mode()
def test_the_toolkits_mode_ends_with_the_table():
    encoder = checks.toy(Eat, SubbandConfig(embed_dim=16, depth=1, num_heads=2, **(TABLE | {"max_length": 80})))
    samples = wave(14.0)
    spectrogram = checks.kaldi_spectrogram(samples, 80 * 16, -4.268, 4.569)
    assert spectrogram.shape[1] > encoder.frame_limit
    assert relative(encoder.embed(samples, RATE, "toolkit"), cls(encoder, spectrogram)) < 1e-5


@torch.inference_mode()
def test_tokens_of_any_depth(official):
    spectrogram = torch.randn(2, 160, 128, generator=torch.Generator().manual_seed(0))
    patches = official.embed_patches(spectrogram)
    x = official.norm(torch.cat([official.cls_token.expand(2, -1, -1), patches], 1))
    for depth in (1, 2):
        x, _ = official.blocks[depth - 1](x)
        tokens = official(spectrogram, depth)
        torch.testing.assert_close(tokens.summary, x[:, :1])
        torch.testing.assert_close(tokens.grid, x[:, 1:].view(2, 10, 8, 64))
    with pytest.raises(WheeltapperError, match="EAT depth: expected 1 to 2 blocks, found 3"):
        official(spectrogram, 3)


def test_the_table_is_as_wide_as_the_grid(official):
    """Position and weights of a patch, by hand."""
    spectrogram = torch.randn(1, 64, 128, generator=torch.Generator().manual_seed(0))
    patches = official.embed_patches(spectrogram)[0]
    kernel, bias = official.patch_embed.weight[:, 0], official.patch_embed.bias
    for time, frequency in ((0, 0), (0, 7), (1, 0), (3, 5)):
        patch = spectrogram[0, 16 * time : 16 * time + 16, 16 * frequency : 16 * frequency + 16]
        expected = (kernel * patch).sum((1, 2)) + bias
        expected = expected.numpy() + position(8 * time + frequency, 64, columns=8)
        np.testing.assert_allclose(patches[8 * time + frequency].numpy(), expected, atol=1e-5)


def test_parameters_and_names_of_base():
    parameters, shapes = checks.meta_shapes(Eat, "base")
    published = checks.published_shapes("eat_base_student_with_decoder.txt")
    decoder = {name: shape for name, shape in published.items() if ".decoder." in name}
    assert len(decoder) == 14
    assert shapes == {name: shape for name, shape in published.items() if name not in decoder}
    assert len(shapes) == 150
    assert parameters == 85_254_144 == 87_840_000 - sum(int(np.prod(shape)) for shape in decoder.values())


def test_parameters_of_large():
    parameters, shapes = checks.meta_shapes(Eat, "large")
    assert parameters == 302_575_616  # 24 blocks of 12 D^2 + 13 D, patches 257 D, CLS D, norm 2 D
    assert shapes[f"{IMAGE}fixed_positional_encoder.positions"] == (1, 6144, 1024)
    assert len(shapes) == 6 + 24 * 12


def save_fairseq(path):
    """A file of fairseq, with decoder, teacher and settings of the training."""
    state = copy.deepcopy(STATE)
    extra = {
        f"{IMAGE}decoder.blocks.0.0.weight": torch.zeros(64, 4, 3, 3),
        f"{IMAGE}decoder.proj.bias": torch.zeros(64),
        "_ema": {"blocks.0.attn.qkv.weight": torch.ones(192, 64)},
    }
    state["model"] = extra | state["model"]
    state["cfg"] |= {"task": {"_name": "mae_image_pretraining"}, "common": {"fp16": True}}
    state |= {"args": argparse.Namespace(lr=[5e-4]), "optimizer_history": [{"num_updates": 400000}], "criterion": None}
    torch.save(state, path)
    return path


def save_early(path):
    """Early releases: a table of 64 patches in time, which the settings do not contain."""
    state = copy.deepcopy(STATE)
    name = f"{IMAGE}fixed_positional_encoder.positions"
    state["model"][name] = state["model"][name][:, :512].clone()
    for setting in ("max_length", "max_freq", "target_length"):
        state["cfg"]["model"]["modalities"]["image"].pop(setting)
    torch.save(state, path)
    return path


def save_hub(path):
    """The authors' fine-tuned file on the hub: no modality prefix, another name of the norm, a classifier."""
    path = path.with_suffix(".safetensors")
    tensors = {
        "model." + name.removeprefix(IMAGE).replace("context_encoder.norm", "pre_norm"): tensor
        for name, tensor in STATE["model"].items()
    }
    assert {"model.extra_tokens", "model.pre_norm.weight", "model.blocks.1.norm2.bias"} < set(tensors)
    tensors |= {"model.head.weight": torch.zeros(527, 64), "model.fc_norm.weight": torch.ones(64)}
    safetensors.torch.save_file(tensors, path, {"format": "pt"})
    settings = {"model_type": "eat", "embed_dim": 64, "depth": 2, "num_heads": 2, "max_length": 768, "mel_bins": 128}
    settings |= {"img_size": [1024, 128], "layer_norm_first": False, "norm_eps": 1e-6, "in_chans": 1, "stride": 16}
    path.with_name("config.json").write_text(json.dumps(settings))
    return path


def save_flat(path):
    path = path.with_suffix(".safetensors")
    safetensors.torch.save_file(STATE["model"], path)
    return path


def save_wrapped(path):
    torch.save({f"net.encoder.{name}": tensor for name, tensor in STATE["model"].items()}, path)
    return path


@pytest.mark.parametrize("save", [save_fairseq, save_early, save_hub, save_flat, save_wrapped])
@torch.inference_mode()
def test_layouts(official, tmp_path, save):
    loaded = Eat.load(save(tmp_path / "weights.pt"))
    assert loaded.positions.shape[1] == (512 if save is save_early else 6144)
    assert loaded.frame_limit == 1024
    for name, tensor in official.state_dict().items():
        assert name == "positions" or torch.equal(loaded.state_dict()[name], tensor), name
    samples = wave(1.0)
    for mode in Eat.modes:
        assert torch.equal(loaded.embed(samples, RATE, mode), official.embed(samples, RATE, mode))


def test_the_callers_heads_go_first(tmp_path):
    path = save_flat(tmp_path / "x")
    assert Eat.load(path).config.num_heads == 2
    config = EncoderConfig(family="eat", checkpoint=str(path), heads=4, filterbank="even", simam="local")
    encoder = load_encoder(config, 0)
    assert (encoder.config.num_heads, encoder.filterbank, encoder.simam) == (4, "even", "local")
    plain = Eat.load(path, {"num_heads": 4})
    samples = wave(1.0)
    assert relative(plain.embed(samples, RATE).detach(), encoder.embed(samples, RATE).detach()) > 1e-3


def test_save_and_load(toy, tmp_path):
    checks.assert_saved(toy, f"{IMAGE}context_encoder.norm.weight", tmp_path / "own.safetensors")
    with pytest.raises(WheeltapperError, match="FISHER config in its metadata, found EAT"):
        Fisher.load(tmp_path / "own.safetensors")


def drop(name):
    return lambda state: state["model"].pop(name)


def put(name, value):
    return lambda state: state["model"].update({name: value})


def setting(**values):
    return lambda state: state["cfg"]["model"].update(values)


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (drop("blocks.0.norm1.bias"), "does not fit Eat: missing blocks.0.norm1.bias"),
        (drop(f"{IMAGE}fixed_positional_encoder.positions"), "missing positions"),
        (drop(f"{IMAGE}extra_tokens"), "expected a EAT checkpoint .* found the keys local_encoder"),
        (put(f"{IMAGE}extra_tokens", [0.0]), "expected a EAT checkpoint"),
        (put("blocks.1.norm1.bias", torch.full((64,), torch.nan)), "blocks.1.norm1.bias holds NaN or infinity"),
        (put("modality_encoders.AUDIO.extra_tokens_2", torch.zeros(3)), "unexpected modality_encoders.AUDIO"),
        (put(f"{IMAGE}local_encoder.proj.weight", torch.zeros(64, 3, 16, 16)), "instead of"),
        (setting(layer_norm_first=True), "cfg.layer_norm_first: expected False, found True"),
        (setting(num_heads=3), "impossible sizes"),
        (setting(depth=3), "missing blocks.2"),
        (lambda state: state.update(cfg=3), "expected a EAT checkpoint with cfg.model"),
        (lambda state: state.update(model=3), "expected a EAT checkpoint .* found the keys cfg, model"),
    ],
)
def test_bad_checkpoints(tmp_path, edit, text):
    state = copy.deepcopy(STATE)
    edit(state)
    torch.save(state, tmp_path / "bad.pt")
    with pytest.raises(WheeltapperError, match=rf"bad\.pt: .*{text}") as caught:
        Eat.load(tmp_path / "bad.pt")
    assert "\n" not in str(caught.value)


def test_its_sibling_is_refused():
    with pytest.raises(WheeltapperError, match=r"fisher\.pt: cfg.band_width: expected 128, found 100"):
        Eat.load(FIXTURES / "encoders" / "fisher" / "fisher.pt")
    with pytest.raises(WheeltapperError, match=r"eat\.pt: cfg.band_width: expected a number as in FISHER, found none"):
        Fisher.load(CHECKPOINT)


def test_any_length(toy):
    checks.assert_any_length(toy, lambda frames: frames // 16)


def test_batches_and_rates(toy):
    checks.assert_batches_and_rates(toy)


def test_gradients(toy):
    checks.assert_gradients(toy)


def test_low_precision():
    checks.assert_low_precision(Eat.build("nano", 0))


def test_lora(tmp_path):
    expected = {}
    for block in range(4):
        expected[f"blocks.{block}.attn.qkv.lora_A.default.weight"] = (8, 128)
        expected[f"blocks.{block}.attn.qkv.lora_B.default.weight"] = (384, 8)
    assert sum(np.prod(shape) for shape in expected.values()) == 16384
    checks.assert_lora(lambda: Eat.build("nano", 0), expected, tmp_path)
