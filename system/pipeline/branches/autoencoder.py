"""A branch that describes clips by the autoencoder of the official baseline, one network a machine."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from submission.texts import BranchText
from system import processes
from system.config import VIEWS, AutoencoderBranchConfig
from system.embeddings.parts import describe_in_parts
from system.experiment import Experiment
from system.files import open_atomic, write_json
from system.manifest import Clip
from system.pipeline.branches.base import Branch, Rows
from system.progress import progress_bar

if TYPE_CHECKING:
    from system.references.autoencoder import Autoencoder

SCORES = {
    "mse": "the score of a clip is its mean squared error",
    "mahalanobis": "the score of a clip is the Mahalanobis distance of its mean residual to the nearer domain",
    "residual": "a clip is described by its mean squared residual in each band",
}
METHODS = {"mse": "mean squared error", "mahalanobis": "selective Mahalanobis distance"}


class AutoencoderBranch(Branch[AutoencoderBranchConfig]):
    """See ``pipeline.branches.base.Branch``. The near channel is the only input."""

    features = "log-mel energies"
    settings = AutoencoderBranchConfig

    @property
    def folder(self) -> Path:
        """Where the networks of all machines are."""
        return self.run.adapted(self.name)

    def training_settings(self) -> dict[str, Any]:
        # Both scores come from the same networks.
        return {"autoencoder": {key: value for key, value in self.embedding_settings().items() if key != "score"}}

    def embedding_settings(self) -> dict[str, Any]:
        return asdict(self.config.autoencoder)

    def weights(self) -> list[Path]:
        return [self.folder / "card.json", self.folder / "folds.csv", *sorted(self.folder.glob("*.safetensors"))]

    def adapt(self, clips: Sequence[Clip], rate: int, device: str) -> list[Path]:
        import torch

        from system.references import cross_fitting
        from system.references.autoencoder import Autoencoder

        run, config, folder = self.run, self.config.autoencoder, self.folder
        jobs = cross_fitting.jobs(clips, config.folds)
        mine = processes.share(jobs)
        workers = max(1, min(torch.get_num_threads(), len(mine))) if device == "cpu" else 1
        with progress_bar(len(mine) * config.epochs, f"training {self.name}") as bar:
            written = cross_fitting.train(clips, config, rate, folder, run.config.seed, device, workers, bar.update)
        if not processes.is_main():
            return written
        settings = cross_fitting.settings(config, run.config.seed, "cpu")
        whole = [job for job in jobs if job.fold == cross_fitting.ALL]
        networks = {job.machine: Autoencoder.load(job.path(folder), settings) for job in whole}
        write_json(run.batches(self.name), cross_fitting.batch_scores(networks))
        _write_curve(folder / "curve.csv", networks)
        write_json(run.card(self.name), _card(next(iter(networks.values())), len(jobs), self.windows(clips), rate))
        return [*written, run.batches(self.name), folder / "curve.csv", run.card(self.name)]

    @classmethod
    def embed(
        cls, run: Experiment, branches: Sequence["AutoencoderBranch"], clips: Sequence[Clip], workers: int, device: str
    ) -> Iterator[tuple[str, Rows]]:
        """Rows of each branch, the same in every view."""
        for branch in branches:
            describe = partial(branch.describe, workers=workers)
            with progress_bar(len(clips), f"describing {branch.name}") as bar:
                rows = describe_in_parts(clips, cls.parts(run, [branch]), describe, bar.update)
            if processes.is_main():
                yield branch.name, dict.fromkeys(VIEWS, rows["rows"])

    def describe(self, clips: list[Clip], workers: int) -> Iterator[tuple[range, Rows]]:
        """Yields places of clips of one machine and their rows."""
        from system.references import cross_fitting

        config, seed = self.config.autoencoder, self.run.config.seed
        rows = cross_fitting.describe(clips, config, self.rate, self.folder, seed, workers)
        yield range(len(clips)), {"rows": rows}

    def clip_embedder(self, device: str) -> Callable[[Clip], Rows]:
        """As in the base class, for a clip that no network has learned from."""
        from system.references import cross_fitting
        from system.references.autoencoder import Autoencoder

        config, rate, folder = self.config.autoencoder, self.rate, self.folder
        settings = cross_fitting.settings(config, self.run.config.seed, "cpu")

        @cache
        def network(machine: str) -> Autoencoder:
            return Autoencoder.load(cross_fitting.Job(machine, cross_fitting.ALL).path(folder), settings)

        def describe(clip: Clip) -> Rows:
            row = cross_fitting.describe_clip(clip, network(clip.machine), config.score, rate)
            return dict.fromkeys(VIEWS, row[None].astype(np.float32))

        return describe

    def text(self, name: str) -> BranchText:
        config, card, scorer = self.config.autoencoder, self.card, self.scorer_text(name)
        sizes = " - ".join(str(size) for size in [*config.hidden, config.bottleneck, *reversed(config.hidden)])
        norm = " with batch normalisation" if config.batch_norm else ""
        references = (
            f"a reference is described by one of {config.folds} networks, the one that did not learn from it"
            if config.folds
            else "the references are described by the network that learned from them"
        )
        method = f"autoencoder, {METHODS.get(config.score, scorer['method'])}"
        scoring = scorer["scoring"][0].replace(scorer["method"], method, 1)
        return BranchText(
            name=name,
            kind="autoencoder",
            subject="what an autoencoder of the machine's log-mel frames does not reconstruct",
            inputs=("near",),
            features=self.features,
            method=method,
            bank_per_domain=scorer["bank_per_domain"] or config.score == "mahalanobis",
            data_usage=("training",),
            reference_scores="cross-fitted" if config.folds else "",
            system=(
                f"Branch {name}: autoencoder of {config.frames} log-mel frames, layers {sizes}{norm}, "
                f"{card['total_parameters']:,} parameters, one network for each machine.",
            ),
            training=(
                f"Branch {name}: Adam at {config.learning_rate:g}, {config.epochs} epochs in batches of {config.batch} "
                f"vectors, {100 * config.validation:g} % of them held out; {card['networks']} networks in all.",
            ),
            scoring=(scoring, f"Branch {name}: {SCORES[config.score]}; {references}."),
        )


def _write_curve(path: Path, networks: "dict[str, Autoencoder]") -> None:
    """Mean training loss of each epoch, a column for each machine's network that learned from all clips."""
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("step", *networks))
        losses = [model.curve[:, 0] for model in networks.values()]
        writer.writerows((epoch, *values) for epoch, values in enumerate(zip(*losses, strict=True), 1))


def _card(model: "Autoencoder", count: int, clips: Sequence[Clip], rate: int) -> dict[str, Any]:
    """Size and cost at inference for meta.yaml: of the one network that a test clip meets."""
    from system.frontends.logmel import HOP
    from system.references.dense import multiply_adds

    seconds = max(clip.seconds for clip in clips)
    vectors = 1 + int(seconds * rate) // HOP - model.config.frames + 1
    network = model.network
    assert network is not None  # the network of a trained autoencoder
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {
        "networks": count,
        "total_parameters": parameters,
        "trainable_parameters": parameters,
        "macs": dict.fromkeys(VIEWS, vectors * multiply_adds(network)),
        "seconds": seconds,
        "rate": rate,
    }
