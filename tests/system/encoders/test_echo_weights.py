"""ECHO's weights: sizes, published names, strict loading of every layout, adapters."""

import json
from pathlib import Path

import pytest
import torch
from plain_echo import noise, relative, toy

from system.adaptation.lora import add_lora, merge_lora
from system.config import LoraConfig
from system.encoders import checkpoints
from system.encoders.echo import Echo
from system.errors import WheeltapperError

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
CHECKPOINT = FIXTURES / "encoders" / "echo" / "echo.pth"


@pytest.mark.parametrize(
    ("size", "trainable"),
    [("tiny", 5_437_440), ("small", 21_491_712), ("tiny-overlap", 5_535_744), ("small-overlap", 21_688_320)],
)
def test_parameters_of_the_sizes(size, trainable):
    with torch.device("meta"):
        module = Echo(Echo.SIZES[size])
    assert sum(p.numel() for p in module.parameters()) == trainable


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_names_and_shapes_of_the_published_layout(size):
    lines = (FIXTURES / "keys" / f"echo_{size}.txt").read_text().splitlines()
    expected = {name: shape for name, shape, _ in (line.split("\t") for line in lines if not line.startswith("#"))}
    with torch.device("meta"):
        module = Echo(Echo.SIZES[size])
    state = module.to_published(module.state_dict())
    assert {name: str(tuple(tensor.shape)) for name, tensor in state.items()} == expected
    assert len(expected) == 150
    own = module.from_published(state)
    assert {name: t.shape for name, t in own.items()} == {name: t.shape for name, t in module.state_dict().items()}


def test_sizes_of_the_larger_ones():
    with torch.device("meta"):
        shapes = {size: Echo(Echo.SIZES[size]).blocks for size in ("nano", "base", "large")}
    found = {size: (len(b), len(b[0].norm1.weight), b[0].attn.num_heads) for size, b in shapes.items()}
    assert found == {"nano": (4, 128, 2), "base": (12, 768, 12), "large": (24, 1024, 16)}


def test_untrained_weights_are_drawn_as_released():
    first, second, other = (Echo.build("nano", seed) for seed in (1, 1, 2))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])
    assert not torch.equal(first.cls_token, other.cls_token)
    assert first.cls_token.std().item() == pytest.approx(0.02, rel=0.2)
    block = first.blocks[0]
    for layer in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2):
        bound = (6 / sum(layer.weight.shape)) ** 0.5  # Glorot's
        assert bound * 0.98 < layer.weight.abs().max().item() <= bound
        assert not layer.bias.any()
    with pytest.raises(WheeltapperError, match="ECHO size: expected one of nano, tiny, small, base, large, tiny-over"):
        Echo.build("huge", 0)


@pytest.mark.parametrize("sizes", [{}, {"patch_frames": 32, "frame_limit": 64}])
def test_save_and_load(tmp_path, sizes):
    encoder, wave = toy(**sizes), noise(0.8, 8000)
    encoder.save(tmp_path / "own.safetensors", steps=3)
    loaded = Echo.load(tmp_path / "own.safetensors")
    assert loaded.config == encoder.config
    assert torch.equal(loaded.embed(wave, 8000), encoder.embed(wave, 8000))
    content = checkpoints.load_file(tmp_path / "own.safetensors")
    size = encoder.config.patch_frames
    assert content["model"]["patch_embed.proj.weight"].shape == (16, 1, 32, size)
    # The same tensors without our metadata: sizes from the shapes, heads from elsewhere.
    path = tmp_path / "hub" / "model.safetensors"
    path.parent.mkdir()
    checkpoints.save(path, content["model"], {})
    assert Echo.load(path).config == encoder.config
    assert Echo.load(path, {"num_heads": 4}).config.num_heads == 4
    path.with_name("config.json").write_text(json.dumps({"embed_dim": 16, "heads": 8, "shift_size": 16}))
    assert Echo.load(path).config.num_heads == 8
    path.with_name("config.json").write_text(json.dumps({"embed_dim": 32}))
    with pytest.raises(WheeltapperError, match=r"model\.safetensors: does not fit Echo: cls_token \(1, 1, 16\)"):
        Echo.load(path)


