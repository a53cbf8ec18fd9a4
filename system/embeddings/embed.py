"""Embeds recordings: with the branches of a run, or any files with a frozen encoder."""

import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from system import audio, waveforms
from system.accelerator import products, to_host
from system.batching import run_batches
from system.config import VIEWS
from system.embeddings.parts import Batches, describe_in_parts
from system.embeddings.precision import long_name
from system.encoders.base import Encoder
from system.encoders.pooling import pool_tokens, select
from system.errors import WheeltapperError
from system.frontends.channels import select_inputs
from system.manifest import Clip

if TYPE_CHECKING:  # imports peft and transformers, which takes seconds and is not needed for frozen encoders
    from system.adaptation.model import AdaptedEncoder

GATE_SLOTS = 32  # time slots of the gate's profile
WHOLE = 60.0  # seconds up to which a recording of any kind is embedded as a whole


def embed_branch(
    model: "AdaptedEncoder",
    clips: Sequence[Clip],
    parts: str | os.PathLike,
    workers: int = 1,
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
    batch_size: int = 0,
    readouts: Mapping[str, tuple[str, float]] = MappingProxyType({}),
) -> dict[str, np.ndarray]:
    """Embeds clips with an adapted branch, in every view and readout.

    With batches of one (see ``run_batches``) the embedding of a clip depends on its samples only, bit for bit. Several
    processes share the clips, and an interrupted run resumes from ``parts`` (``describe_in_parts``).

    Args:
        model: adapted encoder in the precision wanted (``set_precision``); moved to ``device``.
        clips: N clips of any machines.
        parts: folder for finished parts.
        workers: number of threads.
        device: cpu or cuda.
        progress: called with the number of clips embedded since the last call.
        batch_size: clips computed together; 0: from the device, see ``choose_batch_size``.
        readouts: additional readouts computed in the same pass, name to (kind, power); see ``AdaptedEncoder.readout``.

    Returns:
        ``two_channel`` and ``near_only`` float32 (N, E), and ``gate`` float32 (N, GATE_SLOTS), in the order of
        the clips; for each of ``readouts`` also ``NAME.two_channel`` and ``NAME.near_only``. Nothing in processes other
        than the main one.

    Raises:
        WheeltapperError: the embedding of a clip is not finite.
    """
    model = model.to(device)

    def describe(own: list[Clip]) -> Batches:
        return _embed_batches(model, own, workers, device, batch_size, readouts)

    return describe_in_parts(clips, parts, describe, progress)


def embed_machine(
    model: "AdaptedEncoder",
    clips: Sequence[Clip],
    workers: int = 1,
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
    batch_size: int = 0,
    readouts: Mapping[str, tuple[str, float]] = MappingProxyType({}),
) -> dict[str, np.ndarray]:
    """``embed_branch`` for the clips of one machine, with a model that is already on its device."""
    columns: dict[str, np.ndarray] = {}
    for rows, values in _embed_batches(model, clips, workers, device, batch_size, readouts):
        for name, part in values.items():
            columns.setdefault(name, np.empty((len(clips), *part.shape[1:]), np.float32))[rows] = part
        if progress:
            progress(len(rows))
    return columns


def _embed_batches(
    model: "AdaptedEncoder",
    clips: Sequence[Clip],
    workers: int,
    device: str,
    batch_size: int,
    readouts: Mapping[str, tuple[str, float]],
) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
    """Yields places of clips of one machine and their rows (B, ...) by column."""
    config = model.config

    def load(clip: Clip) -> Tensor:
        wave = waveforms.load(clip, model.rate)
        # A mono recording is a single input: its tokens need not be computed twice.
        inputs = config.inputs if len(wave) > 1 else config.inputs[:1]
        return torch.from_numpy(select_inputs(wave, model.rate, inputs, config.subtraction, clip.path))

    @torch.inference_mode()
    def network(waves: Tensor) -> dict[str, np.ndarray]:
        both, first, gate = model.encode_inputs(waves.to(device, non_blocking=True), clips[0].machine)
        found = {"gate": torch.nn.functional.adaptive_avg_pool1d(gate, GATE_SLOTS)}
        for name, kind in {"": ("projection", 0.0), **readouts}.items():
            for view, tokens in zip(VIEWS, (both, first), strict=True):
                found[f"{name}.{view}" if name else view] = model.readout(tokens, *kind)
        return to_host(found)

    with products(False, device):
        for rows, values in run_batches(clips, load, network, workers, batch_size, device, long_name(model.encoder)):
            for part in values.values():
                _check_finite(part, [clips[row].path for row in rows])
            yield rows, values


def _check_finite(values: np.ndarray, paths: Sequence[Any]) -> None:
    """Raises WheeltapperError, which names the recording, where rows (B, ...) are not finite."""
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1))[0])
        raise WheeltapperError(f"{paths[bad]}: expected a finite embedding, found NaN or infinity")


