"""Embeddings of whole recordings: equal to the encoders' own, piece by piece, and to plain statistics."""

from functools import partial

import numpy as np
import pytest
import torch

from system import audio
from system.benchmarks.frozen import BASELINES, compute_readouts, embed_clips, spectral_statistics
from system.encoders.echo import Echo, EchoConfig
from system.errors import WheeltapperError
from system.frontends.logmel import log_mel
from system.frontends.stft import log_magnitude

RATE = 8000


def wave(seconds: float, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 0.1, (1, round(seconds * RATE))).astype(np.float32))


@pytest.mark.parametrize("seconds", [0.1, 0.64, 1.29, 1.3, 2.5])
@pytest.mark.parametrize("family", ["fisher", "echo"])
def test_the_summary_is_the_embedding_of_whole_recordings(tiny_encoder, family, seconds):
    if family == "fisher":
        encoder = tiny_encoder(target_length=64)
    else:
        config = EchoConfig(embed_dim=16, depth=2, num_heads=2, frame_limit=64)
        encoder = Echo.untrained(config, 0)
    sound = wave(seconds)
    with torch.inference_mode():
        expected = encoder.embed(sound, RATE, encoder.full_length_mode)[0]
    np.testing.assert_allclose(compute_readouts(encoder, sound, RATE)["cls"], expected, atol=1e-5)


def test_tokens_are_the_mean_over_time_bands_apart(tiny_encoder):
    encoder = tiny_encoder()
    sound = wave(2.0)
    with torch.inference_mode():
        grid = encoder(encoder.spectrogram(sound, RATE)).grid[0]
    found = compute_readouts(encoder, sound, RATE)["tokens"]
    assert found.shape == (encoder.grid_bands(RATE) * encoder.dim,)
    np.testing.assert_allclose(found, grid.numpy().mean(0).ravel(), atol=1e-6)


def test_pieces_of_a_long_recording(tiny_encoder):
    """Two pieces and a last one that covers the end of the recording, with equal weights."""
    encoder = tiny_encoder(target_length=64)
    spectrogram = encoder.spectrogram(wave(1.5), RATE)
    assert spectrogram.shape[1] == 148
    with torch.inference_mode():
        means = [encoder(spectrogram[:, start : start + 64]).grid[0].mean(0).flatten() for start in (0, 64, 84)]
    np.testing.assert_allclose(compute_readouts(encoder, wave(1.5), RATE)["tokens"], np.mean(means, axis=0), atol=1e-6)


def test_statistics_of_spectra():
    sound = wave(1.0)
    found = spectral_statistics(sound, RATE)
    assert tuple(found) == BASELINES
    for name, spectrum in (
        ("log-mel", log_mel(sound.numpy(), RATE)[0]),
        ("log spectrum", log_magnitude(sound, RATE)[0]),
    ):
        spectrum = np.asarray(spectrum, np.float64)
        np.testing.assert_allclose(found[f"{name} mean"], spectrum.mean(0), rtol=1e-4)
        both = np.concatenate([spectrum.mean(0), spectrum.std(0)])
        np.testing.assert_allclose(found[f"{name} mean+std"], both, rtol=1e-4)
    assert found["log-mel mean"].shape == (128,)
    assert found["log spectrum mean"].shape == (101,)


def test_every_recording_is_read_once_for_all_networks(tiny_encoder, record, monkeypatch):
    clips = [record(f"{i}.wav", seed=i) for i in range(5)]
    read, read_file = [], audio.read
    monkeypatch.setattr(audio, "read", lambda path: read.append(path) or read_file(path))
    encoders = {str(seed): tiny_encoder(seed) for seed in range(2)}
    networks = {name: partial(compute_readouts, encoder) for name, encoder in encoders.items()}
    counts: list[int] = []
    found = embed_clips(clips, networks, workers=3, progress=counts.append)
    assert sorted(read) == sorted(clip.path for clip in clips)
    assert counts == [1] * 5
    for name, encoder in encoders.items():
        for row, clip in enumerate(clips):
            mono = torch.from_numpy(read_file(clip.path)[0].mean(0, keepdims=True))
            for kind, expected in compute_readouts(encoder, mono, RATE).items():
                np.testing.assert_array_equal(found[name][kind][row], expected)
    near = embed_clips(clips, {"n": lambda mono, _: {"sum": mono.sum(1).numpy()}}, near=True)["n"]["sum"]
    np.testing.assert_allclose(near[:, 0], [read_file(clip.path)[0][0].sum() for clip in clips], atol=1e-4)


def test_recordings_that_cannot_be_compared(record):
    clips = [record("a.wav"), record("b.wav", rate=16000)]
    with pytest.raises(WheeltapperError, match=r"b\.wav: expected 8000 Hz as in .*a\.wav, found 16000 Hz"):
        embed_clips(clips, {"s": spectral_statistics})
    with pytest.raises(WheeltapperError, match=r"a\.wav: expected a finite embedding"):
        embed_clips(clips[:1], {"s": lambda *_: {"x": np.array([np.nan])}})