def drop(name):
    return lambda state: state["encoder"].pop(name)


def put(name, value):
    return lambda state: state["encoder"].update({name: value})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (drop("norm.weight"), "missing norm.weight"),
        (drop("encoder.layers.1.self_attn.in_proj_bias"), "missing blocks.1.attn.qkv.bias"),
        (put("encoder.layers.7.linear1.bias", torch.zeros(512)), "missing blocks.2"),
        (put("norm.weight", torch.zeros(64)), r"norm.weight \(64,\) instead of \(128,\)"),
        (put("norm.weight", torch.full((128,), torch.nan)), "norm.weight holds NaN or infinity"),
        (put("norm.weight", "text"), "norm.weight is not an ordinary tensor"),
        (put("patch_embed.proj.weight", torch.zeros(128, 2, 32, 16)), "expected the shapes of an ECHO checkpoint"),
        (put("patch_embed.proj.weight", torch.zeros(128, 1, 32, 8)), "impossible sizes"),
        (put("pos_embed", torch.zeros(1, 126, 64)), r"positions \(1, 126, 64\) instead of"),
        (drop("pos_embed"), "expected an ECHO checkpoint"),
        (lambda state: state.update(encoder=3), "expected an ECHO checkpoint"),
        (lambda state: state.update(heads=3), "impossible sizes"),
        (lambda state: state.update(heads="two"), "cfg.num_heads: expected int, found 'two'"),
    ],
)
def test_bad_checkpoints(tmp_path, change, text):
    state = torch.load(CHECKPOINT, weights_only=True)
    change(state)
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(WheeltapperError, match=rf"bad\.pth: .*{text}") as caught:
        Echo.load(tmp_path / "bad.pth")
    assert "\n" not in str(caught.value)


def test_files_of_other_families(tmp_path):
    fisher = FIXTURES / "encoders" / "fisher" / "fisher.pt"
    with pytest.raises(WheeltapperError, match=r"fisher\.pt: expected an ECHO checkpoint .*found the keys modality"):
        Echo.load(fisher)
    vit = {"cls_token": torch.zeros(1, 1, 8), "pos_embed": torch.zeros(1, 5, 8), "blocks.0.norm1.weight": torch.ones(8)}
    torch.save({"model": vit | {"patch_embed.proj.weight": torch.zeros(8, 1, 16, 16)}}, tmp_path / "vit.pth")
    with pytest.raises(WheeltapperError, match=r"vit\.pth: expected an ECHO checkpoint .*found the keys cls_token"):
        Echo.load(tmp_path / "vit.pth")
    (tmp_path / "cut.pth").write_bytes(CHECKPOINT.read_bytes()[:5000])
    with pytest.raises(WheeltapperError, match=r"cut\.pth: damaged"):
        Echo.load(tmp_path / "cut.pth")


def test_lora(tmp_path):
    wave = noise(0.4, 16000)
    encoder = Echo.build("nano", 0)
    base = encoder.embed(wave, 16000)
    add_lora(encoder, LoraConfig()).eval()
    assert torch.equal(encoder.embed(wave, 16000), base)
    expected = {}
    for block in range(4):
        expected[f"blocks.{block}.attn.qkv.lora_A.default.weight"] = (8, 128)
        expected[f"blocks.{block}.attn.qkv.lora_B.default.weight"] = (384, 8)
    adapters = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
    assert {name: tuple(p.shape) for name, p in adapters.items()} == expected
    assert sum(p.numel() for p in adapters.values()) == 4 * (8 * 128 + 384 * 8) == 16384
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapters.values():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    before = encoder.embed(wave, 16000)
    assert relative(before, base) > 1e-2
    checkpoints.save(tmp_path / "adapters.safetensors", adapters, {})
    again = add_lora(Echo.build("nano", 0), LoraConfig()).eval()
    missing, unexpected = again.load_state_dict(
        checkpoints.load_file(tmp_path / "adapters.safetensors")["model"], strict=False
    )
    assert not unexpected
    assert not any("lora_" in name for name in missing)
    assert torch.equal(again.embed(wave, 16000), before)
    assert relative(merge_lora(again).embed(wave, 16000), before) <= 1e-5
