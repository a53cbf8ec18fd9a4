"""Spectrograms and frozen embeddings of the recordings, computed once and stored.

Both are rows of an ``EmbeddingStore`` identified by everything they depend on, so studies with other seeds and scopes
reuse them. The four machines of MIMII at one signal-to-noise ratio (18,000 clips of 10 s) need 10 GB for AST, 12 GB for
ResNeXt and 1.4 GB for the autoencoder, and temporarily twice that when a set is finished.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from system import __version__, audio
from system.embeddings.store import EmbeddingStore
from system.encoders.base import Encoder
from system.encoders.checkpoints import weights_hash
from system.errors import WheeltapperError
from system.frontends.logmel import log_mel
from system.manifest import Clip

MEAN = -1  # channel number that selects the mean of all channels
BANDS, N_FFT, HOP = 64, 1024, 512  # log-mel settings of the autoencoder (MIMII paper, section III)

Progress = Callable[[int], None]


class FrontEnd(NamedTuple):
    """A function from a recording to its spectrogram, float32 (T, F).

    ``facts`` are all settings that the result depends on, as plain JSON values.
    """

    name: str
    facts: dict[str, Any]
    bands: int
    function: Callable[[Clip], np.ndarray]


def mono(path: str | os.PathLike, channel: int = MEAN) -> tuple[Tensor, int]:
    """One channel of a recording, or the mean of all: float32 (1, samples), and the sampling rate in Hz.

    Raises:
        WheeltapperError: the recording cannot be read, is not finite, or lacks the channel.
    """
    wave, rate = audio.read(path)
    if channel >= len(wave):
        raise WheeltapperError(f"{path}: expected a channel {channel}, counted from 0, found {len(wave)} channels")
    selected = wave.mean(0, keepdims=True) if channel == MEAN else wave[channel : channel + 1]
    return torch.from_numpy(np.ascontiguousarray(selected)), rate


def _checked_mono(clip: Clip, channel: int) -> tuple[Tensor, int]:
    """``mono`` of a clip, after a check that the file is the one in the manifest."""
    wave, rate = mono(clip.path, channel)
    if audio.digest(clip.path) != clip.digest:
        raise WheeltapperError(
            f"{clip.path}: expected the recording of the manifest (content {clip.digest}), found another content; "
            "prepare the data set again"
        )
    return wave, rate


def log_mel_front_end(channel: int = MEAN) -> FrontEnd:
    """Front end of the autoencoder: 64 mel bands in decibels, (T, 64) with T = 1 + samples // 512."""

    def function(clip: Clip) -> np.ndarray:
        wave, rate = _checked_mono(clip, channel)
        return log_mel(wave.numpy(), rate, N_FFT, HOP, BANDS)[0]

    facts = {"log-mel": [N_FFT, HOP, BANDS], "channel": channel, "version": __version__}
    return FrontEnd("logmel", facts, BANDS, function)


def encoder_front_end(name: str, encoder: Encoder, mode: str, channel: int = MEAN) -> FrontEnd:
    """Front end of an encoder in one of its modes."""
    encoder.check_mode(mode)

    @torch.inference_mode()
    def function(clip: Clip) -> np.ndarray:
        wave, rate = _checked_mono(clip, channel)
        return encoder.spectrogram(wave, rate, mode)[0].numpy()

    with torch.inference_mode():
        rate = encoder.rate or 16000
        bands = encoder.spectrogram(torch.zeros(1, rate), rate, mode).shape[-1]
    facts = {
        "encoder": encoder.family,
        "config": asdict(encoder.config),
        "filterbank": encoder.filterbank,
        "simam": encoder.simam,
        "mode": mode,
        "channel": channel,
        "version": __version__,
    }
    return FrontEnd(name, facts, bands, function)


def check_alike(clips: Sequence[Clip]) -> None:
    """Raises WheeltapperError unless all recordings have the same rate and length, as batches and stores require."""
    first = clips[0]
    for clip in clips:
        if (clip.rate, clip.samples) != (first.rate, first.samples):
            raise WheeltapperError(
                f"{clip.path}: expected {first.samples} samples at {first.rate} Hz as in {first.path}, found "
                f"{clip.samples} at {clip.rate} Hz; a study takes recordings of one length"
            )


def spectrogram_store(folder: str | os.PathLike, front_end: FrontEnd, clips: Sequence[Clip]) -> EmbeddingStore:
    """The store of the spectrograms of clips, one row each."""
    return EmbeddingStore(folder, f"spectrograms-{front_end.name}", front_end.facts, clips)


def embedding_store(
    folder: str | os.PathLike, front_end: FrontEnd, encoder: Encoder, clips: Sequence[Clip]
) -> EmbeddingStore:
    """The store of the frozen embeddings of clips, one row each."""
    facts = front_end.facts | {"weights": weights_hash(encoder)}
    return EmbeddingStore(folder, f"frozen-{front_end.name}", facts, clips)


def fill_spectrograms(store: EmbeddingStore, front_end: FrontEnd, workers: int, progress: Progress | None) -> None:
    """Computes missing spectrograms; an interrupted run resumes."""
    if store.read() is None:
        check_alike(store.clips)
        store.fill(lambda clip: front_end.function(clip).ravel(), workers, progress=progress)
        store.finish()


def read_spectrograms(store: EmbeddingStore, bands: int) -> np.ndarray:
    """Memory-mapped spectrograms, float32 (N, T, bands), in the order of the store's clips.

    Raises:
        WheeltapperError: some are missing.
    """
    rows = store.read()
    if rows is None:
        raise WheeltapperError(f"{store.folder}: expected spectrograms of {len(store.clips)} clips, run stage 1 again")
    return rows.reshape(len(rows), -1, bands)


def fill_embeddings(
    store: EmbeddingStore,
    encoder: Encoder,
    mode: str,
    spectrograms: np.ndarray,
    device: str,
    workers: int,
    progress: Progress | None,
) -> None:
    """Computes missing embeddings; an interrupted run resumes.

    Args:
        store: of the embeddings.
        encoder: in evaluation mode; moved to ``device``.
        mode: one of the encoder's modes.
        spectrograms: of the store's clips, (N, T, F).
        device: cpu or cuda.
        workers: number of threads.
        progress: called with 1 after each clip.
    """
    if store.read() is not None:
        return
    rows = {clip.key: row for row, clip in enumerate(store.clips)}
    encoder.to(device)
    rate = encoder.rate or store.clips[0].rate

    @torch.inference_mode()
    def embed(clip: Clip) -> np.ndarray:
        spectrogram = torch.from_numpy(spectrograms[rows[clip.key]][None].copy()).to(device)
        return encoder.embed_spectrogram(spectrogram, mode, rate)[0].cpu().numpy()

    store.fill(embed, workers, progress=progress)
    store.finish()
