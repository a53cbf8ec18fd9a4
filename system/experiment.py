"""The experiment folder: the one place that knows what lies where."""

import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from system import config as configuration
from system.config import Branch, Config, EncoderBranch, EncoderConfig, SharedBranch, SpectrumBranch
from system.errors import WheeltapperError
from system.files import tree_signature
from system.stage import Stage

STAGES = ("data", "pretrain", "adapt", "embed", "score", "fuse", "evaluate", "package", "benchmark", "report")
SYSTEMLESS = ("data", "pretrain")  # of a recipe that goes no further than the encoder
# By number: the stages whose files each stage reads.
READS = {1: (0,), 2: (0, 1), 3: (0, 1, 2), 4: (0, 3), 5: (4,), 6: (0, 5), 7: (0, 2, 5, 6), 8: (0, 1), 9: (0,)}


@dataclass(frozen=True)
class Experiment:
    """Paths and stages of one run of a recipe."""

    folder: Path
    config: Config

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.csv"

    @property
    def encoder(self) -> Path:
        return self.folder / "pretrain" / "encoder.safetensors"

    def network_branch(self, branch: str) -> str:
        """The branch whose network or spectrum a branch uses: itself, or the one that it shares."""
        own = self.config.branches[branch]
        return own.shares if isinstance(own, SharedBranch) else branch

    @property
    def owners(self) -> dict[str, Branch]:
        """The branches that have rows of their own."""
        return {name: own for name, own in self.config.branches.items() if not isinstance(own, SharedBranch)}

    def adapted(self, branch: str) -> Path:
        return self.folder / "adapt" / self.network_branch(branch)

    def adapter(self, branch: str) -> Path:
        return self.adapted(branch) / "adapter.safetensors"

    def card(self, branch: str) -> Path:
        return self.adapted(branch) / "card.json"

    def pseudo_attributes(self, branch: str) -> Path:
        return self.adapted(branch) / "pseudo_attributes.csv"

    def batches(self, branch: str) -> Path:
        return self.adapted(branch) / "batches.json"

    def weights(self, branch: str) -> list[Path]:
        """What the adaptation of a branch has left: its adapter, the autoencoders of all machines, or a card alone."""
        config, folder = self.config.branches[self.network_branch(branch)], self.adapted(branch)
        if isinstance(config, EncoderBranch):
            return [self.adapter(branch)]
        if isinstance(config, SpectrumBranch):
            return [self.card(branch)]
        return [folder / "card.json", folder / "folds.csv", *sorted(folder.glob("*.safetensors"))]

    @property
    def encoder_branches(self) -> list[str]:
        """Names of the branches that adapt an encoder."""
        return [name for name, branch in self.config.branches.items() if isinstance(branch, EncoderBranch)]

    @property
    def has_encoder(self) -> bool:
        """Whether anything in the run asks for an encoder; autoencoders and spectra do not."""
        return bool(self.encoder_branches) or not self.config.branches

    def index(self, branch: str) -> Path:
        return self.folder / "embeddings" / self.network_branch(branch) / "index.csv"

    def column(self, branch: str, view: str) -> str:
        """Name of a branch's rows in a view among those of the network that it shares."""
        readout = self.config.branches[branch].readout_name
        return f"{readout}.{view}" if readout else view

    def embeddings(self, branch: str, view: str) -> Path:
        return self.index(branch).with_name(f"{self.column(branch, view)}.npy")

    def gate(self, branch: str) -> Path:
        return self.index(branch).with_name("gate.npy")

    def scores(self, branch: str, view: str) -> Path:
        return self.folder / "scores" / f"{branch}.{view}.csv"

    def system(self, label: str) -> Path:
        return self.folder / "systems" / label

    def encoder_config(self, branch: str) -> EncoderConfig:
        """Settings of a branch's encoder: its own, or those of the pre-training stage."""
        own = self.config.branches[self.network_branch(branch)]
        return (own.encoder if isinstance(own, EncoderBranch) else None) or self.config.encoder

    @property
    def team(self) -> str:
        return f"{self.config.package.surname}_{self.config.package.affiliation}_task2"

    @property
    def labels(self) -> list[str]:
        """Labels of the systems as the challenge wants them: Surname_Affiliation_task2_k."""
        return [f"{self.team}_{number}" for number in range(1, len(self.config.systems) + 1)]

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    @property
    def zip(self) -> Path:
        return self.folder / f"{self.team}.zip"

    @property
    def package(self) -> Path:
        return self.folder / "package"

    @property
    def compliance(self) -> Path:
        return self.folder / "compliance.json"

    @property
    def benchmark(self) -> Path:
        return self.folder / "benchmark.json"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def views(self) -> dict[str, list[str]]:
        """For each branch, the ways of inference that some system asks of it."""
        needed: dict[str, list[str]] = {name: [] for name in self.config.branches}
        for system in self.config.systems:
            for branch, weight in system.weights.items():
                if weight > 0 and system.view not in needed[branch]:
                    needed[branch].append(system.view)
        return needed

    def marker(self, number: int) -> Path:
        """The record of a stage by its number, there when it has been complete."""
        return Stage(number, STAGES[number], self.folder, {}).marker

    def encoders(self, stages: Iterable[int]) -> dict[str, EncoderConfig]:
        """The encoders that some stages, by number, take from the configuration, by key."""
        config, numbers = self.config, set(stages)
        own = {f"branches.{name}.encoder": config.branches[name].encoder for name in self.encoder_branches}
        found = {key: encoder for key, encoder in own.items() if encoder and numbers & {2, 3}}
        if self.has_encoder and 1 in numbers:
            found["encoder"] = config.encoder
        if 7 in numbers:  # the package records the weights that the configuration names, used or not
            models = {f"study.models.{name}.encoder": model.encoder for name, model in config.study.models.items()}
            named = {"encoder": config.encoder, **own, **models}
            found |= {key: encoder for key, encoder in named.items() if encoder and encoder.checkpoint}
        return found

    def missing(self, stages: range) -> tuple[int, Path] | None:
        """The first of the earlier stages that some stages need a file of that is not there, and the file; or None."""
        needed = {number for stage in stages for number in READS.get(stage, ()) if number < stages.start}
        for number in sorted(needed):
            for path in self._left(number, stages):
                if not path.exists():
                    return number, path
        return None

    def _left(self, number: int, readers: range) -> list[Path]:
        """What a stage leaves that others read."""
        loop, views = self.config.pretrain, self.views
        if number == 0:
            own = bool(loop.loop.steps and not loop.sources) if self.has_encoder else False
            return [self.manifest] if own or set(readers) - {1} else []
        if number == 1:
            return [self.encoder] if self.has_encoder else []
        if number == 2:
            return [path for name in self.config.branches for path in self.weights(name)]
        if number == 3:
            return [self.embeddings(name, view) for name, own in views.items() for view in own]
        if number == 4:
            return [self.scores(name, view) for name, own in views.items() for view in own]
        return [self.system(label) for label in self.labels] if number == 5 else [self.metrics]

    def stage(
        self,
        name: str,
        settings: dict[str, Any],
        reads: list[Path],
        owns: list[str],
        watched: Path | None = None,
        partly: list[Path] | None = None,
    ) -> Stage:
        """A stage by name; ``watched`` is a folder whose files must not change once the stage is complete.

        Raises WheeltapperError where the stage needs branches and systems and the configuration has none.
        """
        if name not in SYSTEMLESS:
            configuration.check_systems(self.config, str(self.folder / "config.yaml"))
        watch = (lambda: tree_signature(watched)) if watched else str
        return Stage(STAGES.index(name), name, self.folder, settings, reads, watch, owns, partly or [])


def configuration_file(folder: str | os.PathLike, conf: str | os.PathLike | None) -> Path:
    """The yaml of an experiment: ``conf``, or the one saved in its folder.

    Raises WheeltapperError, which names the experiment beside it of the nearest name, where there is neither.
    """
    saved = Path(folder) / "config.yaml"
    if conf or saved.is_file():
        return Path(conf or saved)
    others = [path.parent.name for path in saved.absolute().parent.parent.glob("*/config.yaml")]
    near = difflib.get_close_matches(saved.parent.name, others, 1)
    advice = f"did you mean {saved.parent.parent / near[0]}?" if near else "--conf FILE names one for a new run"
    raise WheeltapperError(f"{saved}: expected a configuration, found nothing; {advice}")
