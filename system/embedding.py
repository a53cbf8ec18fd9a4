"""Recordings to embeddings: for the branches of a run, and for any files with a frozen encoder."""

import os
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from system import audio
from system.adaptation.model import AdaptedEncoder, Views
from system.errors import WheeltapperError
from system.manifest import Clip
from system.stage import open_atomic

GATE_SLOTS = 32  # time slots of the gate's profile


def embed_branch(
    model: AdaptedEncoder,
    clips: Sequence[Clip],
    parts: str | os.PathLike,
    workers: int = 1,
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Embeds clips with an adapted branch, in every view.

    Each clip goes through the network alone, so that its embedding depends on nothing but its own samples, to the bit;
    ``workers`` clips are on their way at once, each in a thread (batches gain nothing on a CPU, and waiting for one
    another inside every operation loses much). A finished machine is kept in ``parts`` and not computed again when a
    run was cut off.

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
            part = _embed_machine(model, [clips[row] for row in rows], workers, device, progress)
            with open_atomic(path, "wb") as file:
                np.savez(file, **part)
        elif progress:
            progress(len(rows))
        for name, values in part.items():
            result.setdefault(name, np.empty((len(clips), values.shape[1]), np.float32))[rows] = values
    return result


def _embed_machine(
    model: AdaptedEncoder, clips: Sequence[Clip], workers: int, device: str, progress: Callable[[int], None] | None
) -> dict[str, np.ndarray]:
    columns: dict[str, list[np.ndarray]] = {name: [] for name in Views._fields}
    with ThreadPoolExecutor(workers) as pool:
        for values in pool.map(lambda clip: _embed_clip(model, clip, device), clips):
            for name, value in values.items():
                columns[name].append(value)
            if progress:
                progress(1)
    return {name: np.stack(values) for name, values in columns.items()}


@torch.inference_mode()
def _embed_clip(model: AdaptedEncoder, clip: Clip, device: str) -> dict[str, np.ndarray]:
    wave, rate = audio.read(clip.path)
    wave = audio.resample(wave[:2], rate, model.rate)
    views = model.views(torch.from_numpy(wave[None]).to(device))
    views = views._replace(gate=torch.nn.functional.adaptive_avg_pool1d(views.gate, GATE_SLOTS))
    values = {name: value[0].float().cpu().numpy() for name, value in views._asdict().items()}
    if not all(np.isfinite(value).all() for value in values.values()):
        raise WheeltapperError(f"{clip.path}: expected a finite embedding, found NaN or infinity")
    return values


def _read_part(path: Path, rows: int) -> dict[str, np.ndarray] | None:
    if not path.is_file():
        return None
    try:
        with np.load(path) as archive:
            part = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None  # damaged: computed again
    return part if all(len(values) == rows for values in part.values()) else None


def embed_files(
    encoder,
    paths: Sequence[Path],
    mode: str = "official",
    rate: int = 0,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Frozen embeddings of sound files; several channels are averaged first.

    Args:
        encoder: with ``embed(wave, rate, mode)``. paths: sound files. mode: of the encoder.
        rate: Hz to which all are brought, 0 for each at its own. workers: files on their way at once.

    Returns:
        float32 (N, D).

    Raises WheeltapperError where files of different rates give vectors of different length.
    """

    @torch.inference_mode()
    def embed(path: Path) -> np.ndarray:
        wave, native = audio.read(path)
        mono = audio.resample(wave.mean(0, keepdims=True), native, rate or native)
        return encoder.embed(torch.from_numpy(mono), rate or native, mode)[0].numpy()

    rows: list[np.ndarray] = []
    with ThreadPoolExecutor(workers) as pool:
        for path, row in zip(paths, pool.map(embed, paths), strict=True):
            rows.append(row)
            if len(row) != len(rows[0]):
                raise WheeltapperError(
                    f"{path}: its rate gives {len(row)} numbers, {paths[0]} gave {len(rows[0])}: expected one rate in "
                    "a call (--rate brings all to it)"
                )
            if progress:
                progress(1)
    return np.stack(rows)
