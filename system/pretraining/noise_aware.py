"""Training of noise-aware layers on emulated mixtures of machines and noise.

The target of a near signal are the last tokens that the frozen encoder has for the same signal without noise, and the
loss is the mean squared error over tokens and channels (arXiv 2608.00447; there with mixtures of FSD50K and recordings
of places, which are larger than what is at hand here). Only the layers learn. What is kept is the moving average of
their weights.

Differences that are ours: the moving average starts at once, with a decay that grows with the steps; noise is equalised
to the machine and each microphone has noise of its own, as in ``corpora.simulation.emulate``; the target keeps the
room's response, so that the layers do not learn to remove it.
"""

import copy
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system import audio
from system.corpora.simulation.acoustics import SILENCE, Scene, draw_scene, generator, long_term_spectrum, power
from system.corpora.simulation.emulate import EmulateSettings, render_parts
from system.corpora.simulation.noise import NoisePool
from system.encoders.base import Encoder
from system.encoders.noise_aware_layers import NoiseAwareLayers
from system.errors import WheeltapperError

ROOMS = 64  # rooms that mixtures are drawn from
LEVELS_DB = (-50.0, -20.0)  # limits of the root mean square of the near channel, dB full scale
ATTEMPTS = 100  # crops drawn before a set of recordings counts as silent


class Mixtures:
    """Random mixtures, which depend on the seed, the step and the place in the batch only.

    Args:
        machines: recordings of machines.
        noise: recordings of noise.
        settings: of the mixing; ``level_db`` is not used, levels are drawn.
        seconds: length.
        batch_size: mixtures of a step.
    """

    def __init__(
        self, machines: Sequence[Path], noise: NoisePool, settings: EmulateSettings, seconds: float, batch_size: int
    ):
        settings.check()
        self.machines, self.noise, self.settings = list(machines), noise, settings
        self.samples, self.batch_size = round(seconds * settings.rate), batch_size

    def __call__(self, step: int, part: int, parts: int) -> dict[str, Tensor]:
        """Slice ``part`` of ``parts`` of a step's batch: ``near``, ``far`` and ``clean``, each (B / parts, samples)."""
        size = self.batch_size // parts
        found = [self.draw(step, number) for number in range(part * size, (part + 1) * size)]
        return {name: torch.from_numpy(np.stack([each[name] for each in found])) for name in found[0]}

    def draw(self, *place: int) -> dict[str, np.ndarray]:
        """``near``, ``far`` and ``clean``, the machine at the near microphone, each float32 (samples,)."""
        it = self.settings
        rng = generator(it.seed, "mixture", *place)
        scene = _scene(it, int(rng.integers(ROOMS)))
        dry = self._machine(rng)
        waves, _ = self.noise.draw(rng, it.sources, len(dry) + scene.taps - 1, it.rate)
        snr_db = rng.uniform(it.snr_low, it.snr_high)
        machine, noise = render_parts(rng, it, scene, long_term_spectrum(dry, it.rate), dry, waves, snr_db)
        near, far = machine + noise
        gain = 10 ** (rng.uniform(*LEVELS_DB) / 20) / np.sqrt(power(near))
        return {
            name: (gain * wave).astype(np.float32) for name, wave in zip(KEYS, (near, far, machine[0]), strict=True)
        }

    def _machine(self, rng: np.random.Generator) -> np.ndarray:
        """A random crop of a recording, of unit power; short recordings are repeated."""
        for _ in range(ATTEMPTS):
            wave = _read(self.machines[rng.integers(len(self.machines))], self.settings.rate)
            start = int(rng.integers(max(1, len(wave) - self.samples + 1)))
            crop = np.resize(wave[start:], self.samples)
            if (level := np.sqrt(power(crop))) > SILENCE:
                return crop / np.float32(level)
        raise WheeltapperError(f"{self.machines[0].parent}: expected recordings of machines, found silence")


KEYS = ("near", "far", "clean")


@lru_cache(maxsize=ROOMS)
def _scene(settings: EmulateSettings, number: int) -> Scene:
    it = settings
    rng = generator(it.seed, "room", number)
    return draw_scene(rng, it.rate, it.rt60, it.sources, it.near_metres, it.far_metres)


@lru_cache(maxsize=2048)
def _read(path: Path, rate: int) -> np.ndarray:
    wave, found = audio.read(path)
    return audio.resample(wave[:1], found, rate)[0]


class NoiseAwareTask(nn.Module):
    """Training objective of the noise-aware layers of an encoder, which is otherwise frozen.

    Args:
        encoder: with noise-aware layers.
        rate: sampling rate in Hz of the mixtures.
        decay: of the moving average of the layers' weights, after some steps.
    """

    def __init__(self, encoder: Encoder, rate: int, decay: float = 0.995):
        super().__init__()
        if encoder.noise_aware is None:
            raise WheeltapperError("training: expected an encoder with noise-aware layers, found one without")
        self.encoder, self.rate, self.decay = encoder.requires_grad_(False), rate, decay
        self.layers: NoiseAwareLayers = encoder.noise_aware.requires_grad_(True)
        self.average = copy.deepcopy(self.layers).requires_grad_(False)

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The loss of mixtures ``near``, ``far`` and ``clean`` (B, samples)."""
        with torch.no_grad():
            near, far, clean = (self.encoder.spectrogram(batch[key], self.rate) for key in KEYS)
            target = self.encoder(clean)
        found = self.encoder(near, None, far)
        return {"loss": F.mse_loss(found.grid, target.grid) + F.mse_loss(found.summary, target.summary)}

    @torch.no_grad()
    def update_average(self, step: int) -> dict[str, float]:
        """Moves the average towards the weights after a step; for ``after_step`` of the training loop."""
        decay = min(self.decay, (1.0 + step) / (10.0 + step))
        for slow, fast in zip(self.average.parameters(), self.layers.parameters(), strict=True):
            slow.lerp_(fast, 1.0 - decay)
        return {}

    def extra_state(self) -> list[str]:
        """Names of the tensors of the moving average, which a resumed run needs."""
        return [f"average.{name}" for name, _ in self.average.named_parameters()]
