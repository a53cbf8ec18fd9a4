"""How RMIS and SIREN turn a recording into one vector: with a frozen encoder, or with statistics that need none."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from system import __version__, audio
from system.benchmarks.frozen import BASELINES, spectral_statistics
from system.benchmarks.protocols import STATISTICS
from system.encoders.base import Encoder
from system.errors import WheeltapperError
from system.manifest import Clip

LEAST_REST = 0.05  # of a segment, that makes a last one (RMIS)
RMIS, SIREN = "rmis", "siren"


@dataclass(frozen=True)
class Embedder:
    """A recording to a vector.

    Args:
        facts: what the vectors depend on, JSON-able. function: float32 (channels, samples) and its rate in Hz to (D,).
    """

    facts: dict[str, Any]
    function: Callable[[Tensor, int], np.ndarray]

    def __call__(self, clip: Clip) -> np.ndarray:
        """Vector of a clip, whose file must be the one that the manifest is of.

        Raises WheeltapperError for a file that is missing, damaged, silent or not the manifest's.
        """
        wave, rate = audio.read(clip.path)
        if audio.digest(clip.path) != clip.digest:
            raise WheeltapperError(
                f"{clip.path}: expected the recording that the manifest describes (content {clip.digest}), found "
                "another; prepare the data set again"
            )
        return self.function(torch.from_numpy(wave), rate)


def statistics(name: str, each: bool = False) -> Embedder:
    """One of ``STATISTICS`` of a whole recording; ``each`` as in ``siren``."""
    if name not in STATISTICS:
        raise WheeltapperError(f"statistics: expected one of {', '.join(STATISTICS)}, found {name!r}")

    kind = dict(zip(STATISTICS, BASELINES, strict=True))[name]

    def function(wave: Tensor, rate: int) -> np.ndarray:
        heard = wave if each else wave.mean(0, keepdim=True)
        return np.concatenate([spectral_statistics(channel[None], rate)[kind] for channel in heard])

    return Embedder({"statistics": name, "channels": "each" if each else "mean", "version": __version__}, function)


def rmis(encoder: Encoder, seconds: float, rate: int = 0) -> Embedder:
    """The mean over a recording's segments (FISHER paper, 4.2; ``segments``), of one channel.

    Args:
        encoder: in evaluation mode, on its device. seconds: of a segment.
        rate: Hz to which recordings are brought first; 0: they stay as they are, or are brought to the encoder's own.
    """
    mode = RMIS if RMIS in encoder.modes else "official"

    @torch.inference_mode()
    def function(wave: Tensor, native: int) -> np.ndarray:
        wanted = encoder.rate or rate or native
        if wanted != native:
            wave = audio.resampler(native, wanted)(wave)
        parts = segments(wave.mean(0), round(seconds * wanted))
        return encoder.embed(parts.to(encoder.device), wanted, mode).mean(0).float().cpu().numpy()

    return Embedder(_facts(encoder, mode) | {"seconds": seconds, "rate": encoder.rate or rate}, function)


def siren(encoder: Encoder, each: bool = False) -> Embedder:
    """What SIREN makes of a whole recording (ECHO paper, section 4): the encoder's own pieces, averaged.

    Args:
        encoder: in evaluation mode, on its device.
        each: embed every channel and put the vectors side by side, instead of the channels' mean.
    """
    mode = SIREN if SIREN in encoder.modes else encoder.full_length_mode

    @torch.inference_mode()
    def function(wave: Tensor, rate: int) -> np.ndarray:
        heard = wave if each else wave.mean(0, keepdim=True)
        heard = (heard - heard.mean(1, keepdim=True)).to(encoder.device)
        return encoder.embed(heard, rate, mode).flatten().float().cpu().numpy()

    return Embedder(_facts(encoder, mode) | {"channels": "each" if each else "mean"}, function)


def segments(wave: Tensor, length: int) -> Tensor:
    """A recording in RMIS's segments.

    They follow one another; a rest of at least ``LEAST_REST`` of one makes a last segment that ends with the recording.
    Each loses its mean; a recording shorter than one is filled up with zeros then.

    Args:
        wave: (samples,). length: samples of a segment.

    Returns:
        (segments, length).
    """
    count = len(wave) // length
    starts = [number * length for number in range(count)]
    if count and len(wave) - count * length >= LEAST_REST * length:
        starts.append(len(wave) - length)
    if not count:
        return F.pad(wave - wave.mean(), (0, length - len(wave)))[None]
    parts = torch.stack([wave[start : start + length] for start in starts])
    return parts - parts.mean(1, keepdim=True)


def weights_hash(encoder: Encoder) -> str:
    """Hash of an encoder's tensors, whatever file they came from."""
    hasher = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        hasher.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        hasher.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()[:16]


def _facts(encoder: Encoder, mode: str) -> dict[str, Any]:
    return {
        "encoder": encoder.family,
        "config": asdict(encoder.config),
        "weights": weights_hash(encoder),
        "filterbank": encoder.filterbank,
        "simam": encoder.simam,
        "mode": mode,
        "precision": str(encoder.dtype).removeprefix("torch."),
        "version": __version__,
    }
