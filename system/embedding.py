"""Recordings to embeddings: for the branches of a run, and for any files with a frozen encoder."""

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from system import audio
from system.adaptation.model import AdaptedEncoder
from system.errors import WheeltapperError
from system.manifest import Clip
from system.stage import open_atomic

INDEX = ("machine", "section", "split", "file")
GATE_SLOTS = 32  # time slots of the gate's profile
READERS = 2  # threads that read ahead


def embed_branch(
    model: AdaptedEncoder,
    clips: Sequence[Clip],
    parts: str | os.PathLike,
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Embeds clips one by one with an adapted branch, in every view.

    Each clip goes through the network alone, so that its embedding depends on nothing but its own samples, to the bit.
    A finished machine is kept in ``parts`` and not computed again when a run was cut off.

    Returns:
        ``two_channel`` and ``left_duplicated`` float32 (N, E) and ``gate`` float32 (N, GATE_SLOTS), in the clips'
        order. Raises WheeltapperError for a clip whose embedding is not finite.
    """
    model = model.to(device)
    machines: dict[str, list[int]] = {}
    for index, clip in enumerate(clips):
        machines.setdefault(clip.machine, []).append(index)
    result: dict[str, np.ndarray] = {}
    for machine, rows in machines.items():
        path = Path(parts) / f"{machine}.npz"
        part = _read_part(path, len(rows))
        if part is None:
            part = _embed_machine(model, [clips[row] for row in rows], device, progress)
            with open_atomic(path, "wb") as file:
                np.savez(file, **part)
        elif progress:
            progress(len(rows))
        for name, values in part.items():
            result.setdefault(name, np.empty((len(clips), values.shape[1]), np.float32))[rows] = values
    return result


def _embed_machine(model: AdaptedEncoder, clips: Sequence[Clip], device: str, progress) -> dict[str, np.ndarray]:
    columns: dict[str, list[np.ndarray]] = {"two_channel": [], "left_duplicated": [], "gate": []}
    with torch.inference_mode():
        for clip, wave in zip(clips, _read_ahead(clips, model.rate), strict=True):
            views = model.views(torch.from_numpy(wave[None, :2]).to(device))
            views = views._replace(gate=torch.nn.functional.adaptive_avg_pool1d(views.gate, GATE_SLOTS))
            for name, value in views._asdict().items():
                columns[name].append(value[0].float().cpu().numpy())
                if not np.isfinite(columns[name][-1]).all():
                    raise WheeltapperError(f"{clip.path}: expected a finite embedding, found NaN or infinity")
            if progress:
                progress(1)
    return {name: np.stack(values) for name, values in columns.items()}


def _read_ahead(clips: Sequence[Clip], rate: int) -> Iterator[np.ndarray]:
    def read(clip: Clip) -> np.ndarray:
        wave, native = audio.read(clip.path)
        return audio.resample(wave, native, rate)

    with ThreadPoolExecutor(READERS) as pool:
        waiting = [pool.submit(read, clip) for clip in clips[: 2 * READERS]]
        for number in range(len(clips)):
            wave = waiting.pop(0).result()
            if number + 2 * READERS < len(clips):
                waiting.append(pool.submit(read, clips[number + 2 * READERS]))
            yield wave


def _read_part(path: Path, rows: int) -> dict[str, np.ndarray] | None:
    if not path.is_file():
        return None
    with np.load(path) as archive:
        part = {name: archive[name] for name in archive.files}
    return part if all(len(values) == rows for values in part.values()) else None


def embed_files(
    encoder,
    paths: Sequence[Path],
    mode: str = "official",
    rate: int = 0,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Frozen embeddings of sound files; several channels are averaged first.

    Args:
        encoder: with ``embed(wave, rate, mode)``. paths: sound files. mode: of the encoder.
        rate: Hz to which all are brought, 0 for each at its own.

    Returns:
        float32 (N, D).

    Raises WheeltapperError where files of different rates give vectors of different length.
    """
    rows: list[np.ndarray] = []
    with torch.inference_mode():
        for path in paths:
            wave, native = audio.read(path)
            mono = audio.resample(wave.mean(0, keepdims=True), native, rate or native)
            rows.append(encoder.embed(torch.from_numpy(mono), rate or native, mode)[0].numpy())
            if len(rows[-1]) != len(rows[0]):
                raise WheeltapperError(
                    f"{path}: {native} Hz gives {len(rows[-1])} numbers, {paths[0]} gave {len(rows[0])}: expected one "
                    "rate in a call (--rate brings all to it)"
                )
            if progress:
                progress(1)
    return np.stack(rows)


def write_index(path: str | os.PathLike, clips: Sequence[Clip]) -> None:
    """Writes which clip each row of an embedding file is."""
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(INDEX)
        writer.writerows([getattr(clip, name) for name in INDEX] for clip in clips)


def read_rows(index: str | os.PathLike, embeddings: str | os.PathLike) -> dict[tuple[str, ...], np.ndarray]:
    """The embedding of each clip by (machine, section, split, file).

    Raises WheeltapperError where the two files do not belong together.
    """
    with open(index, newline="", encoding="utf-8") as file:
        keys = [tuple(row) for row in csv.reader(file)][1:]
    try:
        values = np.load(embeddings)
    except (OSError, ValueError, EOFError) as error:
        raise WheeltapperError(f"{embeddings}: expected an array of numbers, found damage ({error})") from error
    if len(keys) != len(values):
        raise WheeltapperError(f"{embeddings}: expected {len(keys)} rows as in {index}, found {len(values)}")
    return dict(zip(keys, values, strict=True))
