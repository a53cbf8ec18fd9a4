"""Autoencoders of a branch: one for each machine, and if wanted one for each fold of its clips that leaves them out."""

import csv
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from system import config as configuration
from system import processes, waveforms
from system.errors import WheeltapperError
from system.files import open_atomic
from system.frontends.logmel import log_mel
from system.manifest import Clip, check_training, group_by, machines
from system.parallel import map_in_order
from system.references import dense
from system.references.autoencoder import Autoencoder, AutoencoderSettings

ALL = -1  # fold of the network that learns from all clips
FOLDS = "folds.csv"


@dataclass(frozen=True)
class Job:
    """One network to train: of a machine, without the clips of a fold (ALL: with every clip)."""

    machine: str
    fold: int

    def path(self, folder: Path) -> Path:
        return folder / f"{self.machine}{'' if self.fold == ALL else f'-fold{self.fold}'}.safetensors"


def jobs(clips: Sequence[Clip], folds: int) -> list[Job]:
    """Networks of all machines, those that learn from all clips first."""
    return [Job(machine, fold) for fold in range(ALL, folds) for machine in machines(clips)]


def assign_folds(clips: Sequence[Clip], folds: int, seed: int) -> dict[tuple[str, ...], int]:
    """Fold of each clip by its key, ALL without folds.

    Every section and domain of a machine is spread evenly; clips of one group (pieces of one recording) stay together.
    Raises WheeltapperError for a machine with fewer groups than folds.
    """
    if not folds:
        return {clip.key: ALL for clip in clips}
    found: dict[tuple[str, ...], int] = {}
    generator = np.random.default_rng(seed)
    for machine in machines(clips):
        groups: dict[str, int] = {}
        own = [clip for clip in clips if clip.machine == machine]
        for members in group_by(own, "section", "domain").values():
            new = list(dict.fromkeys(_group(own[i]) for i in members if _group(own[i]) not in groups))
            # Going on where the last domain stopped keeps the folds of one size.
            start = len(groups)
            groups |= {new[i]: (start + place) % folds for place, i in enumerate(generator.permutation(len(new)))}
        if len(groups) < folds:
            raise WheeltapperError(
                f"{machine}: expected at least {folds} recordings for {folds} folds, found {len(groups)}"
            )
        found |= {clip.key: groups[_group(clip)] for clip in own}
    return found


def _group(clip: Clip) -> str:
    return clip.group or "/".join(clip.key)


def settings(config: configuration.AutoencoderConfig, seed: int, device: str) -> AutoencoderSettings:
    """The network's settings from the branch's."""
    known = {field.name: getattr(config, field.name) for field in fields(configuration.AutoencoderConfig)}
    return AutoencoderSettings(**known, seed=seed, device=device)


def spectrogram(clip: Clip, rate: int) -> np.ndarray:
    """Log-mel spectrogram float32 (frames, bands) of the near channel, brought to ``rate`` Hz first."""
    return log_mel(waveforms.load(clip, rate)[:1], rate)[0]


