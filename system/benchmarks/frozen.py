"""Vectors of whole recordings from frozen encoders, and from statistics of spectra to hold them against."""

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
def read_out(encoder: Encoder, wave: Tensor, rate: int) -> Vectors:
    """Embeddings of one whole recording: float32 vectors by read-out.

    ``cls`` is the summary, in the sub-band families the CLS of every band, low to high, as the RMIS and SIREN protocols
    take it; ``tokens`` the mean over time of all other tokens, frequency positions side by side. Recordings longer than
    ``frame_limit`` go in pieces of that length, the last one being the last frames of the recording; the mean over the
    pieces counts (SIREN's protocol).

    Args:
        encoder: in evaluation mode. wave: float32 (1, samples). rate: Hz.
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
    """What needs no training (``BASELINES``): mean, and mean beside standard deviation, over the time of one recording.

    Of 128 log-mel bands in dB, and of the logarithm of the magnitude spectrum that the sub-band encoders are given.

    Args:
        wave: float32 (1, samples). rate: Hz.
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
    """Runs several networks over recordings, each of which is read once.

    Args:
        clips: of one rate, the others being an error: what a vector's numbers mean depends on it.
        networks: by name; a mono recording, float32 (1, samples), and its rate in Hz to vectors.
        near: take the near channel, instead of the mean of all.
        workers: recordings on their way at once. progress: called with 1 after each.

    Returns:
        by network and read-out, float32 (N, D) in the clips' order.

    Raises WheeltapperError for a recording that cannot be read, of another rate, or whose vector is not finite.
    """

    def embed(clip: Clip) -> dict[str, Vectors]:
        wave, rate = audio.read(clip.path)
        if rate != clips[0].rate:
            raise WheeltapperError(f"{clip.path}: expected {clips[0].rate} Hz as in {clips[0].path}, found {rate} Hz")
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
