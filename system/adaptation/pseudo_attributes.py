"""Pseudo-attributes for machines without attributes: clusters of their normal training clips before adaptation.

As in published systems, the clusters (k-means or Ward, of embeddings of a pre-trained network) are classes for the
attribute head. The whole clip is embedded (of a longer recording the first window), because attributes last a whole
clip and the labels should not depend on a random crop. The first input of the branch (near, or the residual) is used,
because attributes describe the machine; clusters of the far channel would train the network to classify noise.

Clusters depend on the contents of the clips, not on their names or order.
"""

import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from system import processes, waveforms
from system.accelerator import to_host
from system.batching import run_batches
from system.config import EncoderBranchConfig
from system.encoders.base import Encoder
from system.encoders.pooling import pool_tokens, select
from system.errors import WheeltapperError
from system.files import open_atomic
from system.frontends.channels import select_inputs
from system.frontends.simam import enhance_rows
from system.manifest import Clip, check_training, group_by
from system.training.loading import loader_threads
from system.training.state import step_seed

FILE = "pseudo_attributes.csv"
COLUMNS = ("machine", "section", "file", "cluster", "silhouette")
RESTARTS = 10  # of k-means; the best result is used

Key = tuple[str, str, str]  # machine, section, file of a training clip


@dataclass(frozen=True)
class PseudoAttribute:
    """Cluster of a clip within its machine and section, and the clip's silhouette.

    The silhouette ranges from -1 to 1; it is 0 for a cluster of one clip and if there is only one cluster.
    """

    machine: str
    section: str
    file: str
    cluster: int
    silhouette: float

    @property
    def key(self) -> Key:
        return (self.machine, self.section, self.file)