def train(
    clips: Sequence[Clip],
    config: configuration.AutoencoderConfig,
    rate: int,
    folder: str | os.PathLike,
    seed: int,
    device: str = "cpu",
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> list[Path]:
    """Trains the networks of all machines into ``folder``, ``workers`` side by side; those already there stay.

    Each is trained in one thread, so it does not depend on the number of workers or cores. Of several processes each
    trains its share of the networks.

    Args:
        clips: normal training clips of all machines. rate: Hz. progress: called with 1 after each epoch.

    Returns:
        files written: the networks and folds.csv, which clip was left out of which.
    """
    check_training(clips)
    folder = Path(folder)
    folds = assign_folds(clips, config.folds, seed)
    _check_lengths(clips, config.frames, rate)

    def run(job: Job) -> None:
        path = job.path(folder)
        if path.is_file():
            if progress:
                progress(config.epochs)
            return
        own = [
            clip for clip in clips if clip.machine == job.machine and (job.fold == ALL or folds[clip.key] != job.fold)
        ]
        model = Autoencoder(settings(config, seed, device))

        def told(epoch: int, loss: float, validation: float) -> None:
            if stopped.is_set():
                raise CancelledError
            if progress:
                progress(1)

        try:
            model.fit([spectrogram(clip, rate) for clip in own], told, [clip.domain for clip in own])
        except WheeltapperError as error:
            raise WheeltapperError(f"{job.machine}: {error}") from error
        model.save(path)

    stopped = threading.Event()
    written = [folder / FOLDS]
    every = jobs(clips, config.folds)
    if processes.is_main():
        _write_folds(written[0], folds)
    with dense.one_thread(), ThreadPoolExecutor(workers) as pool:
        try:
            list(pool.map(run, processes.share(every)))
        finally:  # after a fault or an interruption nobody waits for the other networks
            stopped.set()
            pool.shutdown(cancel_futures=True)
    processes.collect(None)
    return written + [job.path(folder) for job in every]


def _check_lengths(clips: Sequence[Clip], frames: int, rate: int) -> None:
    from system.frontends.logmel import HOP

    shortest = min(clips, key=lambda clip: clip.seconds)
    if 1 + int(shortest.seconds * rate) // HOP < frames:
        raise WheeltapperError(
            f"{shortest.path}: expected at least {frames} log-mel frames, {(frames - 1) * HOP / rate:.3f} s, "
            f"found {shortest.seconds:.3f} s"
        )


def describe(
    clips: Sequence[Clip],
    config: configuration.AutoencoderConfig,
    rate: int,
    folder: str | os.PathLike,
    seed: int,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Rows float32 (N, D) of training and test clips, in their order, as ``config.score`` says.

    A training clip's row comes from the network that left it out, a test clip's from the one that learned from all.
    Raises WheeltapperError for a network that is missing or damaged, and a clip that is too short, by name.
    """
    folder = Path(folder)
    folds = read_folds(folder / FOLDS)
    trained = {machine for machine, *_ in folds}
    networks = {
        job: Autoencoder.load(job.path(folder), settings(config, seed, "cpu"))
        for job in jobs([clip for clip in clips if clip.machine in trained], config.folds)
    }

    def row(clip: Clip) -> np.ndarray:
        fold = folds.get(clip.key, ALL) if clip.split == "train" else ALL
        found = describe_clip(clip, networks[Job(clip.machine, fold)], config.score, rate)
        if progress:
            progress(1)
        return found

    for clip in clips:
        if Job(clip.machine, ALL) not in networks:
            raise WheeltapperError(f"{clip.machine}: expected training clips for its autoencoder, found none")
    return np.stack(list(map_in_order(row, clips, workers))).astype(np.float32)


def describe_clip(clip: Clip, model: Autoencoder, score: str, rate: int) -> np.ndarray:
    """Numbers (D,) of one clip by one network, as ``AutoencoderConfig.score`` says; errors name the clip."""
    try:
        found = _row(model, spectrogram(clip, rate), score)
    except WheeltapperError as error:
        raise WheeltapperError(f"{clip.path}: {error}") from error
    if not np.isfinite(found).all():
        raise WheeltapperError(f"{clip.path}: expected finite scores, found NaN or infinity")
    return found


def _row(model: Autoencoder, spectrogram: np.ndarray, score: str) -> np.ndarray:
    if score == "mse":
        return np.array([model.score(spectrogram)])
    return model.distances(spectrogram) if score == "mahalanobis" else model.residual(spectrogram)


def batch_scores(networks: Mapping[str, Autoencoder]) -> dict[str, dict[str, list[float]]]:
    """Of each machine what the official baseline fits its threshold to, for both of its scores."""
    return {
        machine: {"mse": model.batch_losses.tolist(), "mahalanobis": model.batch_distances.tolist()}
        for machine, model in networks.items()
    }


def _write_folds(path: Path, folds: Mapping[tuple[str, ...], int]) -> None:
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("machine", "section", "split", "file", "fold"))
        writer.writerows((*key, fold) for key, fold in folds.items())


def read_folds(path: Path) -> dict[tuple[str, ...], int]:
    """Fold of each training clip by its key; WheeltapperError where the file is damaged."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return {tuple(row[:4]): int(row[4]) for row in list(csv.reader(file))[1:]}
    except (OSError, ValueError, IndexError, UnicodeDecodeError) as error:
        raise WheeltapperError(f"{path}: expected folds (machine,section,split,file,fold), found damage") from error
