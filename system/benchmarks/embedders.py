"""How RMIS and SIREN embed a recording as one vector: with a frozen encoder, or with spectral statistics."""

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
from system.embeddings.precision import long_name
from system.encoders.base import Encoder
from system.encoders.checkpoints import weights_hash
from system.errors import WheeltapperError
from system.manifest import Clip

LEAST_REST = 0.05  # smallest remainder, as a share of a segment, that gives another segment (RMIS)
RMIS, SIREN = "rmis", "siren"


@dataclass(frozen=True)
class Embedder:
    """A function of a recording that returns a vector.

    Args:
        facts: everything that the vectors depend on, as plain JSON values.
        function: of a waveform, float32 (channels, samples), and its rate in Hz; returns (D,).
    """

    facts: dict[str, Any]
    function: Callable[[Tensor, int], np.ndarray]

    def __call__(self, clip: Clip) -> np.ndarray:
        """Embeds a clip.

        Raises:
            WheeltapperError: the file is missing, damaged, silent or not the one in the manifest.
        """
        wave, rate = audio.read(clip.path)
        if audio.digest(clip.path) != clip.digest:
            raise WheeltapperError(
                f"{clip.path}: expected the recording of the manifest (content {clip.digest}), found another content; "
                "prepare the data set again"
            )
        return self.function(torch.from_numpy(wave), rate)


def statistics(name: str, each: bool = False) -> Embedder:
    """An embedder of spectral statistics.

    Args:
        name: one of ``STATISTICS``.
        each: see ``siren``.
    """
    if name not in STATISTICS:
        raise WheeltapperError(f"statistics: expected one of {', '.join(STATISTICS)}, found {name!r}")

    kind = dict(zip(STATISTICS, BASELINES, strict=True))[name]

    def function(wave: Tensor, rate: int) -> np.ndarray:
        signal = wave if each else wave.mean(0, keepdim=True)
        return np.concatenate([spectral_statistics(channel[None], rate)[kind] for channel in signal])

    return Embedder({"statistics": name, "channels": "each" if each else "mean", "version": __version__}, function)


def rmis(encoder: Encoder, seconds: float, rate: int = 0) -> Embedder:
    """An embedder as in RMIS: the mean over the segments of one channel (FISHER paper, section 4.2).

    Args:
        encoder: in evaluation mode, on its device.
        seconds: length of a segment.
        rate: sampling rate in Hz to which recordings are resampled; 0: the encoder's rate, or none.
    """
    mode = RMIS if RMIS in encoder.modes else "official"

    @torch.inference_mode()
    def function(wave: Tensor, native: int) -> np.ndarray:
        wanted = encoder.rate or rate or native
        if wanted != native:
            wave = audio.official_resampler(native, wanted)(wave)
        parts = segments(wave.mean(0), round(seconds * wanted))
        return encoder.embed(parts.to(encoder.device), wanted, mode).mean(0).float().cpu().numpy()

    return Embedder(_facts(encoder, mode) | {"seconds": seconds, "rate": encoder.rate or rate}, function)


def siren(encoder: Encoder, each: bool = False) -> Embedder:
    """An embedder as in SIREN: the encoder's own pieces of the whole recording, averaged (ECHO paper, section 4).

    Args:
        encoder: in evaluation mode, on its device.
        each: concatenate the embeddings of all channels, instead of embedding their mean.
    """
    mode = SIREN if SIREN in encoder.modes else encoder.full_length_mode

    @torch.inference_mode()
    def function(wave: Tensor, rate: int) -> np.ndarray:
        signal = wave if each else wave.mean(0, keepdim=True)
        signal = (signal - signal.mean(1, keepdim=True)).to(encoder.device)
        return encoder.embed(signal, rate, mode).flatten().float().cpu().numpy()

    return Embedder(_facts(encoder, mode) | {"channels": "each" if each else "mean"}, function)


def segments(wave: Tensor, length: int) -> Tensor:
    """Divides a recording into RMIS's segments.

    The segments are consecutive. A remainder of at least ``LEAST_REST`` of a segment gives another one that ends with
    the recording. The mean of each segment is subtracted; then a recording shorter than a segment is padded with zeros.

    Args:
        wave: (samples,).
        length: samples per segment.

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


def _facts(encoder: Encoder, mode: str) -> dict[str, Any]:
    return {
        "encoder": encoder.family,
        "config": asdict(encoder.config),
        "weights": weights_hash(encoder),
        "filterbank": encoder.filterbank,
        "simam": encoder.simam,
        "mode": mode,
        "precision": long_name(encoder),
        "version": __version__,
    }