def frozen_network(
    encoder: Encoder, mode: str = "official", pool: str = "", power: float = 0.0, depth: int = 0, rate: int = 0
) -> Callable[[Tensor], Tensor]:
    """A function of spectrograms (B, T, F) that returns embeddings (B, D) of a frozen encoder.

    Args:
        encoder: any family.
        mode: convention of a published program, see ``Encoder.embed``.
        pool: instead of ``mode``: pooling of the tokens of one block.
        power: exponent of the pooling, 0 for its default.
        depth: block whose tokens are pooled, 0 for the last.
        rate: sampling rate of the recordings in Hz, 0 for unknown.
    """
    if depth and not pool:
        raise WheeltapperError("layer: expected a kind of pooling with it, found none; add --pool")
    if not pool:
        return lambda spectrogram: encoder.embed_spectrogram(spectrogram, mode, rate)
    return lambda spectrogram: pool_tokens(select(encoder(spectrogram, depth or None), pool), pool, power)


def embed_files(
    encoder: Encoder,
    paths: Sequence[Path],
    mode: str = "official",
    rate: int = 0,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
    pool: str = "",
    power: float = 0.0,
    depth: int = 0,
    device: str = "cpu",
    batch_size: int = 0,
) -> np.ndarray:
    """Embeds sound files with a frozen encoder; channels are averaged first.

    Of recordings longer than ``WHOLE``, which need not fit into memory, the mean over equal parts is returned.

    Args:
        encoder: any family, in the precision wanted (``set_precision``); it is moved to ``device`` and stays there.
        paths: N sound files.
        mode: convention of a published program, see ``Encoder.embed``.
        rate: sampling rate in Hz to which all files are resampled, 0 for none.
        workers: number of threads.
        progress: called with the number of files embedded since the last call.
        pool: instead of ``mode``: pooling of the tokens of one block, see ``frozen_network``.
        power: exponent of the pooling, 0 for its default.
        depth: block whose tokens are pooled, 0 for the last.
        device: cpu or cuda.
        batch_size: recordings computed together; 0: from the device, see ``choose_batch_size``.

    Returns:
        float32 (N, D).

    Raises:
        WheeltapperError: no files; different sampling rates with an encoder that accepts any; an embedding is not
            finite.

    Example:
        >>> encoder = family_class("fisher").load("data/checkpoints/fisher_small.pt")
        >>> embeddings = embed_files(encoder, [Path("a.wav"), Path("b.wav")])  # (2, D)
    """
    if not paths:
        raise WheeltapperError("embedding: expected at least one recording, found none")
    encoder.check_mode(mode)
    encoder.to(device)
    expected = rate or encoder.rate or audio.probe(paths[0]).rate
    network = frozen_network(encoder, mode, pool, power, depth, expected)

    parts = [part for path in paths for part in _parts(path)]

    @torch.inference_mode()
    def load(part: tuple[Path, int, int]) -> Tensor:
        path, start, stop = part
        wave, native = audio.read(path, start, stop - start)
        if native != expected and not rate and not encoder.rate:
            raise WheeltapperError(
                f"{path}: expected {expected} Hz as in {paths[0]}, found {native} Hz: the number of bands depends on "
                "the rate (--rate resamples all files to one)"
            )
        mono = audio.resample(wave.mean(0, keepdims=True), native, rate or native)
        return encoder.spectrogram(torch.from_numpy(mono), rate or native, mode)[0]

    @torch.inference_mode()
    def compute(spectrograms: Tensor) -> np.ndarray:
        return to_host({"": network(spectrograms.to(device, non_blocking=True))})[""]

    found: np.ndarray | None = None
    first = np.array([not start for _, start, _ in parts])
    with products(False, device):
        for rows, values in run_batches(parts, load, compute, workers, batch_size, device, long_name(encoder)):
            _check_finite(values, [parts[row][0] for row in rows])
            found = np.empty((len(parts), values.shape[1]), np.float32) if found is None else found
            found[rows] = values
            if progress and (done := int(first[rows].sum())):
                progress(done)
    assert found is not None  # there is a part
    if first.all():
        return found
    starts = np.flatnonzero(first)
    return np.add.reduceat(found, starts) / np.diff([*starts, len(parts)])[:, None].astype(np.float32)


def _parts(path: Path) -> list[tuple[Path, int, int]]:
    """Path, first sample and end of the equal parts in which a recording is embedded."""
    info = audio.probe(path)
    edges = np.linspace(0, info.samples, math.ceil(info.seconds / WHOLE) + 1).round().astype(int).tolist()
    return [(path, start, stop) for start, stop in itertools.pairwise(edges)]
