"""The experiment folder: the one place that knows what lies where."""

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from system import config as configuration
from system.config import BranchConfig, Config, EncoderBranchConfig, EncoderConfig, SharedBranchConfig
from system.errors import WheeltapperError
from system.files import tree_signature
from system.stage import Stage

STAGES = ("data", "pretrain", "adapt", "embed", "score", "fuse", "evaluate", "package", "benchmark", "report")
SYSTEMLESS = ("data", "pretrain")  # of a recipe that goes no further than the encoder


@dataclass(frozen=True)
class Experiment:
    """Paths and stages of one run of a recipe."""

    folder: Path
    config: Config

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.csv"

    @property
    def health(self) -> Path:
        return self.folder / "health.csv"

    @property
    def copies(self) -> Path:
        return self.folder / "copies.csv"

    @property
    def encoder(self) -> Path:
        return self.folder / "pretrain" / "encoder.safetensors"

    def network_branch(self, branch: str) -> str:
        """The branch whose network or spectrum a branch uses: itself, or the one that it shares."""
        own = self.config.branches[branch]
        return own.shares if isinstance(own, SharedBranchConfig) else branch

    @property
    def network_branches(self) -> dict[str, BranchConfig]:
        """The branches that share nobody's network or spectrum."""
        return {name: own for name, own in self.config.branches.items() if not isinstance(own, SharedBranchConfig)}

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

    @property
    def encoder_branches(self) -> dict[str, EncoderBranchConfig]:
        """The branches that adapt an encoder, by name."""
        return {name: own for name, own in self.config.branches.items() if isinstance(own, EncoderBranchConfig)}

    @property
    def has_encoder(self) -> bool:
        """Whether anything in the run asks for an encoder; autoencoders and spectra do not."""
        return bool(self.encoder_branches) or not self.config.branches

    def index(self, branch: str) -> Path:
        return self.folder / "embeddings" / self.network_branch(branch) / "index.csv"

    def precision(self, branch: str) -> Path:
        """Of the record of the precision in which a branch's network made its rows."""
        return self.index(branch).with_name("precision.json")

    def column(self, branch: str, view: str) -> str:
        """Name of a branch's rows in a view among those of the network that it shares."""
        readout = self.config.branches[branch].readout_name
        return f"{readout}.{view}" if readout else view

    def embeddings(self, branch: str, view: str) -> Path:
        return self.index(branch).with_name(f"{self.column(branch, view)}.npy")

    def gate(self, branch: str) -> Path:
        return self.index(branch).with_name("gate.npy")

    @property
    def parts(self) -> Path:
        """Folder of rows of embeddings from which stage 3 resumes."""
        return self.folder / "embeddings" / ".parts"

    def scores(self, branch: str, view: str) -> Path:
        return self.folder / "scores" / f"{branch}.{view}.csv"

    def system(self, label: str) -> Path:
        return self.folder / "systems" / label

    def encoder_config(self, branch: str) -> EncoderConfig:
        """Settings of a branch's encoder: its own, or those of the pre-training stage."""
        own = self.config.branches[self.network_branch(branch)]
        return (own.encoder if isinstance(own, EncoderBranchConfig) else None) or self.config.encoder

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

    def reads(self, name: str) -> list[str]:
        """Names of the inputs of a complete stage, below the folder or from elsewhere; empty where there is none."""
        return list(self._record(name).get("reads") or ())

    def recorded(self, name: str, part: str) -> dict[str, Any]:
        """A part of the record of a complete stage, such as its ``settings``; empty where there is none."""
        found = self._record(name).get(part)
        return found if isinstance(found, dict) else {}

    def _record(self, name: str) -> dict[str, Any]:
        return Stage(STAGES.index(name), name, self.folder, {}).record()

    def stage(
        self,
        name: str,
        settings: dict[str, Any],
        reads: list[Path],
        owns: list[str],
        watched: Path | None = None,
        partly: list[Path] | None = None,
        given: dict[str, Callable[[], Path]] | None = None,
    ) -> Stage:
        """A stage by name; ``watched`` is a folder whose files must not change once the stage is complete.

        Raises WheeltapperError where the stage needs branches and systems and the configuration has none.
        """
        if name not in SYSTEMLESS:
            configuration.check_systems(self.config, str(self.folder / "config.yaml"))
        watch = (lambda: tree_signature(watched)) if watched else str
        return Stage(STAGES.index(name), name, self.folder, settings, reads, watch, owns, partly or [], [], given or {})


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
