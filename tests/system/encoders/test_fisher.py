"""FISHER: equal to the official embedding and to plain NumPy; any rate and length; safe and strict loading.

The fixture has a small checkpoint in the published layout with random weights, and the official code's output.
"""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy_fisher import NumpyFisher, gelu, plain_convolution, position

from system.config import EncoderConfig
from system.encoders import checkpoints, load_encoder
from system.encoders.cost import multiply_adds
from system.encoders.fisher import Fisher, FisherConfig
from system.encoders.transformer import grid_positions
from system.errors import WheeltapperError

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
CHECKPOINT = FIXTURES / "encoders" / "fisher" / "fisher.pt"
CASES = np.load(FIXTURES / "encoders" / "fisher" / "fisher_cases.npz")
BANDS = {8000: 1, 12000: 1, 16000: 2, 25600: 3, 44100: 5, 48000: 6, 50000: 6, 51200: 6, 64000: 8}


@pytest.fixture(scope="module")
def official() -> Fisher:
    return Fisher.load(CHECKPOINT)


@pytest.fixture
def tiny(tiny_encoder) -> Fisher:
    return tiny_encoder().requires_grad_(False)


def wave(seconds: float, rate: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(batch, round(seconds * rate), generator=generator)


@pytest.mark.parametrize("case", [0, 1, 2])
def test_equals_the_official_embedding(official, case):
    expected = CASES[f"case{case}.embedding"]
    samples, rate = torch.from_numpy(CASES[f"case{case}.wav"])[None], int(CASES[f"case{case}.sr"])
    with torch.inference_mode():
        found = official.embed(samples, rate)[0].numpy()
    assert found.shape == expected.shape
    # The project asks for 1e-4; single precision reaches 1e-6.
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_equals_plain_numpy(official):
    tensors = {name: tensor.numpy() for name, tensor in official.to_published(official.state_dict()).items()}
    plain = NumpyFisher(tensors, heads=2, depth=2)
    spectrogram = torch.randn(1, 37, 201, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        tokens = official(spectrogram)
    for band in range(2):
        expected, _ = plain.band(spectrogram[0, :, 100 * band : 100 * band + 100].numpy())
        np.testing.assert_allclose(tokens.summary[0, band].numpy(), expected[0], atol=1e-5)
        grid = tokens.grid[0, :, 6 * band : 6 * band + 6].reshape(12, -1).numpy()
        np.testing.assert_allclose(grid, expected[1:], atol=1e-5)


@pytest.mark.parametrize(("size", "trainable"), [("tiny", 5_388_288), ("mini", 9_543_680), ("small", 21_393_408)])
def test_parameters_of_the_published_sizes(size, trainable):
    with torch.device("meta"):
        module = Fisher(Fisher.SIZES[size])
    assert sum(p.numel() for p in module.parameters()) == trainable


@pytest.mark.parametrize("size", ["tiny", "mini", "small"])
def test_names_and_shapes_of_the_published_layout(size):
    lines = (FIXTURES / "keys" / f"fisher_{size}.txt").read_text().splitlines()
    expected = {name: shape for name, shape, _ in (line.split("\t") for line in lines if not line.startswith("#"))}
    with torch.device("meta"):
        module = Fisher(Fisher.SIZES[size])
        state = module.to_published(module.state_dict())
    assert {name: str(tuple(tensor.shape)) for name, tensor in state.items()} == expected
    assert len(expected) == 150
    assert list(module.to_published(Fisher.from_published(state))) == list(state)


@pytest.mark.parametrize(("rate", "bands"), BANDS.items())
def test_bands_per_rate(tiny, rate, bands):
    assert tiny.bands(rate) == bands
    assert tiny.grid_bands(rate) == 6 * bands
    with torch.inference_mode():
        tokens = tiny(tiny.spectrogram(wave(0.3, rate), rate))
    assert tokens.summary.shape == (1, bands, 16)
    assert tokens.grid.shape == (1, 1, 6 * bands, 16)
    assert tiny.embed(wave(0.2, rate), rate).shape == (1, 16 * bands)


def test_position_table():
    table = grid_positions(128, 50, 64)[0].numpy()
    assert table.shape == (6400, 64)
    for row in (0, 1, 49, 50, 51, 777, 6399):
        np.testing.assert_allclose(table[row], position(row, 64), atol=2e-6)


def test_position_of_a_token_is_its_number(tiny):
    rows = torch.zeros(1, 64, 100)
    patches = tiny.embed_patches(rows)[0]
    bias = tiny.patch_embed.bias
    for number in (0, 5, 6, 23):  # the grid is 6 wide, the rows of the table 50
        expected = position(number, 16) + bias.numpy()
        np.testing.assert_allclose(patches[number].numpy(), expected, atol=1e-6)


def test_band_split(tiny):
    spectrogram = torch.arange(2 * 20 * 230, dtype=torch.float32).view(2, 20, 230)
    rows = tiny.split_bands(spectrogram)
    assert rows.shape == (4, 20, 100)
    for clip in range(2):
        for band in range(2):
            expected = spectrogram[clip, :, 100 * band : 100 * band + 100]
            torch.testing.assert_close(rows[2 * clip + band], expected, rtol=0, atol=0)


def test_short_and_narrow_are_filled_with_zeros(tiny):
    rows = tiny.split_bands(torch.ones(1, 5, 51))
    assert rows.shape == (1, 16, 100)
    assert rows[0, :5, :51].eq(1).all()
    assert rows.sum() == 5 * 51


@pytest.mark.parametrize(
    ("frames", "bins"),
    [((slice(None)), slice(200, 201)), (slice(None), slice(96, 100)), (slice(32, 40), slice(None))],
    ids=["bins above the last band", "last four bins of a band", "frames behind the last patch"],
)
def test_what_no_patch_covers_is_ignored(tiny, frames, bins):
    spectrogram = torch.randn(1, 40, 201, generator=torch.Generator().manual_seed(0))
    changed = spectrogram.clone()
    changed[:, frames, bins] += 100.0
    for before, after in zip(tiny(spectrogram), tiny(changed), strict=True):
        torch.testing.assert_close(before, after, rtol=0, atol=0)


def test_convolutions_before_the_patches_equal_plain_numpy():
    encoder = Fisher.untrained(FisherConfig(embed_dim=16, depth=1, num_heads=2, stem=4), 0)
    rows = torch.randn(1, 42, 100, generator=torch.Generator().manual_seed(0))  # two patches and ten frames
    state = {name: tensor.numpy().astype(np.float64) for name, tensor in encoder.state_dict().items()}
    x = rows[:, :32].numpy().astype(np.float64)
    for layer in (0, 2):
        x = gelu(plain_convolution(x, state[f"stem.{layer}.weight"], state[f"stem.{layer}.bias"], 2, 1))
    x = plain_convolution(x, state["patch_embed.weight"], state["patch_embed.bias"], 4, 0)
    assert x.shape == (16, 2, 6)
    expected = x.reshape(16, 12).T + state["positions"][0, :12]
    np.testing.assert_allclose(encoder.embed_patches(rows).detach()[0].numpy(), expected, atol=1e-4)


def test_convolutions_before_the_patches_are_saved_and_loaded(tmp_path):
    encoder = Fisher.untrained(FisherConfig(embed_dim=16, depth=1, num_heads=2, stem=4), 0)
    encoder.save(tmp_path / "encoder.safetensors")
    loaded = Fisher.load(tmp_path / "encoder.safetensors")
    assert loaded.config.stem == 4
    assert torch.equal(loaded.embed(wave(0.4, 16000), 16000), encoder.embed(wave(0.4, 16000), 16000))
    assert not Fisher.is_possible(FisherConfig(patch_size=18, stem=4))


def test_a_batch_equals_its_clips_one_by_one(tiny):
    waves = wave(0.5, 16000, batch=3)
    together = tiny(tiny.spectrogram(waves, 16000))
    for number in range(3):
        alone = tiny(tiny.spectrogram(waves[number : number + 1], 16000))
        torch.testing.assert_close(together.grid[number], alone.grid[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.summary[number], alone.summary[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("seconds", [0.001, 0.02, 0.1, 0.16, 0.31, 10.24, 95.0])
@torch.inference_mode()
def test_any_length(tiny, seconds):
    rate = 8000
    tokens = tiny(tiny.spectrogram(wave(seconds, rate), rate))
    assert tokens.grid.shape[0] == 1
    assert tokens.grid.shape[2:] == (6, 16)
    frames = max(1, (round(seconds * rate) - 200) // 80 + 1)
    assert tokens.grid.shape[1] == max(1, sum(min(1024, frames - start) // 16 for start in range(0, frames, 1024)))
    for mode in Fisher.modes:
        assert torch.isfinite(tiny.embed(wave(seconds, rate), rate, mode)).all()


@pytest.mark.parametrize("extra", [16, 500, 1024, 1030])
@torch.inference_mode()
def test_long_clips_go_in_pieces(tiny, extra):
    spectrogram = torch.randn(2, 1024 + extra, 100, generator=torch.Generator().manual_seed(0))
    found = tiny(spectrogram)
    pieces = [piece for piece in spectrogram.split(1024, 1) if piece.shape[1] >= 16]
    outputs = [tiny(piece) for piece in pieces]
    torch.testing.assert_close(found.grid, torch.cat([output.grid for output in outputs], 1))
    total = sum(piece.shape[1] for piece in pieces)
    expected = sum(o.summary * p.shape[1] / total for o, p in zip(outputs, pieces, strict=True))
    torch.testing.assert_close(found.summary, expected)


@torch.inference_mode()
def test_a_remainder_shorter_than_a_patch_is_dropped(tiny):
    spectrogram = torch.randn(1, 1024 + 15, 100, generator=torch.Generator().manual_seed(0))
    for found, expected in zip(tiny(spectrogram), tiny(spectrogram[:, :1024]), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("frames", [400, 1024, 1500, 2048, 2100])
@torch.inference_mode()
def test_modes(tiny, frames):
    rate = 8000
    samples = wave((200 + 80 * (frames - 1)) / rate, rate)
    spectrogram = tiny.spectrogram(samples, rate)
    assert spectrogram.shape[1] == frames

    def cls(piece: torch.Tensor) -> torch.Tensor:
        return tiny.encode(tiny.embed_patches(piece))[0][:, 0]

    torch.testing.assert_close(tiny.embed(samples, rate, "official"), cls(spectrogram[:, :1024, :100]))
    padded = torch.zeros(1, 1024, 100)
    padded[:, : min(frames, 1024)] = spectrogram[:, :1024, :100]
    torch.testing.assert_close(tiny.embed(samples, rate, "rmis"), cls(padded))
    starts = {400: [0], 1024: [0], 1500: [0, 476], 2048: [0, 1024], 2100: [0, 1024, 1076]}[frames]
    chunks = [cls(spectrogram[:, start : start + 1024, :100]) for start in starts]
    torch.testing.assert_close(tiny.embed(samples, rate, "chunks"), torch.stack(chunks).mean(0))


def test_unknown_mode(tiny):
    with pytest.raises(WheeltapperError, match="mode: expected one of official, rmis, chunks, found 'all'"):
        tiny.embed(wave(0.2, 8000), 8000, "all")


def test_depth_runs_the_first_blocks(tiny):
    patches = tiny.embed_patches(torch.randn(1, 32, 100))
    tokens, updates = tiny.encode(patches, depth=1, keep="mlp")
    assert len(updates) == 1
    x = tiny.norm(torch.cat([tiny.cls_token, patches], 1))
    torch.testing.assert_close(tokens, tiny.blocks[0](x)[0])


def test_build_is_deterministic_and_leaves_the_random_state():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second, other = (Fisher.build("nano", seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["blocks.0.mlp.fc1.weight"], other["blocks.0.mlp.fc1.weight"])
    with pytest.raises(WheeltapperError, match="FISHER size: expected one of nano, tiny, mini, small, found 'huge'"):
        Fisher.build("huge", 0)


def test_untrained_weights_are_drawn_as_released():
    module = Fisher.untrained(replace(Fisher.SIZES["nano"], stem=0), 0)
    assert module.blocks[0].mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert module.cls_token.std().item() == pytest.approx(1.0, rel=0.2)
    bound = (6 / (128 + 256)) ** 0.5  # Glorot's, over the flattened kernel
    assert bound * 0.98 < module.patch_embed.weight.abs().max().item() <= bound
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name


def test_save_and_load(tiny, tmp_path):
    path = tmp_path / "encoder.safetensors"
    tiny.save(path, steps=3)
    before = torch.random.get_rng_state()
    loaded = Fisher.load(path)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert loaded.config == tiny.config
    assert not loaded.training
    samples = wave(0.4, 16000)
    assert torch.equal(loaded.embed(samples, 16000), tiny.embed(samples, 16000))
    content = checkpoints.load_file(path)
    assert "modality_encoders.IMAGE.local_encoder.proj.weight" in content["model"]
    assert content["metadata"]["steps"] == "3"
    via_config = load_encoder(EncoderConfig(), 0, path)
    assert torch.equal(via_config.positions, tiny.positions)


def test_tensors_alone_tell_the_sizes(official, tmp_path):
    """As on model hubs: the number of heads follows from the width."""
    state = torch.load(CHECKPOINT, weights_only=True)
    torch.save({"model": state["model"]}, tmp_path / "flat.pt")
    found = Fisher.load(tmp_path / "flat.pt")
    assert found.config == official.config
    assert torch.equal(found.cls_token, official.cls_token)


def test_load_encoder_names_the_families():
    with pytest.raises(WheeltapperError, match=r"encoder family: expected one of fisher, .*, found 'beast'"):
        load_encoder(EncoderConfig(family="beast"), 0)


def drop(name):
    return lambda state: state["model"].pop(name)


def put(name, value):
    return lambda state: state["model"].update({name: value})


def setting(**values):
    return lambda state: state["cfg"]["model"].update(values)


BIAS = "blocks.0.norm1.bias"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (drop(BIAS), "missing blocks.0.norm1.bias"),
        (put(BIAS, torch.zeros(65)), r"blocks.0.norm1.bias \(65,\) instead of \(64,\)"),
        (put(BIAS, torch.full((64,), torch.nan)), "blocks.0.norm1.bias holds NaN or infinity"),
        (put(BIAS, torch.full((64,), torch.inf)), "holds NaN or infinity"),
        (put(BIAS, [0.0] * 64), "not an ordinary tensor"),
        (put(BIAS, torch.zeros(64, dtype=torch.complex64)), "not an ordinary tensor"),
        (lambda state: state.update(cfg=[1]), "expected a FISHER checkpoint"),
        (lambda state: state.update(cfg={"model": 3}), "expected a FISHER checkpoint"),
        (lambda state: state.pop("model"), "expected a FISHER checkpoint"),
        (lambda state: state.update(model=3), "expected a FISHER checkpoint"),
        (setting(modalities=3, depth=3), "missing blocks.2"),
        (setting(depth=1), "unexpected blocks.1"),
        (setting(embed_dim=128), "instead of"),
        (setting(embed_dim=8192, depth=256), "does not fit"),
        (setting(num_heads=3), "impossible sizes"),
        (setting(patch_size=200), "impossible sizes"),
        (setting(max_length=10**9), "impossible sizes"),
        (setting(mlp_ratio=float("nan")), "impossible sizes"),
        (setting(depth=float("inf")), "cfg.depth: expected int, found inf"),
        (setting(depth="twelve"), "cfg.depth: expected int, found 'twelve'"),
        (setting(layer_norm_first=True), "cfg.layer_norm_first: expected False, found True"),
        (setting(num_extra_tokens=2), "cfg.num_extra_tokens: expected 1, found 2"),
    ],
)
def test_bad_checkpoints(tmp_path, change, text):
    state = copy.deepcopy(torch.load(CHECKPOINT, weights_only=True))
    change(state)
    torch.save(state, tmp_path / "bad.pt")
    with pytest.raises(WheeltapperError, match=rf"bad\.pt: .*{text}") as caught:
        Fisher.load(tmp_path / "bad.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", ["", "[1]", "{", '{"depth": "x"}'])
def test_bad_metadata(tiny, tmp_path, config):
    path = tmp_path / "bad.safetensors"
    checkpoints.save(path, tiny.to_published(tiny.state_dict()), {"config": config})
    with pytest.raises(WheeltapperError, match=r"bad\.safetensors: "):
        Fisher.load(path)


def test_half_precision_checkpoints_are_taken(tmp_path, official):
    state = torch.load(CHECKPOINT, weights_only=True)
    state["model"] = {name: tensor.half() for name, tensor in state["model"].items()}
    torch.save(state, tmp_path / "half.pt")
    loaded = Fisher.load(tmp_path / "half.pt")
    assert loaded.cls_token.dtype == torch.float32
    torch.testing.assert_close(loaded.cls_token, official.cls_token, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("frames", [40, 1024, 1500])
def test_multiply_adds(tiny, frames):
    dim, total = 16, 0
    for piece in [frames] if frames <= 1024 else [1024, frames - 1024]:
        tokens = piece // 16 * 6
        linear = (tokens + 1) * dim * dim * (4 + 2 * 2)  # query, key, value, output; MLP of twice the width, twice
        attention = 2 * (tokens + 1) ** 2 * dim
        total += 2 * (tokens * 16 * 16 * dim + 2 * (linear + attention))  # two bands, two blocks
    assert multiply_adds(tiny, torch.zeros(1, frames, 201)) == total


def test_config_defaults_are_those_of_the_released_code():
    config = FisherConfig()
    assert (config.band_width, config.patch_size, config.max_length, config.max_freq) == (100, 16, 128, 50)
    assert (config.target_length, config.depth, config.mlp_ratio, config.norm_eps) == (1024, 12, 4.0, 1e-6)


@pytest.mark.parametrize("rate", [200, 2000, 44100, 192000])
@pytest.mark.parametrize("seconds", [0.004, 0.1, 1.0])
def test_extreme_rates(tiny, rate, seconds):
    """From a rate whose window is five samples to 24 bands; sound, silence and a few samples."""
    bands = max(1, (25 * rate // 1000 // 2 + 1) // 100)
    for samples in (wave(seconds, rate), torch.zeros(1, max(1, round(seconds * rate)))):
        with torch.inference_mode():
            for mode in Fisher.modes:
                found = tiny.embed(samples, rate, mode)
                assert found.shape == (1, 16 * bands)
                assert torch.isfinite(found).all()


def test_a_rate_without_a_hop_is_refused(tiny):
    with pytest.raises(WheeltapperError, match="rate: expected at least 100 Hz, found 60"):
        tiny.embed(torch.zeros(1, 60), 60)


@pytest.mark.parametrize("count", [1, 7])
def test_a_batch_equals_its_recordings(tiny, count):
    """The result does not depend on how many sub-bands are computed at once."""
    waves = wave(3.0, 48000, batch=count)
    with torch.inference_mode():
        together = tiny.embed(waves, 48000)
        for row, samples in zip(together, waves, strict=True):
            torch.testing.assert_close(row, tiny.embed(samples[None], 48000)[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tiny.embed(waves, 48000), together, atol=1e-5, rtol=1e-5)  # with gradients: one pass
