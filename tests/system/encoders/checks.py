"""Checks that every transformer on a 16 kHz filter bank must pass."""

import copy
from pathlib import Path

import numpy as np
import torch
import torchaudio

from system import audio
from system.adaptation.lora import add_lora, merge_lora
from system.config import LoraConfig
from system.embeddings.precision import precision_of, set_precision
from system.encoders import checkpoints
from system.encoders.base import Encoder
from system.training.state import kept_names

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
RATE = 16000


def wave(seconds: float, rate: int = RATE, batch: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(batch, round(seconds * rate), generator=generator)


def disturb(module: torch.nn.Module, scale: float = 0.1, only: str = "") -> torch.nn.Module:
    """Adds noise to all parameters, or to those with ``only`` in their names, so that each has an effect."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if only in name:
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return module


def toy(kind: type[Encoder], config, seed: int = 0) -> Encoder:
    """A small encoder with random norms and biases."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return disturb(kind(config)).eval().requires_grad_(False)


def kaldi_spectrogram(
    samples: torch.Tensor, frames: int | None, mean: float, deviation: float, centred: bool = True
) -> torch.Tensor:
    """torchaudio's filter bank of a recording (1, samples), cut or padded with zeros, then normalised (1, T, 128)."""
    samples = samples - samples.mean() if centred else samples
    energies = torchaudio.compliance.kaldi.fbank(
        samples, htk_compat=True, window_type="hanning", num_mel_bins=128, dither=0.0, sample_frequency=RATE
    )
    if frames is not None:
        energies = torch.nn.functional.pad(energies[:frames], (0, 0, 0, max(0, frames - len(energies))))
    return ((energies - mean) / (2 * deviation))[None]


def relative(found, expected) -> float:
    """Largest difference over the largest value."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def published_shapes(file: str) -> dict[str, tuple[int, ...]]:
    """Tensor names and shapes of a published checkpoint."""
    shapes = {}
    for line in (FIXTURES / "keys" / file).read_text().splitlines():
        if not line.startswith("#"):
            name, shape, _ = line.split("\t")
            shapes[name] = tuple(int(size) for size in shape.strip("()").split(",") if size.strip())
    return shapes


def meta_shapes(kind: type[Encoder], size: str) -> tuple[int, dict[str, tuple[int, ...]]]:
    """Parameters, and names and shapes under the published names, of a size without its memory."""
    with torch.device("meta"):
        module = kind(kind.SIZES[size])
    tensors = module.to_published(module.state_dict())
    assert list(module.from_published(tensors)) == list(module.state_dict())
    return sum(p.numel() for p in module.parameters()), {name: tuple(t.shape) for name, t in tensors.items()}


def assert_any_length(encoder: Encoder, columns) -> None:
    """Tokens and embeddings are finite for noise and silence of 1 ms to more than one pass; ``columns(frames)`` is the
    length of the grid."""
    with torch.inference_mode():
        for seconds in (0.001, 0.1, 0.31, 10.24, 12.5):
            for samples in (wave(seconds), torch.zeros(1, round(seconds * RATE))):
                tokens = encoder(encoder.spectrogram(samples, RATE))
                frames = max(1, (samples.shape[1] - 400) // 160 + 1)
                pieces = [min(1024, frames - start) for start in range(0, frames, 1024)]
                expected = sum(columns(max(16, piece)) for piece in pieces if piece >= 16 or len(pieces) == 1)
                assert tokens.grid.shape == (1, expected, encoder.grid_bands(RATE), encoder.dim)
                assert tokens.summary.shape == (1, encoder.bands(RATE), encoder.dim)
                assert torch.isfinite(tokens.grid).all()
                assert torch.isfinite(tokens.summary).all()
        for mode in encoder.modes:
            for seconds in (0.001, 0.1, 12.5):
                for samples in (wave(seconds), torch.zeros(1, round(seconds * RATE))):
                    embedding = encoder.embed(samples, RATE, mode)
                    assert embedding.shape == (1, encoder.dim)
                    assert torch.isfinite(embedding).all()


def assert_batches_and_rates(encoder: Encoder) -> None:
    """A batch equals its clips, another rate equals the resampled recording, and extreme rates give finite values."""
    waves = wave(1.3, batch=3)
    with torch.inference_mode():
        for mode in encoder.modes:
            together = encoder.embed(waves, RATE, mode)
            for number in range(3):
                torch.testing.assert_close(
                    encoder.embed(waves[number : number + 1], RATE, mode)[0], together[number], atol=1e-5, rtol=1e-5
                )
        together = encoder(encoder.spectrogram(waves, RATE))
        alone = encoder(encoder.spectrogram(waves[1:2], RATE))
        for found, expected in zip(alone, together, strict=True):
            torch.testing.assert_close(found[0], expected[1], atol=1e-5, rtol=1e-5)
        fast = wave(0.7, 48000)
        slow = audio.official_resampler(48000, RATE)(fast)
        torch.testing.assert_close(encoder.embed(fast, 48000), encoder.embed(slow, RATE))
        for rate in (200, 8000, 44100, 192000):
            assert torch.isfinite(encoder.embed(wave(0.4, rate), rate)).all()


def assert_gradients(encoder: Encoder, constant: str = "?") -> None:
    """Every parameter gets a gradient from grid and summary of a full-length clip, except those named ``constant``."""
    encoder = copy.deepcopy(encoder).requires_grad_(True)
    tokens = encoder(torch.randn(1, 1024, 128, generator=torch.Generator().manual_seed(0)))
    (tokens.grid.square().mean() + tokens.summary.sum() + tokens.summary.square().sum()).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0 or name.endswith(constant), name


def assert_low_precision(encoder: Encoder) -> None:
    """A copy in bf16 gives embeddings in nearly the same direction."""
    low = set_precision(copy.deepcopy(encoder), "bf16")
    assert precision_of(low) == "bf16"
    samples = wave(2.0, batch=2)
    with torch.inference_mode():
        for mode in encoder.modes:
            found, expected = low.embed(samples, RATE, mode), encoder.embed(samples, RATE, mode)
            assert found.dtype == torch.float32
            assert torch.cosine_similarity(found, expected).min() > 0.9995
        tokens = low(low.spectrogram(samples, RATE), 2)
        assert tokens.grid.dtype == tokens.summary.dtype == torch.float32


def assert_lora(build, expected: dict[str, tuple[int, ...]], folder: Path) -> None:
    """Adapters on the default layers: trainable parameters, no initial effect, equal after saving and after merging."""
    samples = wave(0.8)
    with torch.inference_mode():
        before = build().embed(samples, RATE)
        encoder = add_lora(build(), LoraConfig()).eval()
        assert {n: tuple(p.shape) for n, p in encoder.named_parameters() if p.requires_grad} == expected
        assert torch.equal(encoder.embed(samples, RATE), before)
        adapted = disturb(encoder, only="lora_").embed(samples, RATE)
        assert (adapted - before).norm() > 1e-3 * before.norm()
        names = kept_names(encoder)
        checkpoints.save(folder / "adapter.safetensors", {n: encoder.get_parameter(n) for n in names}, {})
        again = add_lora(build(), LoraConfig()).eval()
        loaded = checkpoints.load_file(folder / "adapter.safetensors")["model"]
        assert sorted(loaded) == sorted(names)
        assert not again.load_state_dict(loaded, strict=False).unexpected_keys
        assert torch.equal(again.embed(samples, RATE), adapted)
        merged = merge_lora(again).embed(samples, RATE)
        assert (merged - adapted).norm() <= 1e-5 * adapted.norm()


def assert_saved(encoder: Encoder, name: str, path: Path) -> None:
    """Our own file has the published tensor names, including ``name``, and loads to the same encoder."""
    encoder.save(path, steps=3)
    content = checkpoints.load_file(path)
    assert name in content["model"]
    assert content["metadata"]["family"] == encoder.family
    loaded = type(encoder).load(path)
    assert loaded.config == encoder.config
    assert not loaded.training
    assert torch.equal(loaded.embed(wave(0.5), RATE), encoder.embed(wave(0.5), RATE))
