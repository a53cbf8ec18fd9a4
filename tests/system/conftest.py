"""Recordings and networks of toy size for the tests of the library."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from system import audio
from system.manifest import Clip

RATE = 8000


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Clip]:
    """Writes a short recording of tones in noise and returns its clip, with the given ``fields``."""

    def make(file: str, seconds: float = 0.5, channels: int = 2, rate: int = RATE, seed: int = 0, **fields) -> Clip:
        generator = np.random.default_rng(seed)
        samples = round(seconds * rate)
        time = np.arange(samples) / rate
        tone = 0.3 * np.sin(2 * np.pi * generator.uniform(100, 0.4 * rate) * time)
        wave = tone * generator.uniform(0.3, 1.0, (channels, 1)) + generator.normal(0, 0.03, (channels, samples))
        values = {"corpus": "toy", "machine": "fan", "section": "00", "split": "train", "domain": "source"} | fields
        path = tmp_path / "audio" / values["machine"] / values["split"] / file
        path.parent.mkdir(parents=True, exist_ok=True)
        audio.write(path, wave, rate)
        return Clip(
            file=file,
            path=str(path),
            channels=channels,
            rate=rate,
            samples=samples,
            digest=audio.digest(path),
            **values,
        )

    return make


@pytest.fixture
def train_clips(record) -> list[Clip]:
    """Two machines with four normal clips each, one of them in the target domain; one machine has attributes."""
    clips = []
    for m, machine in enumerate(("fan", "pump")):
        for i in range(4):
            attributes = f"speed_{i % 2}" if machine == "fan" else ""
            domain = "target" if i == 3 else "source"
            name = f"section_00_{domain}_train_normal_{i:04d}.wav"
            clips.append(
                record(name, seed=10 * m + i, machine=machine, label="normal", domain=domain, attributes=attributes)
            )
    return clips


@pytest.fixture
def tiny_encoder():
    """A FISHER encoder with 16 channels and two blocks, always with the same weights."""
    import torch

    from system.encoders.fisher import Fisher, FisherConfig

    def build(seed: int = 0, **sizes) -> Fisher:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Fisher(
                FisherConfig(**({"embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0} | sizes))
            ).eval()

    return build
