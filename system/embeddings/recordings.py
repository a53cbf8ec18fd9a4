"""Embeddings of any recordings by a frozen encoder, written to one npz file."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from system import audio
from system.batching import choose_batch_size
from system.corpora.inspection import InspectedSound, inspect_all
from system.corpora.source import is_table, list_source
from system.embeddings.embed import embed_files
from system.embeddings.precision import choose_precision, long_name, set_precision
from system.encoders.base import Encoder
from system.errors import WheeltapperError
from system.files import open_atomic
from system.progress import progress_bar
from system.record import run_record
from system.resampling import check_rates, official_name


def list_recordings(source: Path) -> list[Path]:
    """The sound files of a folder at any depth, those that a manifest or table lists, or the one file that is named.

    Raises:
        WheeltapperError: there is none.
    """
    if not source.exists():
        raise WheeltapperError(f"{source}: expected a sound file, a folder or a manifest, found nothing")
    if is_table(source):
        clips, _ = list_source(source)
        return sorted({Path(clip.path) for clip in clips})
    paths = audio.list_files(source) if source.is_dir() else [source]
    if not paths:
        raise audio.nothing_found(source)
    return paths


def choose_usable(paths: Sequence[Path], rate: int, workers: int = 1) -> tuple[list[Path], list[str]]:
    """Recordings that can be embedded, and one line for each of the others.

    Args:
        paths: sound files.
        rate: sampling rate in Hz that all are brought to; 0 for their own, which has to be one: that of most.
        workers: recordings read at once.
    """
    with progress_bar(len(paths), "reading") as bar:
        sounds = inspect_all([str(path) for path in paths], workers, bar.to)
    rates = Counter(sound.rate for sound in sounds if isinstance(sound, InspectedSound))
    usual = min(rates, key=lambda each: (-rates[each], each), default=0)
    usable, problems = [], []
    for path, sound in zip(paths, sounds, strict=True):
        if problem := sound if isinstance(sound, str) else rate_problem(path, sound.rate, rate, usual):
            problems.append(problem)
        else:
            usable.append(path)
    return usable, problems


def rate_problem(path: Path, own: int, rate: int, usual: int) -> str:
    """What is wrong with a recording's sampling rate; empty if nothing is."""
    if not rate and own != usual:
        return (
            f"{path}: expected {usual} Hz like most recordings, found {own} Hz: the number of bands depends on "
            "the rate (--rate resamples all files to one)"
        )
    try:
        check_rates(own, rate or own)
    except WheeltapperError as error:
        return f"{path}: {error}"
    return ""


def relative_name(path: Path, root: Path) -> str:
    """Name of a recording in a result: below ``root``, or its path where it is elsewhere."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def write_embeddings(
    out: Path,
    encoder: Encoder,
    paths: Sequence[Path],
    root: Path,
    checkpoint: str,
    *,
    mode: str = "official",
    pool: str = "",
    pool_power: float = 0.0,
    layer: int = 0,
    rate: int = 0,
    device: str = "cpu",
    precision: str = "auto",
    batch_size: int = 0,
    workers: int = 1,
) -> str:
    """Embeds recordings and writes ``files`` (N,), ``embeddings`` float32 (N, D) and ``record`` (JSON text).

    Args:
        out: npz file to write.
        encoder: with its weights.
        paths: sound files.
        root: folder to which their names in the file are relative.
        checkpoint: name of the weights, for the record.
        mode, pool, pool_power, layer: how an embedding is made from the tokens, see ``embed_files``.
        rate: sampling rate in Hz that all recordings are brought to; 0 for their own.
        device: ``cpu`` or ``cuda``.
        precision: ``fp32``, ``bf16``, ``int8`` or ``auto``, see ``choose_precision``.
        batch_size: recordings computed together; 0: from the device.
        workers: recordings read and computed at once.

    Returns:
        A line for the terminal: what was written, and how fast.
    """
    used, begin = choose_precision(precision, device, encoder), time.monotonic()
    set_precision(encoder, used)
    with progress_bar(len(paths), "embedding") as bar:
        embeddings = embed_files(
            encoder, paths, mode, rate, workers, bar.update, pool, pool_power, layer, device, batch_size
        )
    seconds = time.monotonic() - begin
    record: dict[str, Any] = {
        "encoder": encoder.family,
        "config": asdict(encoder.config),
        "checkpoint": checkpoint,
        **{"mode": mode, "pool": pool, "layer": layer},
        **{"filterbank": encoder.filterbank, "simam": encoder.simam, "rate": rate, "device": device},
        "precision": long_name(encoder),
        "resampler": official_name(encoder.rate),
        "batch_size": choose_batch_size(batch_size, device),
        "seconds": round(seconds, 2),
        **run_record(),
    }
    with open_atomic(out, "wb") as file:
        np.savez(
            file,
            files=np.array([relative_name(path, root) for path in paths]),
            embeddings=embeddings,
            record=np.array(json.dumps(record)),
        )
    return (
        f"{out}: {len(paths)} recordings, {embeddings.shape[1]} numbers each, {record['precision']}, "
        f"{len(paths) / max(seconds, 1e-9):.1f} recordings/s, peak memory {record['peak_memory_mb']} MB"
    )