def cluster_clips(
    encoder: Encoder,
    clips: Sequence[Clip],
    config: EncoderBranchConfig,
    rate: int,
    seed: int,
    device: str = "cpu",
    simam: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[PseudoAttribute]:
    """Clusters the clips of every machine and section in which no clip has attributes.

    Of several processes each takes its share of the sections.

    Args:
        encoder: frozen encoder without adapters; moved to ``device`` and back.
        clips: normal training clips of the branch.
        config: settings of the branch; ``pseudo_attributes`` selects method and number of clusters, at most one per two
            clips of a section.
        rate: sampling rate in Hz.
        seed: of k-means.
        device: cpu or cuda.
        simam: kind of SimAM by machine.
        progress: called with the number of clips done and in all.

    Returns:
        One pseudo-attribute for each clustered clip, in the order of ``clips``.

    Raises:
        WheeltapperError: a clip is not a normal training clip.
    """
    check_training(clips, "pseudo-attributes")
    settings = config.pseudo_attributes
    groups = group_by(clips, "machine", "section")
    bare = [group for group in groups.values() if not any(clips[index].attributes for index in group)]
    clustered = [group for group in bare if min(settings.clusters, len(group) // 2) > 0]
    clustered = list(processes.share(clustered))
    done, total, found = 0, sum(map(len, clustered)), []
    encoder.to(device).eval()
    for group in clustered:
        group = sorted(group, key=lambda index: (clips[index].digest, clips[index].file))
        rows: list[np.ndarray] = [np.empty(0)] * len(group)
        own = [clips[index] for index in group]
        for places, features in _embed(encoder, own, config, rate, simam or {}, device):
            for place, row in zip(places, features, strict=True):
                rows[place] = row
            done += len(places)
            if progress:
                progress(done, total)
        labels, silhouette = cluster(np.stack(rows), min(settings.clusters, len(group) // 2), settings.method, seed)
        for index, label, width in zip(group, labels, silhouette, strict=True):
            found.append((index, int(label), float(width)))
    encoder.to("cpu")
    every = sorted(tuple(row) for part in processes.collect(found) for row in part)
    return [PseudoAttribute(*_key(clips[index]), label, width) for index, label, width in every]


def _key(clip: Clip) -> Key:
    return (clip.machine, clip.section, clip.file)


def cluster(rows: np.ndarray, clusters: int, method: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Clusters rows and returns cluster numbers (N,), in order of first appearance, and silhouettes (N,).

    Args:
        rows: (N, D).
        clusters: number of clusters; there are fewer if fewer rows are distinct.
        method: ward (deterministic) or kmeans.
        seed: of k-means.
    """
    from sklearn.cluster import AgglomerativeClustering, KMeans
    from sklearn.metrics import silhouette_samples

    clusters = min(clusters, len(np.unique(rows, axis=0)))
    if method == "ward":
        model = AgglomerativeClustering(clusters, linkage="ward")
    else:
        model = KMeans(clusters, n_init=RESTARTS, random_state=step_seed(seed, -4) % 2**32)
    labels = model.fit_predict(rows.astype(np.float64)) if clusters > 1 else np.zeros(len(rows), int)
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels.tolist()))}
    labels = np.array([numbers[label] for label in labels.tolist()])
    alone = not 1 < len(numbers) < len(rows)
    return labels, np.zeros(len(rows)) if alone else silhouette_samples(rows, labels)


def write(path: str | os.PathLike, rows: Sequence[PseudoAttribute]) -> None:
    """Writes pseudo-attributes as csv, atomically."""
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([*row.key, row.cluster, f"{row.silhouette:.4f}"] for row in rows)


def read(path: str | os.PathLike) -> list[PseudoAttribute]:
    """Reads a file of ``write``; raises WheeltapperError for any other content."""
    path = Path(path)
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        if tuple(header) != COLUMNS:
            found = ",".join(header) or "nothing"
            raise WheeltapperError(f"{path}: line 1: expected the columns {','.join(COLUMNS)}, found {found}")
        try:
            return [PseudoAttribute(m, s, f, int(c), float(w)) for m, s, f, c, w in reader]
        except ValueError as error:
            raise WheeltapperError(
                f"{path}: line {reader.line_num}: {error}; remove the file to compute the clusters again"
            ) from error


def summary(rows: Sequence[PseudoAttribute]) -> dict[str, dict]:
    """Sizes of the clusters, largest first, and mean silhouette of each machine and section."""
    result = {}
    for (machine, section), members in group_by(rows, "machine", "section").items():
        own = [rows[index] for index in members]
        sizes = np.bincount([row.cluster for row in own])
        result[f"{machine}/{section}"] = {
            "sizes": sorted(sizes.tolist(), reverse=True),
            "silhouette": round(float(np.mean([row.silhouette for row in own])), 4),
        }
    return result


def _embed(
    encoder: Encoder,
    clips: Sequence[Clip],
    config: EncoderBranchConfig,
    rate: int,
    simam: Mapping[str, str],
    device: str,
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Features (B, D) of the first input of whole clips, by which they are clustered, with the places of the clips."""
    by = config.pseudo_attributes.by
    pool = "band" if config.pool == "attentive" else config.pool  # attentive pooling is not trained yet

    @torch.inference_mode()
    def load(clip: Clip) -> Tensor:
        wave = waveforms.load(clip, rate)
        first = select_inputs(wave, rate, config.inputs[:1], config.subtraction, clip.path)
        spectrogram = encoder.spectrogram(torch.from_numpy(first), rate)
        return enhance_rows(spectrogram, [simam.get(clip.machine, "none")])[0]

    @torch.inference_mode()
    def network(spectrograms: Tensor) -> np.ndarray:
        if by == "spectrum":
            return spectrograms.mean(1).float().numpy()
        tokens = select(encoder(spectrograms.to(device, non_blocking=True), config.depth or None), pool)
        return to_host({"": pool_tokens(tokens, pool, config.pool_power)})[""]

    workers = 1 if device == "cpu" else loader_threads(0, device)  # a CPU's threads are those of the network
    return run_batches(clips, load, network, workers, 0, device)
