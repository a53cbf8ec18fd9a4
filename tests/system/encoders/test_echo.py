"""ECHO: equal to the official embeddings and to a plain reference; any rate and length; chunks.

The fixture has a small checkpoint in the published layouts with random weights, and the official code's output.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plain_echo import noise, plain, relative, toy

from system.encoders.echo import Echo, EchoConfig, frequency_code
from system.errors import WheeltapperError

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
CHECKPOINT = FIXTURES / "encoders" / "echo" / "echo.pth"
CASES = np.load(FIXTURES / "encoders" / "echo" / "echo_cases.npz")
BANDS = {200: 1, 8000: 4, 12000: 5, 16000: 7, 25600: 11, 44100: 18, 48000: 19, 50000: 20, 51200: 21, 64000: 26}


@pytest.mark.parametrize("case", [0, 1, 2])
@pytest.mark.parametrize("file", ["echo.pth", "echo.safetensors"])
@torch.inference_mode()
def test_equals_the_official_features(file, case):
    encoder = Echo.load(CHECKPOINT.with_name(file))
    wave, rate = torch.from_numpy(CASES[f"case{case}.wav"])[None], int(CASES[f"case{case}.sr"])
    # The project asks for 1e-4; single precision reaches 6e-7. Another epsilon in the last norm makes 4e-6.
    assert relative(encoder.embed(wave, rate)[0], CASES[f"case{case}.embedding"]) <= 1.5e-6
    assert relative(encoder.segments(wave, rate)[0], CASES[f"case{case}.segments"]) <= 1.5e-6
    assert relative(encoder.embed(wave, rate, "siren")[0], CASES[f"case{case}.embedding"]) > 3e-6


@pytest.mark.parametrize("rate", [200, 8000, 11025, 16000, 22000, 22050, 44100, 192000])
@pytest.mark.parametrize("size", [16, 32])
def test_equals_a_plain_reference(rate, size):
    encoder = toy(patch_frames=size)
    wave = noise(0.47, rate, batch=2)
    embeddings, segments = encoder.embed(wave, rate), encoder.segments(wave, rate)
    assert segments.shape[1] == (3 if size == 16 else 2)  # 45 frames, padded to 48
    for row in range(2):
        summary, grid = plain(encoder, wave[row], rate)
        assert relative(embeddings[row], summary.flatten().float()) <= 5e-6
        assert relative(segments[row], grid.transpose(0, 1).flatten(1).float()) <= 5e-6


def test_siren_and_depth_equal_the_plain_reference():
    encoder, wave = toy(), noise(0.4, 16000)
    for mode, eps in (("official", 1e-5), ("siren", 1e-6)):
        summary, _ = plain(encoder, wave[0], 16000, eps)
        assert relative(encoder.embed(wave, 16000, mode)[0], summary.flatten().float()) <= 1.5e-6
    tokens = encoder(encoder.spectrogram(wave, 16000), 1)
    summary, grid = plain(encoder, wave[0], 16000, depth=1)
    assert relative(tokens.summary[0], summary.float()) <= 5e-6
    assert relative(tokens.grid[0], grid.transpose(0, 1).float()) <= 5e-6
    with pytest.raises(WheeltapperError, match="ECHO depth: expected 1 to 2 blocks, found 3"):
        encoder(encoder.spectrogram(wave, 16000), 3)


@pytest.mark.parametrize("rate", [16000, 22050, 44100])
def test_forward_equals_the_features(rate):
    encoder, wave = toy(), noise(0.4, rate, batch=2)
    tokens = encoder(encoder.spectrogram(wave, rate))
    torch.testing.assert_close(tokens.summary.flatten(1), encoder.embed(wave, rate), rtol=0, atol=0)
    torch.testing.assert_close(tokens.grid.flatten(2), encoder.segments(wave, rate), rtol=0, atol=0)


def test_time_positions_are_those_of_the_official_table():
    official = torch.load(CHECKPOINT, weights_only=True)["encoder"]["pos_embed"]
    table = Echo.untrained(EchoConfig(embed_dim=128, depth=1, num_heads=2), 0).positions
    assert table.shape == (1, 126, 128)
    assert not table[0, 0].any()
    torch.testing.assert_close(table, official, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("rate", "bands"), BANDS.items())
def test_bands_per_rate(rate, bands):
    encoder = toy(depth=1)
    assert encoder.bands(rate) == encoder.grid_bands(rate) == bands
    tokens = encoder(encoder.spectrogram(noise(0.2, rate), rate))
    assert tokens.summary.shape == (1, bands, 16)
    assert tokens.grid.shape == (1, 2, bands, 16)


def test_frequency_code_is_the_same_at_the_same_share_of_half_the_rate():
    code = frequency_code(201, 400, 32, 8, torch.device("cpu"), torch.float32)
    assert code.shape == (7, 1, 8)
    # The second band at 16 kHz and the third at 25.6 kHz: centres 47.5 / 400 and 79.5 / 640 of the rate.
    torch.testing.assert_close(code[1, 0, :2], torch.tensor([math.sin(25 * 0.2375), math.cos(25 * 0.2375)]))
    torch.testing.assert_close(code[6, 0, :2], torch.tensor([math.sin(25 * 0.98), math.cos(25 * 0.98)]))
    with torch.inference_mode():
        inside = frequency_code(9, 16, 4, 8, torch.device("cpu"), torch.float32)
    assert not inside.is_inference()


@pytest.mark.parametrize("size", [16, 32])
def test_patches_hold_their_bins_and_frames(size):
    encoder, generator = toy(patch_frames=size), torch.Generator().manual_seed(0)
    spectrogram = 1.0 + torch.rand(2, 37, 73, generator=generator)  # two whole bands and nine bins; 37 of 48 frames
    patches = encoder.split_patches(spectrogram)
    count = 3 if size == 16 else 2
    assert patches.shape == (2 * 3, count, 32 * size)
    patches = patches.view(2, 3, count, 32, size)
    frames = F.pad(spectrogram, (0, 0, 0, 11))
    for n in range(count):
        expected = frames[:, 16 * n : 16 * n + size].transpose(1, 2)
        assert torch.equal(patches[:, 0, n], expected[:, :32])
        assert torch.equal(patches[:, 1, n], expected[:, 32:64])
        assert torch.equal(patches[:, 2, n, 23:], expected[:, 64:])
        assert not patches[:, 2, n, :23].any()


def test_a_batch_equals_its_clips_one_by_one():
    encoder, waves = toy(), noise(0.5, 16000, batch=3)
    together = encoder(encoder.spectrogram(waves, 16000))
    for number in range(3):
        alone = encoder(encoder.spectrogram(waves[number : number + 1], 16000))
        torch.testing.assert_close(together.grid[number], alone.grid[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.summary[number], alone.summary[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", ["official", "siren", "stream"])
@pytest.mark.parametrize("rate", [200, 16000])
@torch.inference_mode()
def test_any_length_and_silence(mode, rate):
    encoder = toy()
    waves = [torch.ones(1, 1), torch.zeros(1, 2 * rate), torch.ones(1, 2 * rate)]
    for wave in [*waves, noise(0.02, rate), noise(0.1, rate), noise(0.16, rate), noise(45.0, rate)]:
        assert encoder.embed(wave, rate, mode).isfinite().all()
        segments = encoder.segments(wave, rate, mode)
        assert segments.isfinite().all()
        frames = max(1, (wave.shape[1] - int(0.025 * rate)) // int(0.01 * rate) + 1)
        assert segments.shape == (1, math.ceil(frames / 16) if frames < 2000 else 3 * 125, 16 * encoder.bands(rate))


def test_unusable_rates_and_modes():
    with pytest.raises(WheeltapperError, match="rate: expected at least 100 Hz, found 99"):
        toy().embed(torch.zeros(1, 99), 99)
    for method in (toy().embed, toy().segments):
        with pytest.raises(WheeltapperError, match="mode: expected one of official, siren, stream, found 'all'"):
            method(torch.zeros(1, 800), 800, "all")


@pytest.mark.parametrize(("frames", "starts"), [(40, [0]), (64, [0]), (65, [0, 1]), (128, [0, 64]), (150, [0, 64, 86])])
@pytest.mark.parametrize("mode", ["official", "siren", "stream"])
@torch.inference_mode()
def test_chunks(mode, frames, starts):
    encoder, rate, window, hop = toy(frame_limit=64), 8000, 200, 80
    wave = noise((window + hop * (frames - 1) + 7) / rate, rate, batch=2) + torch.linspace(0.0, 0.1, 2)[:, None]
    parts = []
    for start in starts:
        # Chunks are cut behind their last frame; the last one, where it is not a whole chunk more, keeps all.
        end = None if start == starts[-1] and frames % 64 else start * hop + window + 63 * hop
        part = wave[:, start * hop : end]
        offset = part.mean(1, keepdim=True) if mode == "stream" else wave.mean(1, keepdim=True)
        parts.append(encoder.chunk_spectrogram(part, rate, offset))
    assert all(part.shape[1] == min(frames, 64) for part in parts)
    eps = 1e-6 if mode == "siren" else 1e-5
    tokens = [encoder._tokens(part, None, eps, rate) for part in parts]
    segments, embedding = encoder.segments(wave, rate, mode), encoder.embed(wave, rate, mode)
    torch.testing.assert_close(segments, torch.cat([t.grid.flatten(2) for t in tokens], 1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        embedding, torch.stack([t.summary.flatten(1) for t in tokens]).mean(0), rtol=1e-5, atol=1e-5
    )
    spectrogram = encoder.spectrogram(wave, rate, mode)
    torch.testing.assert_close(encoder.embed_spectrogram(spectrogram, mode), embedding, rtol=0, atol=0)


def test_gradients_reach_every_weight():
    encoder = toy().requires_grad_(True).train()
    tokens = encoder(encoder.spectrogram(noise(0.3, 16000, batch=2), 16000))
    (tokens.grid.square().sum() + tokens.summary.square().sum()).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@torch.inference_mode()
def test_half_precision_is_close():
    encoder, wave = Echo.build("nano", 0), noise(1.0, 16000)
    exact = encoder.embed(wave, 16000)
    found = encoder.to(torch.bfloat16).embed(wave, 16000)
    assert found.dtype == encoder.segments(wave, 16000).dtype == torch.float32
    assert F.cosine_similarity(exact, found).item() > 0.999


def test_simam_is_taken():
    wave = noise(0.5, 16000)
    plain_embedding = toy().embed(wave, 16000)
    for kind in ("global", "local"):
        for mode in Echo.modes:
            enhanced = toy().set_front_end(simam=kind).embed(wave, 16000, mode)
            assert enhanced.isfinite().all()
            assert not torch.allclose(enhanced, plain_embedding, atol=1e-3)
    with pytest.raises(WheeltapperError, match="filterbank: expected mel with ECHO, found 'even'"):
        toy().set_front_end("even")
