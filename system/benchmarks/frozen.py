"""Embeddings of whole recordings from frozen encoders, and spectral statistics for comparison."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from system import audio
from system.encoders.base import Encoder
from system.errors import WheeltapperError
from system.frontends.logmel import mel_decibels
from system.frontends.stft import log_magnitude
from system.manifest import Clip
from system.parallel import map_in_order

READOUTS = ("cls", "tokens")
BASELINES = ("log-mel mean", "log-mel mean+std", "log spectrum mean", "log spectrum mean+std")

Vectors = dict[str, np.ndarray]
Network = Callable[[Tensor, int], Vectors]


@torch.inference_mode()
def compute_readouts(encoder: Encoder, wave: Tensor, rate: int) -> Vectors:
    """Embeds one whole recording in each of ``READOUTS``.

    ``cls`` is the summary: in sub-band families the CLS tokens of all bands, low to high, as in the RMIS and SIREN
    protocols. ``tokens`` is the mean over time of all other tokens, with frequency positions concatenated. Recordings
    longer than ``frame_limit`` are divided into pieces of that length, the last of which covers the end of the
    recording; the result is the mean over the pieces (SIREN's protocol).

    Args:
        encoder: in evaluation mode.
        wave: float32 (1, samples).
        rate: sampling rate in Hz.

    Returns:
        float32 vectors by readout.
    """
    spectrogram = encoder.spectrogram(wave.to(encoder.device), rate, encoder.full_length_mode)
    frames, limit = spectrogram.shape[1], encoder.frame_limit
    starts = [*range(0, frames - limit, limit), max(0, frames - limit)]
    pieces = [encoder(spectrogram[:, start : start + limit]) for start in starts]
    summary = torch.stack([piece.summary[0].flatten() for piece in pieces]).mean(0)
    tokens = torch.stack([piece.grid[0].mean(0).flatten() for piece in pieces]).mean(0)
    return {"cls": summary.cpu().numpy(), "tokens": tokens.cpu().numpy()}


@torch.inference_mode()
def spectral_statistics(wave: Tensor, rate: int) -> Vectors:
    """Features without training (``BASELINES``): mean, and mean with standard deviation, over the time of one
    recording.

    They are computed from 128 log-mel bands in dB, and from the logarithmic magnitude spectrum of the sub-band
    encoders.

    Args:
        wave: float32 (1, samples).
        rate: sampling rate in Hz.
    """
    found = {}
    for name, spectrum in (("log-mel", mel_decibels(wave, rate)), ("log spectrum", log_magnitude(wave, rate))):
        mean, std = spectrum[0].mean(0), spectrum[0].std(0, correction=0)
        found[f"{name} mean"] = mean.numpy()
        found[f"{name} mean+std"] = torch.cat([mean, std]).numpy()
    return found


def embed_clips(
    clips: Sequence[Clip],
    networks: Mapping[str, Network],
    near: bool = False,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Vectors]:
    """Applies several networks to recordings, reading each recording once.

    Args:
        clips: N recordings of one sampling rate.
        networks: by name, functions of a mono recording, float32 (1, samples), and its rate in Hz.
        near: use the near channel instead of the mean of all channels.
        workers: number of threads.
        progress: called with 1 after each recording.

    Returns:
        float32 (N, D) by network and readout, in the order of the clips.

    Raises:
        WheeltapperError: a recording cannot be read or has another rate, or an embedding is not finite.
    """

    def embed(clip: Clip) -> dict[str, Vectors]:
        wave, rate = audio.read(clip.path)
        if rate != clips[0].rate:
            raise WheeltapperError(f"{clip.path}: expected {clips[0].rate} Hz as in {clips[0].path}, found {rate} Hz")
        wave = clip.select(wave) if clip.channel_choice else wave
        mono = torch.from_numpy(wave[:1] if near else wave.mean(0, keepdims=True))
        return {name: network(mono, rate) for name, network in networks.items()}

    rows = []
    for clip, row in zip(clips, map_in_order(embed, clips, workers), strict=True):
        if not all(np.isfinite(vector).all() for vectors in row.values() for vector in vectors.values()):
            raise WheeltapperError(f"{clip.path}: expected a finite embedding, found NaN or infinity")
        rows.append(row)
        if progress:
            progress(1)
    return {
        name: {kind: np.stack([row[name][kind] for row in rows]) for kind in vectors}
        for name, vectors in rows[0].items()
    }
