"""What the stages do for a branch that is an autoencoder."""

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from system.config import VIEWS, AutoencoderBranch
from system.experiment import Experiment
from system.manifest import Clip
from system.progress import progress_bar

if TYPE_CHECKING:
    import numpy as np

    from system.references.autoencoder import Autoencoder


def training_settings(branch: AutoencoderBranch) -> dict:
    """What training depends on: both scores come from the same networks."""
    from dataclasses import asdict

    return {"autoencoder": {name: value for name, value in asdict(branch.autoencoder).items() if name != "score"}}


def embedding_settings(branch: AutoencoderBranch) -> dict:
    """What the rows depend on."""
    from dataclasses import asdict

    return asdict(branch.autoencoder)


def adapt(run: Experiment, name: str, clips: Sequence[Clip], rate: int) -> list[Path]:
    """Trains a branch's networks; returns the files written."""
    import torch

    from system.files import write_json
    from system.references import cross_fitting
    from system.references.autoencoder import Autoencoder

    config, device = run.config.branches[name].autoencoder, run.config.device
    jobs = cross_fitting.jobs(clips, config.folds)
    cores = torch.get_num_threads()
    workers = min(cores, len(jobs)) if device == "cpu" else 1
    torch.set_num_threads(cores // workers)
    folder = run.card(name).parent
    with progress_bar(len(jobs) * config.epochs, f"training {name}") as bar:
        written = cross_fitting.train(clips, config, rate, folder, run.config.seed, device, workers, bar.update)
    torch.set_num_threads(cores)
    settings = cross_fitting.settings(config, run.config.seed, "cpu")
    networks = {
        job.machine: Autoencoder.load(job.path(folder), settings) for job in jobs if job.fold == cross_fitting.ALL
    }
    write_json(run.batches(name), cross_fitting.batch_scores(networks))
    _write_curve(folder / "curve.csv", networks)
    write_json(run.card(name), _card(next(iter(networks.values())), len(jobs), clips, rate))
    return [*written, run.batches(name), folder / "curve.csv", run.card(name)]


def _write_curve(path: Path, networks: "dict[str, Autoencoder]") -> None:
    """Mean training loss of each epoch, a column for each machine's network that learned from all clips."""
    from system.files import open_atomic

    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("step", *networks))
        losses = [model.curve[:, 0] for model in networks.values()]
        writer.writerows((epoch, *values) for epoch, values in enumerate(zip(*losses, strict=True), 1))


def _card(model: "Autoencoder", count: int, clips: Sequence[Clip], rate: int) -> dict:
    """Size and cost at inference for meta.yaml: of the one network that a test clip meets."""
    from system.frontends.logmel import HOP
    from system.references.dense import multiply_adds

    seconds = max(clip.seconds for clip in clips)
    vectors = 1 + int(seconds * rate) // HOP - model.config.frames + 1
    parameters = sum(parameter.numel() for parameter in model.network.parameters())
    return {
        "networks": count,
        "total_parameters": parameters,
        "trainable_parameters": parameters,
        "macs": dict.fromkeys(VIEWS, vectors * multiply_adds(model.network)),
        "seconds": seconds,
        "rate": rate,
    }


def embed(
    run: Experiment, names: Sequence[str], clips: Sequence[Clip], workers: int
) -> "Iterator[tuple[str, dict[str, np.ndarray]]]":
    """Rows of each branch's clips in every view; the near channel is all it hears."""
    from system.files import read_json
    from system.references import cross_fitting

    for name in names:
        config, card = run.config.branches[name].autoencoder, run.card(name)
        rate = int(read_json(card)["rate"])
        with progress_bar(len(clips), f"describing {name}") as bar:
            rows = cross_fitting.describe(clips, config, rate, card.parent, run.config.seed, workers, bar.update)
        yield name, dict.fromkeys(VIEWS, rows)


def alone(run: Experiment, name: str) -> "Callable[[Clip], dict[str, np.ndarray]]":
    """A branch as a function of one clip that no network has learned from: its row (1, ...) in every view."""
    from functools import cache

    import numpy as np

    from system.files import read_json
    from system.references import cross_fitting
    from system.references.autoencoder import Autoencoder

    config, card = run.config.branches[name].autoencoder, run.card(name)
    rate, settings = int(read_json(card)["rate"]), cross_fitting.settings(config, run.config.seed, "cpu")

    @cache
    def network(machine: str) -> Autoencoder:
        return Autoencoder.load(cross_fitting.Job(machine, cross_fitting.ALL).path(card.parent), settings)

    def describe(clip: Clip) -> "dict[str, np.ndarray]":
        row = cross_fitting.describe_clip(clip, network(clip.machine), config.score, rate)
        return dict.fromkeys(VIEWS, row[None].astype(np.float32))

    return describe
